// The worker that computes, so that the page stays alive beside it.

import { type WasmMemory, watchWasmMemory } from "./memory.ts"; // before the runtime, which makes its memory when it starts
import { answer } from "./calls.ts";
import { Engine } from "./engine.ts";
import { prepared } from "./image.ts";
import { latencyOf, sample } from "./latency.ts";
import { prepareRuntime } from "./session.ts";
import type { SplitEngine } from "./split.ts";

const RUNTIME_FOLDER = new URL(`./ort-${process.env.ORT_VERSION}/`, import.meta.url).href;

const wasmMemory = watchWasmMemory();
let opened: Engine | undefined;
let before: WasmMemory = { bytes: 0, touched_bytes: 0 };

function engine(): Engine {
  if (opened === undefined) throw new Error("No bundle is open.");
  return opened;
}

function head(): SplitEngine {
  const { split } = engine();
  if (split === null) throw new Error("This bundle holds a whole network; there is no head to send from.");
  return split;
}

async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const started = performance.now();
  const made = await work();
  return [made, performance.now() - started];
}

answer({
  async open(address, threads) {
    prepareRuntime(RUNTIME_FOLDER, threads);
    opened = await Engine.open(address);
    before = wasmMemory();
    return { manifest: opened.manifest, plan: opened.planFacts, threads };
  },
  async prove() {
    const [proof, ms] = await timed(() => engine().prove());
    return { ...proof, ms };
  },
  golden: (prefix) => engine().bundle.golden(prefix),
  async latency(seconds, fewest) {
    const inputs = await engine().bundle.golden("input.");
    return latencyOf(await sample(() => engine().run(inputs), seconds, fewest));
  },
  async run(inputs) {
    const [outputs, ms] = await timed(() => engine().run(inputs));
    return { outputs, ms };
  },
  async look(picture) {
    const [{ input, placement, seen }, prepare_ms] = await timed(async () => prepared(picture, engine().manifest));
    const [outputs, run_ms] = await timed(() => engine().run({ [engine().manifest.inputs[0]!.name]: input }));
    return { outputs, placement, seen, prepare_ms, run_ms };
  },
  async send(picture, keep, relay) {
    const { input, placement } = prepared(picture, engine().manifest);
    return head().send(input, placement, keep, relay);
  },
  async proveLink(relay) {
    return head().proveLink(await engine().bundle.golden("input."), relay);
  },
  async memory() {
    return { wasm: wasmMemory(), wasm_before: before, host_peak_bytes: engine().hostPeak.bytes };
  },
});
