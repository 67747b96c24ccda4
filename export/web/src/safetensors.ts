// The safetensors format: a length, a JSON table, the bytes.

import { type DType, type Tensor, fromBytes } from "./tensor.ts";

const ELEMENTS: Readonly<Record<string, DType>> = {
  F64: "float64", F32: "float32", I64: "int64", U64: "uint64", I32: "int32",
  U32: "uint32", I16: "int16", U16: "uint16", I8: "int8", U8: "uint8", BOOL: "bool",
};

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** Tensors of a file whose names begin with `prefix`, without it. Throws an Error with a sentence. */
export function readTensors(file: Uint8Array, prefix = ""): Record<string, Tensor> {
  const table = readTable(file);
  const found: Record<string, Tensor> = {};
  for (const [name, entry] of Object.entries(table.entries)) {
    if (name === "__metadata__" || !name.startsWith(prefix)) continue;
    const dtype = ELEMENTS[entry.dtype];
    if (dtype === undefined) throw new Error(`'${name}' holds ${entry.dtype}, which is not read here.`);
    const [start, stop] = entry.data_offsets;
    const bytes = file.subarray(table.end + start, table.end + stop);
    found[name.slice(prefix.length)] = fromBytes(dtype, entry.shape, bytes);
  }
  return found;
}

function readTable(file: Uint8Array): { entries: Record<string, Entry>; end: number } {
  const damaged = new Error("A file of tensors is damaged; export the model again.");
  if (file.length < 8) throw damaged;
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const end = 8 + Number(view.getBigUint64(0, true));
  if (end > file.length) throw damaged;
  try {
    return { entries: JSON.parse(new TextDecoder().decode(file.subarray(8, end))), end };
  } catch {
    throw damaged;
  }
}
