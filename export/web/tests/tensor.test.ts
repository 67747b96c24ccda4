import assert from "node:assert/strict";
import { test } from "node:test";

import { readTensors } from "../src/safetensors.ts";
import { type Box, addMean, fromBytes, partOf, sizeOf, writeInto, zeros } from "../src/tensor.ts";

const SHAPE = [2, 3, 4, 5];
const WHOLE = { dtype: "float32", shape: SHAPE, data: Float32Array.from({ length: 120 }, (_, at) => at) } as const;

/** Element by element, by the definition of row-major order. */
function slowPart(box: Box): number[] {
  const found: number[] = [];
  for (let at = 0; at < sizeOf(SHAPE); at++) {
    const place = SHAPE.map((side, dim) => Math.floor(at / sizeOf(SHAPE.slice(dim + 1))) % side);
    if (box.every(([start, stop], dim) => start <= place[dim]! && place[dim]! < stop)) found.push(at);
  }
  return found;
}

const BOXES: Box[] = [
  [[0, 2], [0, 3], [0, 4], [0, 5]], [[0, 2], [0, 3], [1, 3], [0, 5]], [[1, 2], [0, 3], [0, 4], [0, 5]],
  [[0, 2], [1, 2], [0, 4], [2, 5]], [[0, 1], [2, 3], [3, 4], [4, 5]], [[0, 2], [0, 3], [0, 4], [3, 3]],
];

for (const box of BOXES) {
  test(`a box ${JSON.stringify(box)} is cut out, and written where it came from`, () => {
    const part = partOf(WHOLE, box);
    assert.deepEqual([...part.data], slowPart(box));
    const target = zeros("float32", SHAPE);
    writeInto(target, box, part);
    slowPart(box).forEach((at) => assert.equal(target.data[at], at));
    assert.equal([...target.data].filter((value) => value !== 0).length, slowPart(box).filter((at) => at !== 0).length);
  });
}

test("a box of the whole tensor is the tensor itself, without a copy", () => {
  assert.equal(partOf(WHOLE, BOXES[0]!), WHOLE);
});

test("what a window gives must have the shape that the plan writes", () => {
  assert.throws(() => writeInto(zeros("float32", [2, 2]), [[0, 1], [0, 2]], zeros("float32", [2, 1])), /export the model again/);
});

test("means of unequal parts add up to the mean of the whole, by their shares", () => {
  const total = zeros("float32", [1, 2, 1, 1]);
  const part = (values: number[], width: number) =>
    ({ dtype: "float32", shape: [1, 2, 1, width], data: Float32Array.from(values) }) as const;
  addMean(total, part([1, 2, 3, 10, 20, 30], 3), 3 / 4);
  addMean(total, part([6, 40], 1), 1 / 4);
  assert.deepEqual([...total.data], [3, 25]);
});

test("tensors are read from a safetensors file by the prefix of their names", () => {
  const table = { "input.x": { dtype: "F32", shape: [2], data_offsets: [0, 8] }, "output.y": { dtype: "I64", shape: [1], data_offsets: [8, 16] } };
  const head = new TextEncoder().encode(JSON.stringify(table));
  const file = new Uint8Array(8 + head.length + 16);
  const view = new DataView(file.buffer);
  view.setBigUint64(0, BigInt(head.length), true);
  file.set(head, 8);
  view.setFloat32(8 + head.length, 1.5, true);
  view.setFloat32(12 + head.length, -2, true);
  view.setBigInt64(16 + head.length, 7n, true);
  assert.deepEqual(Object.keys(readTensors(file, "input.")), ["x"]);
  assert.deepEqual([...readTensors(file, "input.")["x"]!.data], [1.5, -2]);
  assert.deepEqual([...readTensors(file, "output.")["y"]!.data], [7n]);
  assert.throws(() => readTensors(file.subarray(0, 20)), /damaged/);
});

test("bytes that do not make a shape are refused", () => {
  assert.throws(() => fromBytes("int32", [3], new Uint8Array(8)), /8 bytes do not make int32 3/);
});
