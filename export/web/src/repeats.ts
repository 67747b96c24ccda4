// A stream's plan for an input of another length: its steady windows more or less often.

import type { Plan, PlannedTensor, Repeat, Stage, Window } from "./plan.ts";
import { type Box, sameShape } from "./tensor.ts";

/** Throws an Error with a sentence for a shape that no number of repetitions makes. */
export function forInput(plan: Plan, shape: readonly number[]): Plan {
  const stage = plan.stages[0]!;
  const planned = plan.tensors[stage.source]!.shape;
  if (sameShape(shape, planned)) return plan;
  const { repeat } = stage;
  if (plan.stages.length > 1 || repeat === null || shape.length !== planned.length) {
    throw new Error(`'${stage.source}' has the shape ${planned.join("x")}, not ${shape.join("x")}.`);
  }
  const beyond = shape[repeat.dim]! - planned[repeat.dim]!;
  const more = Math.floor(beyond / repeat.read_by);
  const fits = beyond % repeat.read_by === 0 && sameShape(longer(planned, repeat.dim, beyond), shape);
  if (!fits || more < -repeat.times || shape[repeat.dim]! < 1) {
    const shortest = planned[repeat.dim]! - repeat.times * repeat.read_by;
    throw new Error(
      `'${stage.source}' streams at ${shortest} + n * ${repeat.read_by} along dimension ` +
        `${repeat.dim} of ${planned.join("x")}, not at ${shape.join("x")}.`,
    );
  }
  const tensors: Record<string, PlannedTensor> = { ...plan.tensors };
  for (const [name, dim, by] of [
    [stage.source, repeat.dim, more * repeat.read_by],
    [stage.result, repeat.result_dim, more * repeat.write_by],
  ] as const) {
    const tensor = plan.tensors[name]!;
    tensors[name] = { ...tensor, shape: longer(tensor.shape, dim, by) };
  }
  return { ...plan, tensors, stages: [repeated(stage, repeat, more)] };
}

function repeated(stage: Stage, repeat: Repeat, more: number): Stage {
  const once = stage.windows.slice(repeat.first, repeat.first + repeat.windows);
  const times = repeat.times + more;
  const steady = Array.from({ length: times }, (_, number) =>
    once.map((window) => further(window, repeat, number)),
  );
  const behind = stage.windows
    .slice(repeat.first + repeat.windows * repeat.times)
    .map((window) => further(window, repeat, more));
  const windows = [...stage.windows.slice(0, repeat.first), ...steady.flat(), ...behind];
  return { ...stage, windows, repeat: { ...repeat, times } };
}

/** A window as many repetitions further on. */
function further(window: Window, repeat: Repeat, times: number): Window {
  return {
    ...window,
    read: shifted(window.read, repeat.dim, times * repeat.read_by),
    write: shifted(window.write, repeat.result_dim, times * repeat.write_by),
  };
}

function shifted(box: Box, moved: number, by: number): Box {
  return box.map(([start, stop], dim) => (dim === moved ? [start + by, stop + by] : [start, stop]));
}

function longer(shape: readonly number[], grown: number, by: number): number[] {
  return shape.map((side, dim) => (dim === grown ? side + by : side));
}
