// From a picture to what the network takes, by the bundle's contract; and pictures that come out.

import { type Placement, type Size, place, placeMiddle } from "./letterbox.ts";
import { type ImageContract, type Manifest, type TensorSpec, boxesOf } from "./manifest.ts";
import { type Pixels, resized } from "./resize.ts";
import { type Tensor, isDType, numbers, zeros } from "./tensor.ts";

const COLOURS = 3;
const GREY = 114;

export interface Prepared {
  readonly input: Tensor;
  readonly placement: Placement;
  /** What the network sees, before it is normalised. */
  readonly seen: Pixels;
}

/** Throws an Error with a sentence for a bundle that takes no pictures. */
export function prepared(picture: Pixels, manifest: Manifest): Prepared {
  const contract = manifest.image;
  const spec = manifest.inputs[0];
  if (!contract || !spec) throw new Error(`${manifest.name} has no contract that says how it takes a picture.`);
  const into = { width: side(spec, "W"), height: side(spec, "H") };
  const boxes = boxesOf(manifest);
  const placement = boxes ? place(picture, into, boxes.resize) : placeMiddle(picture, into);
  const inner = resized(picture, placement.innerWidth, placement.innerHeight);
  const seen = onCanvas(inner, placement, into, boxes?.fill ?? GREY);
  const input = manifest.takes_pixels ? asPixels(seen, spec) : normalised(seen, contract, spec);
  return { input, placement, seen };
}

export function side(spec: TensorSpec, axis: string): number {
  const found = spec.shape[spec.axes.indexOf(axis)];
  if (found === undefined) throw new Error(`'${spec.name}' has no axis ${axis}.`);
  return found;
}

/** Where left and top are below 0, the middle of the inner picture is seen. */
function onCanvas(inner: Pixels, { left, top }: Placement, into: Size, fill: number): Pixels {
  const data = new Uint8Array(into.width * into.height * COLOURS).fill(fill);
  const [fromX, toX] = [Math.max(0, -left), Math.max(0, left)];
  const columns = Math.min(inner.width - fromX, into.width - toX);
  for (let y = Math.max(0, top); y < into.height && y - top < inner.height; y++) {
    const from = ((y - top) * inner.width + fromX) * COLOURS;
    data.set(inner.data.subarray(from, from + columns * COLOURS), (y * into.width + toX) * COLOURS);
  }
  return { ...into, data };
}

/** (x - mean) / std of x in [0, 1], in single precision as the exporter computes it; 1 3 H W. */
function normalised(seen: Pixels, contract: ImageContract, spec: TensorSpec): Tensor {
  const image = zeros("float32", spec.shape);
  const plane = seen.width * seen.height;
  for (let colour = 0; colour < COLOURS; colour++) {
    const from = contract.order === "RGB" ? colour : COLOURS - 1 - colour;
    const [mean, std] = [Math.fround(contract.mean[colour]!), Math.fround(contract.std[colour]!)];
    const table = Float32Array.from({ length: 256 }, (_, value) =>
      Math.fround(Math.fround(Math.fround(value / 255) - mean) / std),
    );
    const start = colour * plane;
    for (let at = 0; at < plane; at++) image.data[start + at] = table[seen.data[at * COLOURS + from]!]!;
  }
  return image;
}

/** Colours 0 to 255, as they are, or plane after plane. */
function asPixels(seen: Pixels, spec: TensorSpec): Tensor {
  if (!isDType(spec.dtype)) throw new Error(`'${spec.name}' takes ${spec.dtype}, which is not given here.`);
  const image = zeros(spec.dtype, spec.shape);
  const target = image.data as Uint8Array;
  if (spec.axes === "NHWC") target.set(seen.data);
  else {
    const plane = seen.width * seen.height;
    for (let at = 0; at < seen.data.length; at++) target[(at % COLOURS) * plane + Math.trunc(at / COLOURS)] = seen.data[at]!;
  }
  return image;
}

/** Frame `frame` of 1 3 T H W, or the picture 1 3 H W, of a declared range, as RGBA of a canvas. */
export function toRgba(tensor: Tensor, spec: TensorSpec, frame = 0): ImageData {
  const [width, height] = [side(spec, "W"), side(spec, "H")];
  const frames = spec.axes.includes("T") ? tensor.shape[spec.axes.indexOf("T")]! : 1;
  const plane = width * height;
  const low = spec.low ?? 0;
  const scale = 255 / ((spec.high ?? 1) - low);
  const values = numbers(tensor);
  const image = new ImageData(width, height);
  for (let colour = 0; colour < COLOURS; colour++) {
    const start = (colour * frames + frame) * plane;
    for (let at = 0; at < plane; at++) image.data[4 * at + colour] = (values[start + at]! - low) * scale;
  }
  for (let at = 3; at < image.data.length; at += 4) image.data[at] = 255;
  return image;
}

export function toImageData(pixels: Pixels): ImageData {
  const image = new ImageData(pixels.width, pixels.height);
  for (let at = 0; at < pixels.width * pixels.height; at++) {
    for (let colour = 0; colour < COLOURS; colour++) image.data[4 * at + colour] = pixels.data[COLOURS * at + colour]!;
    image.data[4 * at + 3] = 255;
  }
  return image;
}
