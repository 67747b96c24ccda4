// Arrays with a shape, and the boxes that plans cut out of them.

export type Data =
  | Float32Array | Float64Array | Uint16Array | BigInt64Array | BigUint64Array
  | Int32Array | Int16Array | Int8Array | Uint32Array | Uint8Array;

/** NumPy's name; bool lies in a Uint8Array. There is no float16: doors of bundles are float32. */
export type DType = keyof typeof ARRAYS;

const ARRAYS = {
  float32: Float32Array, float64: Float64Array,
  int64: BigInt64Array, uint64: BigUint64Array, int32: Int32Array, uint32: Uint32Array,
  int16: Int16Array, uint16: Uint16Array, int8: Int8Array, uint8: Uint8Array, bool: Uint8Array,
} as const;

export interface Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Data;
}

export type Tensors = Readonly<Record<string, Tensor>>;

/** [start, stop) for each dimension. */
export type Box = readonly (readonly [number, number])[];

export function isDType(name: string): name is DType {
  return name in ARRAYS;
}

export function isFloat(dtype: DType): boolean {
  return dtype.startsWith("float");
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

export function zeros(dtype: DType, shape: readonly number[]): Tensor {
  return { dtype, shape, data: new ARRAYS[dtype](sizeOf(shape)) };
}

/** The bytes are copied, so that they may lie at any offset of a file. */
export function fromBytes(dtype: DType, shape: readonly number[], bytes: Uint8Array): Tensor {
  const kind = ARRAYS[dtype];
  if (bytes.length !== sizeOf(shape) * kind.BYTES_PER_ELEMENT) {
    throw new Error(`${bytes.length} bytes do not make ${dtype} ${shape.join("x")}.`);
  }
  return { dtype, shape, data: new kind(bytes.slice().buffer) };
}

export function bytesOf(tensor: Tensor): number {
  return tensor.data.byteLength;
}

/** As numbers that arithmetic can be done with; integers beyond 2^53 lose their last digits. */
export function numbers(tensor: Tensor): ArrayLike<number> {
  const { data } = tensor;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    return Float64Array.from(data as BigInt64Array, Number);
  }
  return data;
}

export function sameShape(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((side, dim) => side === other[dim]);
}

export function shapeOf(box: Box): number[] {
  return box.map(([start, stop]) => Math.max(0, stop - start));
}

/** The box as a tensor of its own, or the tensor itself where the box is all of it. */
export function partOf(tensor: Tensor, box: Box): Tensor {
  const shape = shapeOf(box);
  if (sameShape(shape, tensor.shape)) return tensor;
  const part = zeros(tensor.dtype, shape);
  let at = 0;
  forEachRun(tensor.shape, box, (start, length) => {
    copy(tensor.data.subarray(start, start + length), part.data, at);
    at += length;
  });
  return part;
}

/** Put `part`, of the box's shape, into the box of `target`. */
export function writeInto(target: Tensor, box: Box, part: Tensor): void {
  if (!sameShape(shapeOf(box), part.shape) || target.dtype !== part.dtype) {
    throw new Error(
      `A window gave ${part.dtype} ${part.shape.join("x")} where the plan writes ` +
        `${target.dtype} ${shapeOf(box).join("x")}; export the model again.`,
    );
  }
  let at = 0;
  forEachRun(target.shape, box, (start, length) => {
    copy(part.data.subarray(at, at + length), target.data, start);
    at += length;
  });
}

/** Add the mean of `part` over its dimensions after the second, times `share`, to `total` N C ... */
export function addMean(total: Tensor, part: Tensor, share: number): void {
  const planes = part.shape[0]! * part.shape[1]!;
  const plane = sizeOf(part.shape.slice(2));
  const values = numbers(part);
  if (sizeOf(total.shape) !== planes || total.dtype !== "float32") {
    throw new Error(`A mean of ${planes} channels is no ${total.dtype} ${total.shape.join("x")}.`);
  }
  const sums = total.data as Float32Array;
  for (let index = 0; index < planes; index++) {
    let sum = 0;
    for (let at = index * plane; at < (index + 1) * plane; at++) sum += values[at]!;
    sums[index]! += Math.fround((sum / plane) * share);
  }
}

/** All offsets at which elements of the box lie in a row, in order, and how many do. */
function forEachRun(
  shape: readonly number[], box: Box, visit: (start: number, length: number) => void,
): void {
  const sides = shapeOf(box);
  if (sizeOf(sides) === 0) return;
  let rest = shape.length; // dimensions from here on are whole, so that they lie in a row
  while (rest > 0 && sides[rest - 1] === shape[rest - 1]) rest--;
  const inner = sizeOf(shape.slice(rest));
  const strides = shape.map((_, dim) => sizeOf(shape.slice(dim + 1)));
  const origin = box.reduce((sum, [start], dim) => sum + start * strides[dim]!, 0);
  if (rest === 0) return visit(origin, inner);
  const length = sides[rest - 1]! * inner;
  const outer = sides.slice(0, rest - 1);
  const place = outer.map(() => 0);
  let start = origin;
  for (let left = sizeOf(outer); left > 0; left--) {
    visit(start, length);
    for (let dim = outer.length - 1; dim >= 0; dim--) {
      start += strides[dim]!;
      if (++place[dim]! < outer[dim]!) break;
      start -= outer[dim]! * strides[dim]!;
      place[dim] = 0;
    }
  }
}

function copy(from: Data, to: Data, at: number): void {
  (to as Uint8Array).set(from as Uint8Array, at); // both are of one kind, which the callers check
}
