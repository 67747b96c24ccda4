import assert from "node:assert/strict";
import { test } from "node:test";

import { IDENTICAL_DB, judge } from "../src/golden.ts";
import { latencyOf, percentile } from "../src/latency.ts";
import { type Manifest, type TensorSpec, readManifest } from "../src/manifest.ts";
import type { Tensor } from "../src/tensor.ts";

const SPEC: TensorSpec = { name: "y", shape: [4], dtype: "float32", axes: "", low: 0, high: 1, meaning: "" };

function manifest(fields: Partial<Manifest> = {}): Manifest {
  return { name: "m", outputs: [SPEC], gate: { psnr_db: 100, integers_differ: 0 }, ...fields } as Manifest;
}

function floats(...values: number[]): Tensor {
  return { dtype: "float32", shape: [values.length], data: Float32Array.from(values) };
}

test("an identical output passes with the decibels that stand for no error", () => {
  const verdict = judge(manifest(), { y: floats(0, 0.5, 1, 0) }, { y: floats(0, 0.5, 1, 0) });
  assert.deepEqual(verdict, { passed: true, gate_db: 100, outputs: [{ name: "y", psnr_db: IDENTICAL_DB, max_abs: 0, passed: true }] });
});

test("decibels are counted from the declared range, and held against the gate", () => {
  const verdict = judge(manifest(), { y: floats(0, 0, 0, 0) }, { y: floats(0.125, 0, 0, 0) });
  assert.ok(Math.abs(verdict.outputs[0]!.psnr_db! - -10 * Math.log10(0.125 ** 2 / 4)) < 1e-9);
  assert.equal(verdict.passed, false);
});

test("another shape, a missing output and a value that is no number fail without decibels", () => {
  for (const found of [{}, { y: floats(1) }, { y: floats(NaN, 0, 0, 0) }]) {
    const [row] = judge(manifest(), { y: floats(0, 0, 0, 0) }, found).outputs;
    assert.deepEqual(row, { name: "y", psnr_db: null, max_abs: null, passed: false });
  }
});

test("integers may differ as often as the gate says", () => {
  const integers = (...values: number[]): Tensor => ({ dtype: "int32", shape: [4], data: Int32Array.from(values) });
  const lax = manifest({ gate: { psnr_db: 100, integers_differ: 0.25 } });
  assert.equal(judge(lax, { y: integers(1, 2, 3, 4) }, { y: integers(1, 2, 3, 9) }).passed, true);
  assert.equal(judge(manifest(), { y: integers(1, 2, 3, 4) }, { y: integers(1, 2, 3, 9) }).passed, false);
});

const detections = { matched: 0.9, mean_iou: 0.95, corner_px: 0.5, score_difference: 0.02, psnr_db: null };

test("scores that are 0 on one side only are decisions of a peak test, not errors", () => {
  const scores = { ...SPEC, name: "scores" };
  const detector = manifest({ outputs: [scores], gate: { psnr_db: 100, integers_differ: 0, detections } });
  assert.equal(judge(detector, { scores: floats(0, 0.5, 1, 0) }, { scores: floats(0, 0.5, 0, 0.2) }).passed, true);
  assert.equal(judge(detector, { scores: floats(0, 0.5, 1, 0.2) }, { scores: floats(0, 0, 0, 0) }).passed, false);
});

test("percentiles lie between the samples as NumPy's do", () => {
  assert.equal(percentile([4, 1, 3, 2], 50), 2.5);
  assert.ok(Math.abs(percentile([4, 1, 3, 2], 90) - 3.7) < 1e-12);
  assert.deepEqual(latencyOf([7]).p99, 7);
});

test("a bundle of another format is refused with what to do", () => {
  const text = JSON.stringify({ ...manifest(), model: "m.mlpackage", format: "coreml", files: {}, inputs: [] });
  assert.throws(() => readManifest(text), /a browser runs ONNX: export it with --target onnx/);
  assert.throws(() => readManifest("{"), /damaged/);
});
