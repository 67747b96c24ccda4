// Whether what was computed here is what the exporter promised: the rules of `edgekit verify`.

import type { Gate, Manifest, TensorSpec, Thresholds } from "./manifest.ts";
import { type Row, matchedBoxes } from "./matched_boxes.ts";
import { type Tensor, type Tensors, isFloat, numbers, sameShape } from "./tensor.ts";

/** How JSON writes the decibels of identical outputs. */
export const IDENTICAL_DB = 999;

export interface Judged {
  readonly name: string;
  /** null where there is nothing to measure: another shape, or values that are not finite. */
  readonly psnr_db: number | null;
  readonly max_abs: number | null;
  readonly passed: boolean;
}

export interface Verdict {
  readonly passed: boolean;
  readonly gate_db: number;
  readonly outputs: readonly Judged[];
}

/** Decibels of each output against the bundle's gate. */
export function judge(manifest: Manifest, expected: Tensors, found: Tensors): Verdict {
  const { gate, suppression } = manifest;
  const least = gate.detections?.psnr_db ?? gate.psnr_db;
  const outputs = suppression
    ? judgeBoxes(manifest, suppression, expected, found, least)
    : manifest.outputs.map((spec) => judgeOne(spec, expected[spec.name], found[spec.name], manifest, least));
  return verdictOf(outputs, least);
}

export function verdictOf(outputs: readonly Judged[], gateDb: number): Verdict {
  return { passed: outputs.length > 0 && outputs.every((row) => row.passed), gate_db: gateDb, outputs };
}

export function judgeOne(
  spec: TensorSpec, wanted: Tensor | undefined, got: Tensor | undefined, manifest: Manifest, least: number,
): Judged {
  if (!wanted || !got || !comparable(wanted, got)) return unmeasured(spec);
  let [one, other] = [numbers(wanted), numbers(got)];
  if (manifest.gate.detections && spec.name === "scores") {
    // A peak that falls the other way is a decision, no error.
    const shown = Array.from(one, (_, at) => at).filter((at) => one[at] !== 0);
    const kept = shown.filter((at) => other[at] !== 0);
    if (shown.length > 2 * kept.length) return unmeasured(spec); // most of them
    const rows = Array.from(one, (_, at) => at).filter((at) => (one[at] === 0) === (other[at] === 0));
    [one, other] = [Float64Array.from(rows, (at) => one[at]!), Float64Array.from(rows, (at) => other[at]!)];
  }
  return measured(spec, one, other, isFloat(wanted.dtype), least, manifest.gate);
}

/** Of a file that suppresses by itself, whose rows of near scores may change places: by boxes that belong together. */
function judgeBoxes(
  { outputs, gate }: Manifest, within: Thresholds, expected: Tensors, found: Tensors, least: number,
): Judged[] {
  const areComparable = outputs.every(({ name }) => comparable(expected[name], found[name]));
  if (!areComparable || gate.detections === undefined) return outputs.map(unmeasured);
  const matched = matchedBoxes(expected, found, gate.detections, within);
  const [wanted, got] = [matched.pairs.map(([one]) => one), matched.pairs.map(([, other]) => other)];
  return outputs.map((spec) => {
    if (spec.name === "labels" && !matched.complete) return unmeasured(spec);
    const isNear = { boxes: matched.boxesAreNear, scores: matched.scoresAreNear, labels: true }[spec.name];
    const row = measured(spec, columnOf(wanted, spec.name), columnOf(got, spec.name), isFloat(expected[spec.name]!.dtype), least, gate);
    return { ...row, passed: row.passed && isNear === true };
  });
}

function columnOf(rows: readonly Row[], name: string): number[] {
  return rows.flatMap(({ corners, score, label }) => (name === "boxes" ? corners : name === "scores" ? score : label));
}

function comparable(wanted: Tensor | undefined, got: Tensor | undefined): boolean {
  if (wanted === undefined || got === undefined || !sameShape(wanted.shape, got.shape)) return false;
  const values = numbers(got);
  for (let at = 0; at < values.length; at++) if (!Number.isFinite(values[at]!)) return false; // videos are long: no copy
  return true;
}

function measured(
  spec: TensorSpec, wanted: ArrayLike<number>, got: ArrayLike<number>, real: boolean, least: number, gate: Gate,
): Judged {
  let [squares, max, peak, differ] = [0, 0, 0, 0];
  for (let at = 0; at < wanted.length; at++) {
    const off = Math.abs(got[at]! - wanted[at]!);
    squares += off * off;
    if (off > max) max = off;
    if (off !== 0) differ++;
    peak = Math.max(peak, Math.abs(wanted[at]!));
  }
  const span = spec.low === null || spec.high === null ? 0 : spec.high - spec.low;
  const decibels = squares === 0 ? IDENTICAL_DB : psnr(squares / wanted.length, span || peak || 1);
  const passed = real ? decibels >= least : differ <= gate.integers_differ * wanted.length;
  return { name: spec.name, psnr_db: decibels, max_abs: max, passed };
}

function psnr(meanSquare: number, peak: number): number {
  return 20 * Math.log10(peak) - 10 * Math.log10(meanSquare);
}

function unmeasured(spec: TensorSpec): Judged {
  return { name: spec.name, psnr_db: null, max_abs: null, passed: false };
}
