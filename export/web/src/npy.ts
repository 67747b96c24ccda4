// NumPy's .npy files of single-precision numbers or bytes.

import { type Tensor, fromBytes } from "./tensor.ts";

const KINDS = { "<f4": "float32", "|u1": "uint8" } as const;

/** Throws an Error with a sentence for a file of another kind. */
export function readNpy(file: Uint8Array): Tensor {
  const text = new TextDecoder("latin1");
  if (text.decode(file.subarray(1, 6)) !== "NUMPY") throw new Error("This is no .npy file; save the array with numpy.save.");
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const start = file[6] === 1 ? 10 : 12;
  const end = start + (file[6] === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  const header = text.decode(file.subarray(start, end));
  const kind = /'descr': '([^']*)'/.exec(header)?.[1] ?? "nothing";
  const shape = /'shape': \(([^)]*)\)/.exec(header)?.[1]?.split(",").filter((side) => side.trim()).map(Number) ?? [];
  if (!(kind in KINDS) || header.includes("'fortran_order': True")) {
    throw new Error(`This array holds ${kind}; save it as float32 or uint8, in C order.`);
  }
  return fromBytes(KINDS[kind as keyof typeof KINDS], shape, file.subarray(end));
}
