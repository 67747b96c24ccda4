// The page: opens the bundle that the host serves, proves it, measures it, shows what it does.

import { type Calls, type Memory, type Opened, callsOf } from "./calls.ts";
import { byId } from "./elements.ts";
import { showFailure, showLatency, showMemory, showOpened, showParts, showResult, showVerdict } from "./figures.ts";
import { type Verdict, verdictOf } from "./golden.ts";
import type { Latency } from "./latency.ts";
import { pageBytes } from "./memory.ts";
import { PictureView } from "./picture_view.ts";
import type { Sent } from "./split.ts";
import type { Tensors } from "./tensor.ts";
import { VideoView } from "./video_view.ts";

/** What the host says of itself: host.json. */
interface Host {
  /** Of a tail's server that packets are passed on to. */
  readonly split: string | null;
  /** Whether it has a picture, or an array, to begin with; and a reference of what comes of it. */
  readonly input: boolean;
  readonly reference: boolean;
}

/** All that was found, as one object for whoever drives the page. */
interface Report {
  error?: string;
  runtime: string;
  threads: number;
  golden?: Verdict;
  link?: Pick<Sent, "answered_by" | "packet_bytes" | "why" | "ms">;
  latency_ms?: Latency;
  memory_bytes?: Memory;
  /** Since the page was asked for: the bundle was open, its golden pair was computed, a result was shown. */
  opened_ms?: number;
  proved_ms?: number;
  first_result_ms?: number;
  result_ms?: Readonly<Record<string, number>>;
}

const RUNTIME = `onnxruntime-web ${process.env.ORT_VERSION}`;
const FEWEST_RUNS = 5;
/** Where the host takes packets to pass on. */
const PACKET = "packet";

const query = new URLSearchParams(location.search);
const threads = Number(query.get("threads")) || Math.min(4, navigator.hardwareConcurrency || 1);
const seconds = Number(query.get("seconds") ?? 3);
const score = query.has("score") ? Number(query.get("score")) : undefined;
const report: Report = { runtime: RUNTIME, threads };

const calls = callsOf(new Worker(new URL("./worker.js", import.meta.url), { type: "module" }));
let view: PictureView | null = null;
const ready = start(calls).catch((error: unknown) => {
  report.error = error instanceof Error ? error.message : String(error);
  showFailure(report.error);
});
Object.assign(globalThis, { edgekit: { report, ready, calls, found: () => view?.found ?? null } });

async function start(calls: Calls): Promise<void> {
  const host = (await (await fetch("host.json")).json()) as Host;
  const opened = await calls.open(new URL("bundle/", location.href).href, threads);
  report.opened_ms = performance.now();
  showOpened(opened);
  byId("footer").textContent = `${RUNTIME} · ${
    host.split ? `packets go to ${host.split}` : "nothing leaves this machine"
  }`;
  const { verdict, outputs, ms } = await calls.prove();
  report.golden = verdict;
  report.proved_ms = performance.now();
  showVerdict(verdict, ms);
  if (host.split) await proveLink(host.split, verdict, ms);
  await show(opened, host, outputs);
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

/** Adds what a tail's server makes of the golden input to the verdict. */
async function proveLink(server: string, local: Verdict, ms: number): Promise<void> {
  const { sent, rows } = await calls.proveLink(PACKET);
  const { answered_by, packet_bytes, why } = sent;
  report.link = { answered_by, packet_bytes, why, ms: sent.ms };
  report.golden = verdictOf([...local.outputs, ...rows], local.gate_db);
  showVerdict(report.golden, ms);
  if (why) byId("verdict-reason").textContent = `${server} did not answer: ${why}`;
}

/** What the bundle is for, as far as its contract tells. */
async function show(opened: Opened, host: Host, golden: Tensors): Promise<void> {
  const { manifest } = opened;
  const given = host.input ? await (await fetch("input")).blob() : null;
  if (manifest.image) {
    view = new PictureView(calls, opened, PACKET, told, score);
    openStage();
    if (given) await view.showFile(given);
  } else if (manifest.outputs[0]?.axes === "NCTHW" && !manifest.split) {
    const video = new VideoView(calls, opened, told);
    openStage();
    const { name } = manifest.outputs[0];
    if (given) await video.decodeFile(given);
    else video.showPair(golden[name]!, (await calls.golden("output."))[name]!);
    if (given && host.reference) await video.compareFile(await (await fetch("reference")).blob());
  }
}

function openStage(): void {
  byId("stage").hidden = false;
  byId("result").hidden = false;
}

function told(parts: Readonly<Record<string, number>>): void {
  report.result_ms = parts;
  if (report.first_result_ms === undefined) {
    report.first_result_ms = performance.now();
    showResult(report.first_result_ms, parts);
  } else showParts(parts);
}
