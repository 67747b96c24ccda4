// Frequency tables of an entropy model: integers that head and tail share; edgekit/split/tables.py.

import { sha256 } from "./bundle.ts";

export const TOTAL = 65536;
const FORMAT = "edgekit-coding-tables";

export interface Tables {
  readonly medians: readonly number[];
  readonly offsets: readonly number[];
  /** Of each channel, rising from 0, without the closing 65,536; the last entry is the escape. */
  readonly lower_ends: readonly (readonly number[])[];
  readonly sha256: string;
}

/** Throws an Error with a sentence for tables that were changed. */
export async function readTables(text: string): Promise<Tables> {
  const tables = JSON.parse(text) as Tables & { format: string; version: number };
  if (tables.format !== FORMAT || tables.version !== 1) {
    throw new Error("tables.json holds no coding tables that this host reads; export the model again.");
  }
  if ((await digestOf(tables)) !== tables.sha256) {
    throw new Error("tables.json was changed after it was written: its numbers have another hash; export again.");
  }
  return tables;
}

/** SHA-256 of the numbers in one binary form, little-endian. */
async function digestOf({ medians, offsets, lower_ends }: Tables): Promise<string> {
  let end = 0;
  const starts = [0, ...lower_ends.map((ends) => (end += ends.length))];
  const header = new TextEncoder().encode(`${FORMAT} 1 ${offsets.length}\n`);
  const bytes = new Uint8Array(header.length + 4 * (medians.length + offsets.length + starts.length) + 2 * end);
  bytes.set(header);
  const view = new DataView(bytes.buffer);
  let at = header.length;
  for (const median of medians) at = (view.setFloat32(at, median, true), at + 4);
  for (const offset of offsets) at = (view.setInt32(at, offset, true), at + 4);
  for (const start of starts) at = (view.setUint32(at, start, true), at + 4);
  for (const lower of lower_ends.flat()) at = (view.setUint16(at, lower, true), at + 2);
  return sha256(bytes);
}
