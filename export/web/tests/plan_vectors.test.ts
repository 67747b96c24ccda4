// The vectors that all hosts share: export/vectors says what a stand-in for a model computes.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { runPlan } from "../src/interpreter.ts";
import { readPlan } from "../src/plan.ts";
import { type Tensor, type Tensors, numbers, sizeOf } from "../src/tensor.ts";

const FOLDER = process.env["EDGEKIT_VECTORS"] ?? "../vectors";
const FEWEST_DIGITS = 1e-4;

interface Given {
  name: string;
  shape: number[];
  values: number[];
}

interface Call {
  model: string;
  inputs: Record<string, { shape: number[]; weighted: number }>;
}

interface Vector {
  about: string;
  plan: unknown;
  outputs: string[];
  models: Record<string, { number: number; outputs: Record<string, number[]> }>;
  runs: { input: Given; refused?: true; calls: Call[]; outputs: Given[] }[];
}

const files = existsSync(FOLDER) ? readdirSync(FOLDER).filter((name) => name.endsWith(".json")) : [];

test("there are vectors to run", { skip: existsSync(FOLDER) ? false : `no folder ${FOLDER}` }, () => {
  assert.ok(files.length > 0);
});

for (const file of files) {
  const vector = JSON.parse(readFileSync(`${FOLDER}/${file}`, "utf8")) as Vector;
  for (const run of vector.runs) {
    const what = run.refused ? "refuses" : "runs";
    test(`the interpreter ${what} ${file} with ${run.input.shape.join("x")}`, () => follows(vector, run));
  }
}

async function follows(vector: Vector, run: Vector["runs"][number]): Promise<void> {
  const calls: Call[] = [];
  const plan = readPlan(JSON.stringify(vector.plan));
  const inputs = { [run.input.name]: tensorOf(run.input) };
  const made = runPlan(plan, inputs, vector.outputs, async (file, feeds) => {
    calls.push({ model: file, inputs: Object.fromEntries(Object.entries(feeds).map(([name, fed]) => [name, seen(fed)])) });
    return standIn(vector.models[file]!, feeds);
  });
  if (run.refused) return assert.rejects(made, /has the shape|streams at/);
  const outputs = await made;
  assert.deepEqual(calls.map(shapesOf), run.calls.map(shapesOf));
  calls.forEach((call, at) => {
    for (const [name, { weighted }] of Object.entries(call.inputs)) near(weighted, run.calls[at]!.inputs[name]!.weighted);
  });
  for (const expected of run.outputs) {
    const found = outputs[expected.name]!;
    assert.deepEqual([...found.shape], expected.shape);
    expected.values.forEach((value, at) => near(numbers(found)[at]!, value));
  }
}

function shapesOf({ model, inputs }: Call): unknown {
  return { model, inputs: Object.entries(inputs).map(([name, { shape }]) => [name, shape]).sort() };
}

function seen(tensor: Tensor): { shape: number[]; weighted: number } {
  return { shape: [...tensor.shape], weighted: weighted(tensor) };
}

/** The mean of the elements with weights 1 2 3 4 5 1 2 3 4 5 ... */
function weighted(tensor: Tensor): number {
  let [sum, weights] = [0, 0];
  const values = numbers(tensor);
  for (let at = 0; at < values.length; at++) {
    sum += values[at]! * ((at % 5) + 1);
    weights += (at % 5) + 1;
  }
  return sum / weights;
}

function standIn(model: Vector["models"][string], feeds: Tensors): Tensors {
  const names = Object.keys(feeds).sort();
  const total = names.reduce((sum, name, at) => sum + (at + 1) * weighted(feeds[name]!), 0);
  const level = total / ((names.length * (names.length + 1)) / 2);
  const outputs = Object.keys(model.outputs).sort();
  return Object.fromEntries(
    outputs.map((name, place) => {
      const shape = model.outputs[name]!;
      const data = Float32Array.from({ length: sizeOf(shape) }, (_, at) => level + (model.number + place) / 2 + (at % 8) / 8);
      return [name, { dtype: "float32", shape, data } as Tensor];
    }),
  );
}

function tensorOf({ shape, values }: Given): Tensor {
  return { dtype: "float32", shape, data: Float32Array.from(values) };
}

function near(found: number, expected: number): void {
  assert.ok(Math.abs(found - expected) < FEWEST_DIGITS, `${found} is not ${expected}`);
}
