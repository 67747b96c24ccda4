// The tiles: verdict, latency, memory, time of a result.

import type { Memory, Opened } from "./calls.ts";
import { byId, figure, made, rows } from "./elements.ts";
import { IDENTICAL_DB, type Verdict } from "./golden.ts";
import type { Latency } from "./latency.ts";

const MIB = 2 ** 20;
const MOST_BARS = 60;

export function showOpened({ manifest, plan, threads }: Opened): void {
  byId("name").textContent = manifest.name;
  document.title = `${manifest.name} · edgekit`;
  const sizes = manifest.inputs.map((spec) => spec.shape.join("×")).join(", ");
  const chips = [manifest.target, manifest.precision, sizes, `${threads} thread${threads === 1 ? "" : "s"}`];
  if (plan) chips.push(`${plan.windows} windows in ${plan.stages} stage${plan.stages === 1 ? "" : "s"}`);
  if (manifest.split) chips.push(`split: ${manifest.split.coding}`);
  byId("facts").replaceChildren(...chips.map((text) => made("li", text)));
}

export function showVerdict(verdict: Verdict, ms: number): void {
  byId("verdict").dataset["state"] = verdict.passed ? "passed" : "failed";
  byId("verdict-title").textContent = verdict.passed ? "Golden pair passed" : "Golden pair failed";
  byId("verdict-reason").textContent = verdict.passed
    ? `This browser computes what was exported: ${verdict.gate_db} dB were asked. It took ${told(ms)}.`
    : `This browser computes something else than what was exported: ${verdict.gate_db} dB were asked.`;
  byId("verdict-rows").replaceChildren(
    ...verdict.outputs.map(({ name, psnr_db, max_abs, passed }) => {
      const row = made("tr", "", passed ? "" : "failed");
      const decibels = psnr_db === null ? "–" : psnr_db === IDENTICAL_DB ? "identical" : `${psnr_db.toFixed(1)} dB`;
      row.append(made("td", name), made("td", decibels), made("td", max_abs ? `off by ${short(max_abs)}` : ""));
      return row;
    }),
  );
}

export function showFailure(sentence: string): void {
  byId("verdict").dataset["state"] = "failed";
  byId("verdict-title").textContent = "This bundle does not run here";
  byId("verdict-reason").textContent = sentence;
}

export function showLatency({ p50, p90, runs, samples }: Latency): void {
  const [number, unit] = told(p50).split(" ") as [string, string];
  figure(byId("latency-p50"), number, unit);
  byId("latency-rest").textContent = `median · p90 ${told(p90)} · ${runs} runs`;
  const shown = samples.slice(-MOST_BARS);
  const most = Math.max(...shown);
  const svg = byId("latency-samples");
  const width = 240 / shown.length;
  const bars = shown.map((ms, at) => {
    const height = (44 * ms) / most;
    return rectangle({ x: at * width, y: 48 - height, width: width * 0.72, height, rx: 1 });
  });
  const middle = 48 - (44 * p50) / most;
  svg.replaceChildren(...bars, svgElement("line", { x1: 0, x2: 240, y1: middle, y2: middle }));
}

export function showMemory(memory: Memory, page: number | null, plan: Opened["plan"]): void {
  figure(byId("memory-wasm"), mib(memory.wasm.touched_bytes), "MiB");
  const facts: [string, string][] = [
    ["before the first run", `${mib(memory.wasm_before.touched_bytes)} MiB`],
    ["reserved for it", `${mib(memory.wasm.bytes)} MiB`],
  ];
  if (memory.host_peak_bytes) facts.push(["arrays between windows", `${mib(memory.host_peak_bytes)} MiB`]);
  if (plan) facts.push(["planned, of the whole", `${mib(plan.peak_bytes)} of ${mib(plan.whole_peak_bytes)} MiB`]);
  if (page !== null) facts.push(["page and workers", `${mib(page)} MiB`]);
  rows(byId("memory-rows"), facts);
}

/** `sincePageMs` is for the first result only, whose number stays. */
export function showResult(sincePageMs: number, parts: Readonly<Record<string, number>>): void {
  const [number, unit] = told(sincePageMs).split(" ") as [string, string];
  figure(byId("result-time"), number, unit);
  showParts(parts);
}

export function showParts(parts: Readonly<Record<string, number>>): void {
  rows(byId("result-rows"), Object.entries(parts).map(([name, ms]) => [name, told(ms)]));
}

export function told(ms: number): string {
  if (ms >= 10000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms >= 100 ? ms.toFixed(0) : ms.toFixed(1)} ms`;
}

function short(value: number): string {
  return value < 1e-3 ? value.toExponential(1) : value.toPrecision(2);
}

function mib(bytes: number): string {
  return bytes >= 100 * MIB ? (bytes / MIB).toFixed(0) : (bytes / MIB).toFixed(1);
}

function rectangle(attributes: Record<string, number>): SVGElement {
  return svgElement("rect", attributes);
}

function svgElement(tag: string, attributes: Record<string, number>): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value.toFixed(2));
  return element;
}
