// Frames of a decoded video, and of a reference to hold beside it.

import { side, toRgba } from "./image.ts";
import type { TensorSpec } from "./manifest.ts";
import type { Tensor } from "./tensor.ts";

export interface Frames {
  readonly count: number;
  readonly width: number;
  readonly height: number;
  at(frame: number): ImageData;
}

/** Of 1 3 T H W in the range of `spec`, which the network gave for a video of any length. */
export function framesOf(video: Tensor, spec: TensorSpec): Frames {
  const sized = { ...spec, shape: video.shape };
  return {
    count: side(sized, "T"), width: side(sized, "W"), height: side(sized, "H"),
    at: (frame) => toRgba(video, sized, frame),
  };
}

/** A reference: 1 3 T H W as the network gives it, or T H W 3 of bytes. Throws an Error for another shape. */
export function referenceFrames(array: Tensor, spec: TensorSpec): Frames {
  if (array.shape.length === 5) return framesOf(array, spec);
  const [count, height, width, colours] = array.shape as [number, number, number, number];
  if (array.dtype !== "uint8" || colours !== 3) {
    throw new Error(`A reference is 1 3 T H W, or T H W 3 of bytes, not ${array.dtype} ${array.shape.join("x")}.`);
  }
  return {
    count, width, height,
    at(frame) {
      const image = new ImageData(width, height);
      const bytes = array.data.subarray(frame * height * width * 3, (frame + 1) * height * width * 3) as Uint8Array;
      for (let at = 0; at < height * width; at++) {
        image.data.set(bytes.subarray(3 * at, 3 * at + 3), 4 * at);
        image.data[4 * at + 3] = 255;
      }
      return image;
    },
  };
}

/** Of 8-bit colours, as the canvases show them; null where the frames have other sizes. */
export function psnrOfFrames(one: ImageData, other: ImageData): number | null {
  if (one.width !== other.width || one.height !== other.height) return null;
  let squares = 0;
  for (let at = 0; at < one.data.length; at++) squares += (one.data[at]! - other.data[at]!) ** 2;
  const mean = squares / (one.width * one.height * 3); // alpha is equal
  return mean === 0 ? Infinity : 10 * Math.log10(255 ** 2 / mean);
}

