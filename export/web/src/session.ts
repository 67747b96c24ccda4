// onnxruntime-web behind the one function that a plan needs: a file's name and arrays in, arrays out.

import * as ort from "onnxruntime-web/wasm";

import { type Data, type Tensor, type Tensors, isDType } from "./tensor.ts";

/**
 * Memory as plans are made for: each tensor is given back as soon as it is dead, and none are laid out
 * in advance. The WebAssembly build has no arena that sessions share, and needs none for that.
 */
const FRUGAL = { enableCpuMemArena: false, enableMemPattern: false } as const;

/** Where the runtime's own files lie, and how many threads compute; once, before any model is opened. */
export function prepareRuntime(folder: string, threads: number): void {
  ort.env.wasm.wasmPaths = folder;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
}

export class Models {
  private readonly sessions = new Map<string, ort.InferenceSession>();

  private async open(file: string, bytes: Uint8Array): Promise<void> {
    this.sessions.set(file, await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], ...FRUGAL }));
  }

  /** Fetched all at once, opened in turn. */
  async openAll(files: readonly string[], fetched: (file: string) => Promise<Uint8Array>): Promise<void> {
    const read = await Promise.all(files.map(async (file) => [file, await fetched(file)] as const));
    for (const [file, bytes] of read) await this.open(file, bytes);
  }

  /** Throws an Error for inputs that the model does not take. */
  async run(file: string, feeds: Tensors): Promise<Tensors> {
    const session = this.sessions.get(file);
    if (session === undefined) throw new Error(`${file} has not been opened.`);
    const given = Object.entries(feeds).map(([name, tensor]) => [name, toRuntime(tensor)] as const);
    const made = await session.run(Object.fromEntries(given));
    return Object.fromEntries(Object.entries(made).map(([name, value]) => [name, fromRuntime(name, value)]));
  }
}

function toRuntime({ dtype, data, shape }: Tensor): ort.Tensor {
  return new ort.Tensor(dtype as "float32", data as Float32Array, shape);
}

function fromRuntime(name: string, value: ort.Tensor): Tensor {
  if (!isDType(value.type)) throw new Error(`'${name}' holds ${value.type}, which is not read here.`);
  return { dtype: value.type, shape: value.dims, data: value.data as Data };
}
