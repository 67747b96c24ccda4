// One image's bottleneck as the payload of a packet, and as the values that a tail takes.

import type { Bundle } from "./bundle.ts";
import type { SplitFacts } from "./manifest.ts";
import { decode, encode } from "./rans.ts";
import { evenRound } from "./rounding.ts";
import { type Tables, readTables } from "./tables.ts";
import { type Tensor, numbers, zeros } from "./tensor.ts";

export interface Codec {
  /** How a packet names this way of coding. */
  readonly number: number;
  /** Whole numbers of the first `keep` channels, or values; what the head gives, 1 C H W. */
  encode(bottleneck: Tensor, keep: number): Uint8Array;
  /** What a whole payload of all channels brings: as the head gave it. */
  decode(payload: Uint8Array): ArrayLike<number>;
  /** Values 1 C H W for the tail; channels from `keep` on are 0. */
  values(bottleneck: ArrayLike<number>, keep: number): Tensor;
  /** A value of the latent on the scale of the whole numbers that travel; of channel `channel`. */
  beforeRounding(value: number, channel: number): number;
  /** Whether whole numbers travel, to which the head rounded. */
  readonly rounds: boolean;
}

interface Calibration {
  readonly scales: readonly number[];
  readonly zero_points: readonly number[];
}

export async function codecOf(bundle: Bundle, facts: SplitFacts): Promise<Codec> {
  const text = async (name: string) => new TextDecoder().decode(await bundle.file(name));
  if (facts.coding === "entropy") {
    const tables = await readTables(await text("tables.json"));
    if (tables.sha256 !== facts.hash) throw otherNumbers();
    return entropy(tables, facts);
  }
  if (facts.coding === "dynamic") return dynamic(facts);
  const calibration = JSON.parse(await text("calibration.json")) as Calibration & { sha256: string };
  if (calibration.sha256 !== facts.hash) throw otherNumbers();
  return calibrated(calibration, facts);
}

export function entropy(tables: Tables, facts: SplitFacts): Codec {
  const plane = facts.height * facts.width;
  return {
    number: 1,
    rounds: true,
    encode: (bottleneck, keep) => encode(tables, Array.from(numbers(bottleneck)).slice(0, keep * plane), plane),
    decode: (payload) => decode(tables, payload, facts.channels, plane),
    values: (symbols, keep) =>
      filled(facts, keep, (at, channel) => Math.fround(symbols[at]! + Math.fround(tables.medians[channel]!))),
    beforeRounding: (value, channel) => Math.fround(value - Math.fround(tables.medians[channel]!)),
  };
}

function calibrated({ scales, zero_points }: Calibration, facts: SplitFacts): Codec {
  const plane = facts.height * facts.width;
  return {
    number: 2,
    rounds: true,
    encode: (bottleneck, keep) => Uint8Array.from(numbers(bottleneck)).slice(0, keep * plane),
    decode: (payload) => payload,
    values: (codes, keep) => filled(facts, keep, (at, channel) => (codes[at]! - zero_points[channel]!) * scales[channel]!),
    beforeRounding: (value, channel) => cut(zero_points[channel]! + value / scales[channel]!),
  };
}

/** The range travels with the values: scale (float32), zero point (1 byte), then a code for each. */
function dynamic(facts: SplitFacts): Codec {
  const plane = facts.height * facts.width;
  return {
    number: 3,
    rounds: false,
    encode(bottleneck, keep) {
      const kept = Array.from(numbers(bottleneck)).slice(0, keep * plane);
      const { scale, zeroPoint } = rangeOf(kept);
      const payload = new Uint8Array(5 + kept.length);
      new DataView(payload.buffer).setFloat32(0, scale, true);
      payload[4] = zeroPoint;
      kept.forEach((value, at) => (payload[5 + at] = evenRound(cut(Math.fround(zeroPoint + Math.fround(value / scale))))));
      return payload;
    },
    decode(payload) {
      const scale = new DataView(payload.buffer, payload.byteOffset).getFloat32(0, true);
      return Array.from(payload.subarray(5), (code) => Math.fround(scale * (code - payload[4]!)));
    },
    values: (values, keep) => filled(facts, keep, (at) => values[at]!),
    beforeRounding: (value) => value,
  };
}

/** edgekit/split/quantise8.py: from the least and the greatest value and zero, in single precision. */
export function rangeOf(values: readonly number[]): { scale: number; zeroPoint: number } {
  const [low, high] = values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [0, 0]);
  if (low === high) return { scale: 1, zeroPoint: 0 };
  const scale = Math.fround(Math.fround(high - low) / 255);
  return { scale, zeroPoint: Math.trunc(cut(Math.fround(-Math.fround(low / scale)))) };
}

function filled(facts: SplitFacts, keep: number, value: (at: number, channel: number) => number): Tensor {
  const plane = facts.height * facts.width;
  const tensor = zeros("float32", [1, facts.channels, facts.height, facts.width]);
  for (let at = 0; at < keep * plane; at++) tensor.data[at] = value(at, Math.floor(at / plane));
  return tensor;
}

function cut(value: number): number {
  return Math.min(Math.max(value, 0), 255);
}

function otherNumbers(): Error {
  return new Error("The bundle has other numbers than it was exported with; export the model again.");
}
