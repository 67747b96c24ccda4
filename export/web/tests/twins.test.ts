// What Python computes of the same numbers: tests/web/test_twins.py writes them and runs this file.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { suppressed } from "../src/boxes.ts";
import { entropy, rangeOf } from "../src/codec.ts";
import { place, placeMiddle } from "../src/letterbox.ts";
import type { SplitFacts } from "../src/manifest.ts";
import { readPacket, writePacket } from "../src/packet.ts";
import { resized } from "../src/resize.ts";
import { type Tables, readTables } from "../src/tables.ts";
import type { Tensor } from "../src/tensor.ts";

const FILE = process.env["EDGEKIT_TWINS"];
const twins = FILE ? JSON.parse(readFileSync(FILE, "utf8")) : null;
const skip = FILE ? false : "EDGEKIT_TWINS names no file of Python's results";

function floats(shape: number[], values: number[]): Tensor {
  return { dtype: "float32", shape, data: Float32Array.from(values) };
}

test("packets are Python's byte for byte, and what they bring are the symbols", { skip }, async () => {
  for (const { tables: text, symbols, shape, keep, placement, packet } of twins.packets) {
    const tables: Tables = await readTables(text);
    const [channels, height, width] = shape as [number, number, number];
    const facts = { channels, height, width, hash: tables.sha256 } as SplitFacts;
    const codec = entropy(tables, facts);
    const payload = codec.encode({ dtype: "int32", shape: [1, ...shape], data: Int32Array.from(symbols) }, keep);
    const made = writePacket({ codec: 1, hash: tables.sha256, channels: keep, height, width, payload }, placement);
    assert.equal(Buffer.from(made).toString("hex"), packet);
    if (keep === channels) {
      const read = readPacket(made, 1, tables.sha256);
      assert.deepEqual([...codec.decode(read.payload) as Int32Array], symbols);
    }
    made[made.length - 1]! ^= 1;
    assert.throws(() => readPacket(made, 1, tables.sha256), /damaged/);
  }
});

test("tables that were changed are refused by their hash", { skip }, async () => {
  const changed = twins.packets[0].tables.replace('"medians":[', '"medians":[1.5,');
  await assert.rejects(readTables(changed), /another hash/);
});

test("pictures are resized to Pillow's pixels, but for a last bit", { skip }, () => {
  for (const { width, height, rgb, into, expected } of twins.resizes) {
    const made = resized({ width, height, data: Uint8Array.from(rgb) }, into[0], into[1]);
    const off = made.data.reduce((most, value, at) => Math.max(most, Math.abs(value - expected[at])), 0);
    assert.equal(made.data.length, expected.length);
    assert.ok(off <= 1, `${width}x${height} into ${into}: off by ${off}`);
  }
});

test("pictures are placed where Python places them", { skip }, () => {
  for (const { picture, into, resize, expected } of twins.placements) {
    assert.deepEqual(resize === "middle" ? placeMiddle(picture, into) : place(picture, into, resize), expected);
  }
});

test("suppression keeps the candidates that Python keeps, in their order", { skip }, () => {
  for (const { boxes, scores, shape, thresholds, rows, labels } of twins.suppressions) {
    const [candidates, classes] = shape;
    const corners = boxes.map((side: number | null) => side ?? NaN);
    const found = suppressed(floats([1, candidates, 4], corners), floats([1, candidates, classes], scores), thresholds);
    assert.deepEqual(found.map(({ row }) => row), rows);
    assert.deepEqual(found.map(({ label }) => label), labels);
  }
});

test("the range of values that travel with it is Python's to the bit", { skip }, () => {
  for (const { values, scale, zeroPoint } of twins.ranges) {
    assert.deepEqual(rangeOf(values), { scale, zeroPoint });
  }
});
