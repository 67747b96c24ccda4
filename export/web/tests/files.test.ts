import assert from "node:assert/strict";
import { test } from "node:test";

import { crc32 } from "../src/crc32.ts";
import { readNpy } from "../src/npy.ts";
import { readAnswer } from "../src/relay.ts";

function npy(descr: string, shape: string, data: Uint8Array, order = "False"): Uint8Array {
  const header = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`.padEnd(117) + "\n";
  const text = new TextEncoder().encode(header);
  return Uint8Array.from([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, text.length, 0, ...text, ...data]);
}

test("arrays of floats and of bytes are read as NumPy saved them", () => {
  const floats = readNpy(npy("<f4", "(1, 2)", new Uint8Array(Float32Array.of(0.5, -3).buffer)));
  assert.deepEqual([floats.dtype, floats.shape, [...floats.data]], ["float32", [1, 2], [0.5, -3]]);
  const bytes = readNpy(npy("|u1", "(3,)", Uint8Array.of(1, 2, 255)));
  assert.deepEqual([bytes.dtype, bytes.shape, [...bytes.data]], ["uint8", [3], [1, 2, 255]]);
});

test("other arrays are refused with what to save instead", () => {
  assert.throws(() => readNpy(npy("<f2", "(1,)", new Uint8Array(2))), /save it as float32 or uint8/);
  assert.throws(() => readNpy(npy("<f4", "(1,)", new Uint8Array(4), "True")), /in C order/);
  assert.throws(() => readNpy(Uint8Array.of(1, 2, 3)), /no \.npy file/);
});

test("the checksum is zlib's", () => {
  assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
});

test("an answer's times and outputs are read, and one that is cut is refused", () => {
  const table = new TextEncoder().encode(JSON.stringify({ y: { dtype: "U8", shape: [2], data_offsets: [0, 2] } }));
  const body = new Uint8Array(16 + 8 + table.length + 2);
  const view = new DataView(body.buffer);
  view.setUint32(0, 5, true);
  [1.5, 2.5, 3.5].forEach((ms, at) => view.setFloat32(4 + 4 * at, ms, true));
  view.setBigUint64(16, BigInt(table.length), true);
  body.set(table, 24);
  body.set([7, 9], 24 + table.length);
  const { outputs, ...times } = readAnswer(body);
  assert.deepEqual(times, { channels: 5, wait_ms: 1.5, decode_ms: 2.5, tail_ms: 3.5 });
  assert.deepEqual([...outputs["y"]!.data], [7, 9]);
  assert.throws(() => readAnswer(body.subarray(0, 10)), /ends within its first numbers/);
});
