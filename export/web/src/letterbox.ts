// Where a picture lies in a network's input, and boxes back to the picture.

import { evenRound } from "./rounding.ts";

export interface Placement {
  /** Of the picture. */
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly top: number;
  /** Of the picture within the input. */
  readonly innerWidth: number;
  readonly innerHeight: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Of classifiers: the share of the shorter side that is seen, as ImageNet is read (224 of 256). */
const CROPPED = 0.875;

/** A letterboxed picture is as large as fits, in the middle; a stretched one fills the input. */
export function place(picture: Size, into: Size, resize: "letterbox" | "stretch"): Placement {
  if (resize === "stretch") {
    return { ...picture, left: 0, top: 0, innerWidth: into.width, innerHeight: into.height };
  }
  const scale = Math.min(into.width / picture.width, into.height / picture.height);
  const innerWidth = Math.min(into.width, Math.max(1, evenRound(picture.width * scale)));
  const innerHeight = Math.min(into.height, Math.max(1, evenRound(picture.height * scale)));
  const left = Math.floor((into.width - innerWidth) / 2);
  const top = Math.floor((into.height - innerHeight) / 2);
  return { ...picture, left, top, innerWidth, innerHeight };
}

/** The middle of a picture fills the input; left and top are 0 or below. */
export function placeMiddle(picture: Size, into: Size): Placement {
  const scale = Math.max(into.height / picture.height, into.width / picture.width) / CROPPED;
  const innerHeight = Math.max(1, evenRound(scale * picture.height));
  const innerWidth = Math.max(1, evenRound(scale * picture.width));
  const left = -Math.floor((innerWidth - into.width) / 2);
  const top = -Math.floor((innerHeight - into.height) / 2);
  return { ...picture, left, top, innerWidth, innerHeight };
}

export type Corners = readonly [number, number, number, number];

/** Corners in the input as corners in the picture, cut at its borders; null for one that lies beside it. */
export function toPicture(placement: Placement, [x1, y1, x2, y2]: Corners): Corners | null {
  const across = (x: number) => cut(((x - placement.left) * placement.width) / placement.innerWidth, placement.width);
  const down = (y: number) => cut(((y - placement.top) * placement.height) / placement.innerHeight, placement.height);
  const corners = [across(x1), down(y1), across(x2), down(y2)] as const;
  return corners[2] > corners[0] && corners[3] > corners[1] ? corners : null;
}

function cut(value: number, end: number): number {
  return Math.min(Math.max(value, 0), end);
}
