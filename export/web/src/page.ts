// The page: opens the bundle that the host serves, proves it, measures it, shows what it does.

import { type Calls, type Memory, type Opened, callsOf } from "./calls.ts";
import { byId } from "./elements.ts";
import { showFailure, showLatency, showMemory, showOpened, showParts, showResult, showVerdict } from "./figures.ts";
import type { Verdict } from "./golden.ts";
import type { Latency } from "./latency.ts";
import { pageBytes } from "./memory.ts";
import { PictureView } from "./picture_view.ts";

/** What the host says of itself: host.json. */
interface Host {
  /** Of a tail's server that packets are passed on to. */
  readonly split: string | null;
  /** Whether it has a picture to begin with. */
  readonly picture: boolean;
}

/** All that was found, as one object for whoever drives the page. */
interface Report {
  error?: string;
  runtime: string;
  threads: number;
  golden?: Verdict;
  latency_ms?: Latency;
  memory_bytes?: Memory;
  first_result_ms?: number;
  result_ms?: Readonly<Record<string, number>>;
}

const RUNTIME = `onnxruntime-web ${process.env.ORT_VERSION}`;
const FEWEST_RUNS = 5;

const query = new URLSearchParams(location.search);
const threads = Number(query.get("threads")) || Math.min(4, navigator.hardwareConcurrency || 1);
const seconds = Number(query.get("seconds") ?? 3);
const report: Report = { runtime: RUNTIME, threads };

const calls = callsOf(new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
let view: PictureView | null = null;
const ready = start(calls).catch((error: unknown) => {
  report.error = error instanceof Error ? error.message : String(error);
  showFailure(report.error);
});
Object.assign(globalThis, { edgekit: { report, ready, calls, found: () => view?.found } });

async function start(calls: Calls): Promise<void> {
  const host = (await (await fetch("host.json")).json()) as Host;
  const opened = await calls.open(new URL("bundle/", location.href).href, threads);
  showOpened(opened);
  byId("footer").textContent = `${RUNTIME} · WebAssembly on ${threads} thread${threads === 1 ? "" : "s"} · nothing leaves this machine`;
  const { verdict, ms } = await calls.prove();
  report.golden = verdict;
  showVerdict(verdict, ms);
  view = viewOf(opened);
  if (view && host.picture) await view.showFile(await (await fetch("picture")).blob());
  report.memory_bytes = await calls.memory();
  showMemory(report.memory_bytes, null, opened.plan);
  if (seconds > 0) {
    report.latency_ms = await calls.latency(seconds, FEWEST_RUNS);
    showLatency(report.latency_ms);
  }
  report.memory_bytes = await calls.memory();
  showMemory(report.memory_bytes, null, opened.plan);
  // The browser answers when it has cleaned up, which may take long: nothing waits for it.
  void pageBytes().then((bytes) => report.memory_bytes && showMemory(report.memory_bytes, bytes, opened.plan));
}

function viewOf(opened: Opened): PictureView | null {
  if (!opened.manifest.image) return null;
  byId("stage").hidden = false;
  return new PictureView(calls, opened, "packet", (parts) => {
    report.result_ms = parts;
    if (report.first_result_ms === undefined) {
      report.first_result_ms = performance.now();
      showResult(report.first_result_ms, parts);
    } else showParts(parts);
  });
}
