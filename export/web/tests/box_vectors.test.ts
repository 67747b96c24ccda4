// The vectors that all hosts share: export/vectors/README.md says which boxes are those that were promised.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { judge } from "../src/golden.ts";
import type { Manifest } from "../src/manifest.ts";
import type { Tensor, Tensors } from "../src/tensor.ts";

const FILE = `${process.env["EDGEKIT_VECTORS"] ?? "../vectors"}/boxes/suppressed.json`;

interface Case {
  about: string;
  manifest: Manifest;
  expected: Record<string, number[]>;
  found: Record<string, number[]>;
  passed: boolean;
  outputs: { name: string; psnr_db: number | null; max_abs: number | null; passed: boolean }[];
}

const cases: Case[] = existsSync(FILE) ? JSON.parse(readFileSync(FILE, "utf8")) : [];

test("there are boxes to judge", { skip: existsSync(FILE) ? false : `no file ${FILE}` }, () => {
  assert.ok(cases.length > 20);
});

for (const { about, manifest, expected, found, passed, outputs } of cases) {
  test(`the golden check says what edgekit says where ${about}`, () => {
    const verdict = judge(manifest, tensorsOf(manifest, expected), tensorsOf(manifest, found));
    assert.equal(verdict.passed, passed);
    verdict.outputs.forEach((row, at) => {
      const wanted = outputs[at]!;
      assert.deepEqual([row.name, row.passed], [wanted.name, wanted.passed]);
      near(row.psnr_db, wanted.psnr_db, 0.01);
      near(row.max_abs, wanted.max_abs, 1e-4);
    });
  });
}

test("an output that cannot be compared fails all", () => {
  const { manifest, expected } = cases[0]!;
  const whole = tensorsOf(manifest, expected);
  const notFinite: Tensor = { ...whole["scores"]!, data: Float32Array.from(expected["scores"]!, () => NaN) };
  const others = [{ ...whole, scores: notFinite }, { ...whole, boxes: { ...whole["boxes"]!, shape: [12, 4] } }, {}];
  for (const found of others) {
    const verdict = judge(manifest, whole, found);
    assert.deepEqual(verdict.outputs.map(({ psnr_db, passed }) => [psnr_db, passed]), Array(3).fill([null, false]));
  }
});

function tensorsOf({ outputs }: Manifest, values: Record<string, number[]>): Tensors {
  return Object.fromEntries(
    outputs.map(({ name, shape, dtype }) => [
      name,
      dtype === "int64"
        ? { dtype, shape, data: BigInt64Array.from(values[name]!, BigInt) }
        : { dtype: "float32", shape, data: Float32Array.from(values[name]!) },
    ]),
  );
}

function near(found: number | null, wanted: number | null, least: number): void {
  if (found === null || wanted === null) return assert.equal(found, wanted);
  assert.ok(Math.abs(found - wanted) <= least, `${found} is not ${wanted}`);
}
