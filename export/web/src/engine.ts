// A bundle that is open: its files as sessions, its plan as a loop, its golden pair as a proof.

import { Bundle } from "./bundle.ts";
import { type Verdict, judge } from "./golden.ts";
import { type HostPeak, runPlan } from "./interpreter.ts";
import type { Manifest } from "./manifest.ts";
import { runsOfFiles } from "./plan.ts";
import { Models } from "./session.ts";
import { SplitEngine } from "./split.ts";
import type { Tensors } from "./tensor.ts";

export interface PlanFacts {
  readonly stages: number;
  readonly windows: number;
  /** Predicted live activations of the unplanned network, and of the plan. */
  readonly whole_peak_bytes: number;
  readonly peak_bytes: number;
}

export class Engine {
  /** Of the arrays that the loop over windows held, beside the runtime's memory. */
  readonly hostPeak: HostPeak = { bytes: 0 };

  private constructor(
    readonly bundle: Bundle, private readonly models: Models, readonly split: SplitEngine | null,
  ) {}

  /** Throws an Error with a sentence. */
  static async open(address: string): Promise<Engine> {
    const bundle = await Bundle.open(address);
    const models = new Models();
    if (bundle.manifest.split) {
      return new Engine(bundle, models, await SplitEngine.open(bundle, models));
    }
    const files = bundle.plan ? [...runsOfFiles(bundle.plan).keys()] : [bundle.manifest.model];
    await models.openAll(files, (file) => bundle.file(file));
    return new Engine(bundle, models, null);
  }

  get manifest(): Manifest {
    return this.bundle.manifest;
  }

  get planFacts(): PlanFacts | null {
    const { plan } = this.bundle;
    if (plan === null) return null;
    const windows = plan.stages.reduce((sum, stage) => sum + stage.windows.length, 0);
    return { stages: plan.stages.length, windows, whole_peak_bytes: plan.whole_peak_bytes, peak_bytes: plan.peak_bytes };
  }

  /** The whole network's outputs; of a split one, head and tails here. */
  async run(inputs: Tensors): Promise<Tensors> {
    if (this.split) return this.split.run(inputs);
    const { plan, manifest } = this.bundle;
    if (plan === null) return this.models.run(manifest.model, inputs);
    const names = manifest.outputs.map((spec) => spec.name);
    return runPlan(plan, inputs, names, (file, feeds) => this.models.run(file, feeds), this.hostPeak);
  }

  /** Whether the golden input gives the golden output here. */
  async prove(): Promise<{ verdict: Verdict; outputs: Tensors }> {
    const inputs = await this.bundle.golden("input.");
    if (this.split) return this.split.prove(inputs);
    const outputs = await this.run(inputs);
    return { verdict: judge(this.manifest, await this.bundle.golden("output."), outputs), outputs };
  }
}
