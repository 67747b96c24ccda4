// A bundle's plan.json: plain tables; edgekit/plan/plan.py says what each number means.

import { type Box, type DType, isDType } from "./tensor.ts";

export interface PlannedTensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** Where a model takes, or gives, lines that a stream keeps. */
export interface Port extends PlannedTensor {
  readonly state: string;
  readonly name: string;
}

export interface ModelFile {
  readonly file: string;
  readonly before: readonly Port[];
  readonly after: readonly Port[];
  readonly session: string;
}

export interface Window {
  readonly model: number;
  readonly read: Box;
  readonly write: Box;
  readonly share: number;
  readonly strip: number;
  readonly take: Box | null;
}

export interface Repeat {
  readonly first: number;
  readonly windows: number;
  readonly times: number;
  readonly dim: number;
  readonly read_by: number;
  readonly result_dim: number;
  readonly write_by: number;
}

export interface Stage {
  readonly models: readonly ModelFile[];
  readonly source: string;
  readonly result: string;
  readonly input: string;
  readonly output: string;
  readonly windows: readonly Window[];
  readonly averaged: boolean;
  readonly repeat: Repeat | null;
}

export interface Plan {
  readonly tensors: Readonly<Record<string, PlannedTensor>>;
  readonly stages: readonly Stage[];
  readonly columns: Readonly<Record<string, readonly [number, number]>>;
  readonly whole_peak_bytes: number;
  readonly peak_bytes: number;
}

/** Throws an Error with a sentence for tables that no interpreter could follow. */
export function readPlan(text: string): Plan {
  const damaged = (why: string) => new Error(`plan.json is damaged (${why}); export the model again.`);
  let plan: Plan & { schema: number };
  try {
    plan = JSON.parse(text);
  } catch {
    throw damaged("it is no JSON");
  }
  if (plan?.schema !== 1) throw damaged(`schema ${plan?.schema}`);
  if (!Array.isArray(plan.stages) || plan.stages.length === 0) throw damaged("it has no stages");
  for (const stage of plan.stages) {
    for (const name of [stage.source, stage.result]) {
      const tensor = plan.tensors?.[name];
      if (!tensor || !isDType(tensor.dtype)) throw damaged(`no tensor '${name}' that can be held`);
    }
    for (const window of stage.windows) {
      if (!stage.models[window.model]) throw damaged("a window names a model that its stage lacks");
    }
  }
  return plan;
}

/** All model files, with how often one result needs them. */
export function runsOfFiles(plan: Plan): Map<string, number> {
  const runs = new Map<string, number>();
  for (const stage of plan.stages) {
    for (const window of stage.windows) {
      const { file } = stage.models[window.model]!;
      runs.set(file, (runs.get(file) ?? 0) + 1);
    }
  }
  return runs;
}
