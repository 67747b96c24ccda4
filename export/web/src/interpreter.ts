// Running a plan: a loop over stages and windows, whatever runs the models.

import type { Plan, PlannedTensor, Stage, Window } from "./plan.ts";
import { forInput } from "./repeats.ts";
import { type Tensor, type Tensors, addMean, bytesOf, partOf, sameShape, shapeOf, sizeOf, writeInto, zeros } from "./tensor.ts";

export type RunModel = (file: string, feeds: Tensors) => Promise<Tensors>;

/** Most bytes of arrays that the loop held at once, beside the input and what the runtime holds. */
export interface HostPeak {
  bytes: number;
}

/**
 * The outputs by name. Along the dimension of a stream, the input may be longer or shorter than the
 * plan's. Throws an Error with a sentence.
 */
export async function runPlan(
  plan: Plan, inputs: Tensors, outputs: readonly string[], run: RunModel, peak: HostPeak = { bytes: 0 },
): Promise<Tensors> {
  const first = plan.stages[0]!;
  const given = inputs[first.source];
  if (given === undefined) throw new Error(`There is no input '${first.source}'.`);
  const fitting = forInput(plan, given.shape);
  if (runsByItself(plan)) return run(first.models[0]!.file, { [first.source]: given });
  const tensors = new Map<string, Tensor>(Object.entries(inputs));
  const lastReader = new Map(fitting.stages.map((stage, index) => [stage.source, index]));
  for (const [index, stage] of fitting.stages.entries()) {
    const between = [...tensors].filter(([name]) => !(name in inputs)).map(([, tensor]) => tensor);
    const held = between.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
    const result = fitting.tensors[stage.result]!;
    tensors.set(stage.result, await runStage(stage, tensors.get(stage.source)!, result, run, held, peak));
    for (const [name, reader] of lastReader) {
      if (reader === index && !outputs.includes(name)) tensors.delete(name);
    }
  }
  const last = tensors.get(fitting.stages.at(-1)!.result)!;
  return Object.fromEntries(
    outputs.map((name) => [name, columnsOf(fitting, last, name) ?? tensors.get(name)!]),
  );
}

/** One file with several outputs has them by itself, and needs no host's loop. */
function runsByItself(plan: Plan): boolean {
  const stage = plan.stages[0]!;
  const several = Object.keys(plan.columns).length > 0;
  return several && plan.stages.length === 1 && stage.windows.length === 1;
}

function columnsOf(plan: Plan, last: Tensor, name: string): Tensor | undefined {
  const columns = plan.columns[name];
  if (columns === undefined) return undefined;
  const box = last.shape.map((side, dim) => (dim === last.shape.length - 1 ? columns : ([0, side] as const)));
  return partOf(last, box);
}

async function runStage(
  stage: Stage, source: Tensor, planned: PlannedTensor, run: RunModel, heldBytes: number, peak: HostPeak,
): Promise<Tensor> {
  const windows = new StageRun(stage, run);
  if (stage.windows.length === 1 && !stage.averaged) {
    const only = stage.windows[0]!;
    const made = await windows.window(only, partOf(source, only.read));
    note(peak, heldBytes + bytesOf(made));
    return made;
  }
  const result = zeros(planned.dtype, planned.shape);
  for (const window of stage.windows) {
    const part = partOf(source, window.read);
    const made = await windows.window(window, part);
    const copied = part === source ? 0 : bytesOf(part);
    note(peak, heldBytes + bytesOf(result) + copied + bytesOf(made) + windows.keptBytes);
    if (stage.averaged) addMean(result, made, window.share);
    else writeInto(result, window.write, made);
  }
  return result;
}

function note(peak: HostPeak, bytes: number): void {
  peak.bytes = Math.max(peak.bytes, bytes);
}

/** One run of a stage's windows, in order, with the lines that it keeps between them. */
class StageRun {
  private readonly kept = new Map<number, Map<string, Tensor>>(); // by strip and state
  private readonly stripsTakeTurns: boolean;

  constructor(private readonly stage: Stage, private readonly run: RunModel) {
    const strips = stage.windows.map((window) => window.strip);
    this.stripsTakeTurns = strips.some((strip, index) => index > 0 && strip < strips[index - 1]!);
  }

  get keptBytes(): number {
    const kept = [...this.kept.values()].flatMap((states) => [...states.values()]);
    return kept.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  }

  /** What a window writes, from what it reads (nothing, where its read box is empty). */
  async window(window: Window, part: Tensor): Promise<Tensor> {
    const model = this.stage.models[window.model]!;
    if (!this.stripsTakeTurns) {
      for (const strip of this.kept.keys()) if (strip !== window.strip) this.kept.delete(strip);
    }
    const states = this.kept.get(window.strip) ?? new Map<string, Tensor>();
    this.kept.set(window.strip, states);
    const feeds: Record<string, Tensor> = {};
    for (const port of model.before) feeds[port.name] = kept(states, port.state);
    if (sizeOf(part.shape) > 0) feeds[this.stage.input] = part;
    const made = await this.run(model.file, feeds);
    for (const port of model.after) states.set(port.state, made[port.name]!);
    const written = made[this.stage.output]!;
    return window.take === null ? written : taken(written, window);
  }
}

function kept(states: ReadonlyMap<string, Tensor>, state: string): Tensor {
  const tensor = states.get(state);
  if (tensor === undefined) throw new Error(`The plan reads '${state}' before it is kept; export the model again.`);
  return tensor;
}

function taken(written: Tensor, window: Window): Tensor {
  const box = window.take!;
  const inside = box.every(([start, stop], dim) => start >= 0 && stop <= written.shape[dim]!);
  if (!inside || box.length !== written.shape.length) {
    throw new Error(`A window takes ${shapeOf(box).join("x")} of ${written.shape.join("x")}; export the model again.`);
  }
  return sameShape(shapeOf(box), written.shape) ? written : partOf(written, box);
}
