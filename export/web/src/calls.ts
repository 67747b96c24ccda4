// What the page asks of the worker that computes, and how the question travels.

import type { PlanFacts } from "./engine.ts";
import type { Judged, Verdict } from "./golden.ts";
import type { Latency } from "./latency.ts";
import type { WasmMemory } from "./memory.ts";
import type { Placement } from "./letterbox.ts";
import type { Manifest } from "./manifest.ts";
import type { Pixels } from "./resize.ts";
import type { Sent } from "./split.ts";
import type { Tensors } from "./tensor.ts";

export interface Opened {
  readonly manifest: Manifest;
  readonly plan: PlanFacts | null;
  readonly threads: number;
}

export interface Memory {
  readonly wasm: WasmMemory;
  /** The same when the models were open and nothing had run. */
  readonly wasm_before: WasmMemory;
  /** Most that the loop over a plan's windows held beside it. */
  readonly host_peak_bytes: number;
}

export interface Seen {
  readonly outputs: Tensors;
  readonly placement: Placement;
  /** What the network was given, before it was normalised. */
  readonly seen: Pixels;
  readonly prepare_ms: number;
  readonly run_ms: number;
}

export interface Calls {
  open(address: string, threads: number): Promise<Opened>;
  prove(): Promise<{ verdict: Verdict; outputs: Tensors; ms: number }>;
  golden(prefix: "input." | "output."): Promise<Tensors>;
  /** Of runs of the golden input. */
  latency(seconds: number, fewest: number): Promise<Latency>;
  run(inputs: Tensors): Promise<{ outputs: Tensors; ms: number }>;
  look(picture: Pixels): Promise<Seen>;
  /** Of a split bundle: the head here, its packet to the tail's server through this page's host. */
  send(picture: Pixels, keep: number, relay: string): Promise<Sent>;
  /** Of a split bundle: whether the server answers the golden input with the golden output. */
  proveLink(relay: string): Promise<{ sent: Sent; rows: readonly Judged[] }>;
  memory(): Promise<Memory>;
}

interface Question {
  readonly id: number;
  readonly call: keyof Calls;
  readonly args: unknown[];
}

type Reply = { readonly id: number } & ({ readonly value: unknown } | { readonly error: string });

/** In the page: every call is a question to the worker, answered in its order. */
export function callsOf(worker: Worker): Calls {
  const waiting = new Map<number, (reply: Reply) => void>();
  let last = 0;
  worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => {
    waiting.get(data.id)?.(data);
    waiting.delete(data.id);
  });
  worker.addEventListener("error", () => {
    for (const [id, settle] of waiting) settle({ id, error: "The worker that computes has stopped." });
    waiting.clear();
  });
  const ask = (call: keyof Calls, args: unknown[]) =>
    new Promise((resolve, reject) => {
      const id = ++last;
      waiting.set(id, (reply) => ("error" in reply ? reject(new Error(reply.error)) : resolve(reply.value)));
      worker.postMessage({ id, call, args } satisfies Question);
    });
  return new Proxy({} as Calls, {
    get: (_, call) => (...args: unknown[]) => ask(call as keyof Calls, args),
  });
}

/** In the worker: one call after another. */
export function answer(calls: Calls): void {
  let queue = Promise.resolve();
  self.addEventListener("message", ({ data }: MessageEvent<Question>) => {
    queue = queue.then(() => reply(calls, data));
  });
}

async function reply(calls: Calls, { id, call, args }: Question): Promise<void> {
  try {
    const value = await (calls[call] as (...args: unknown[]) => Promise<unknown>)(...args);
    self.postMessage({ id, value });
  } catch (error) {
    self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
}
