// A bundle's manifest.json: the contract, and what must be proved.

export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly axes: string;
  readonly low: number | null;
  readonly high: number | null;
  readonly meaning: string;
}

/** What boxes must reach, as edgekit's DetectionGate. */
export interface BoxesGate {
  readonly matched: number;
  readonly mean_iou: number;
  readonly corner_px: number;
  readonly score_difference: number;
  readonly psnr_db: number | null;
}

export interface Gate {
  readonly psnr_db: number;
  readonly integers_differ: number;
  readonly detections?: BoxesGate;
}

export interface Thresholds {
  readonly score: number;
  readonly iou: number;
  readonly limit: number;
}

export interface BoxesOutput extends Thresholds {
  readonly kind: "boxes";
  readonly names: readonly string[];
  readonly resize: "letterbox" | "stretch";
  readonly fill: number;
}

export interface ImageContract {
  readonly order: "RGB" | "BGR";
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly output: BoxesOutput | { readonly kind: "logits" } | { readonly kind: "picture" };
}

export interface SplitFacts {
  readonly coding: "entropy" | "calibrated" | "dynamic";
  readonly hash: string;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly head: string;
  readonly head_output: string;
  readonly head_hash: string;
  readonly tails: Readonly<Record<string, string>>;
  readonly least_kept: number | null;
  readonly tail_gate_db: number;
  readonly both_gate_db: number;
  readonly exit: { readonly output: string; readonly threshold: number } | null;
}

export interface Manifest {
  readonly name: string;
  readonly target: string;
  readonly precision: string;
  readonly model: string;
  readonly format: string;
  readonly files: Readonly<Record<string, string>>;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly gate: Gate;
  readonly image?: ImageContract | null;
  readonly takes_pixels?: boolean;
  readonly suppression?: Thresholds | null;
  readonly split?: SplitFacts | null;
}

/** Throws an Error with a sentence for what this host cannot run. */
export function readManifest(text: string): Manifest {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(text);
  } catch {
    throw new Error("manifest.json is damaged; export the model again.");
  }
  for (const field of ["name", "model", "format", "files", "inputs", "outputs", "gate"] as const) {
    if (manifest?.[field] === undefined) {
      throw new Error(`manifest.json is damaged (no '${field}'); export the model again.`);
    }
  }
  if (manifest.format !== "onnx") {
    throw new Error(`${manifest.name} is a ${manifest.format} bundle; a browser runs ONNX: export it with --target onnx.`);
  }
  return manifest;
}

export function boxesOf(manifest: Manifest): BoxesOutput | undefined {
  const output = manifest.image?.output;
  return output?.kind === "boxes" ? output : undefined;
}
