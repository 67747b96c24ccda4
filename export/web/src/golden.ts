// Whether what was computed here is what the exporter promised: the rules of `edgekit verify` for tensors.

import type { Gate, Manifest, TensorSpec } from "./manifest.ts";
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
  const { gate } = manifest;
  const least = gate.detections?.psnr_db ?? gate.psnr_db;
  const outputs = manifest.outputs
    // Of a file that suppresses by itself, rows of near scores may change places.
    .filter((spec) => !manifest.suppression || spec.name === "scores")
    .map((spec) => judgeOne(spec, expected[spec.name], found[spec.name], manifest, least));
  return verdictOf(outputs, least);
}

export function verdictOf(outputs: readonly Judged[], gateDb: number): Verdict {
  return { passed: outputs.length > 0 && outputs.every((row) => row.passed), gate_db: gateDb, outputs };
}

export function judgeOne(
  spec: TensorSpec, wanted: Tensor | undefined, got: Tensor | undefined, manifest: Manifest, least: number,
): Judged {
  if (!wanted || !got || !sameShape(wanted.shape, got.shape)) return unmeasured(spec);
  let [one, other] = [numbers(wanted), numbers(got)];
  for (let at = 0; at < other.length; at++) if (!Number.isFinite(other[at]!)) return unmeasured(spec);
  if (manifest.suppression) {
    [one, other] = [Float64Array.from(one).sort(), Float64Array.from(other).sort()];
  } else if (manifest.gate.detections && spec.name === "scores") {
    // A peak that falls the other way is a decision, no error.
    const shown = Array.from(one, (_, at) => at).filter((at) => one[at] !== 0);
    const kept = shown.filter((at) => other[at] !== 0);
    if (shown.length > 2 * kept.length) return unmeasured(spec); // most of them
    const rows = Array.from(one, (_, at) => at).filter((at) => (one[at] === 0) === (other[at] === 0));
    [one, other] = [Float64Array.from(rows, (at) => one[at]!), Float64Array.from(rows, (at) => other[at]!)];
  }
  return measured(spec, one, other, isFloat(wanted.dtype), least, manifest.gate);
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
