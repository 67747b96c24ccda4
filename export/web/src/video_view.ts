// The stage of video decoders: what was decoded here beside a reference, frame by frame.

import type { Calls, Opened } from "./calls.ts";
import { byId, canvasOf, captioned, fileButton, made } from "./elements.ts";
import { type Frames, framesOf, psnrOfFrames, referenceFrames } from "./frames.ts";
import { readNpy } from "./npy.ts";
import type { Tensor } from "./tensor.ts";

const FRAMES_PER_SECOND = 12;

export class VideoView {
  private decoded: Frames | null = null;
  private reference: Frames | null = null;
  private frame = 0;
  private timer = 0;
  private readonly play = made("button", "Play", "primary");
  private readonly place = made("input");

  constructor(
    private readonly calls: Calls, private readonly opened: Opened,
    private readonly told: (ms: Readonly<Record<string, number>>) => void,
  ) {
    this.play.addEventListener("click", () => this.toggle());
    Object.assign(this.place, { type: "range", min: "0", value: "0", step: "1" });
    this.place.addEventListener("input", () => this.show(Number(this.place.value)));
    const latent = fileButton("Latent", ".npy", (file) => void this.said(this.decodeFile(file)));
    const reference = fileButton("Reference", ".npy", (file) => void this.said(this.compareFile(file)));
    const row = made("div", "", "row");
    row.append(latent, reference);
    byId("controls").append(this.play, this.place, row);
  }

  /** The golden pair: what was decoded of it here, and the model's own output. */
  showPair(decoded: Tensor, reference: Tensor): void {
    const spec = this.opened.manifest.outputs[0]!;
    this.decoded = framesOf(decoded, spec);
    this.reference = framesOf(reference, spec);
    this.show(0);
  }

  async decodeFile(file: Blob): Promise<void> {
    const latent = readNpy(new Uint8Array(await file.arrayBuffer()));
    const { inputs, outputs } = this.opened.manifest;
    const run = await this.calls.run({ [inputs[0]!.name]: latent });
    this.decoded = framesOf(run.outputs[outputs[0]!.name]!, outputs[0]!);
    this.reference = null;
    this.show(0);
    this.told({ decode: run.ms, "a frame": run.ms / this.decoded.count });
  }

  async compareFile(file: Blob): Promise<void> {
    this.reference = referenceFrames(readNpy(new Uint8Array(await file.arrayBuffer())), this.opened.manifest.outputs[0]!);
    this.show(this.frame);
  }

  private show(frame: number): void {
    const { decoded, reference } = this;
    if (decoded === null) return;
    this.frame = frame % decoded.count;
    this.place.max = String(decoded.count - 1);
    this.place.value = String(this.frame);
    const here = decoded.at(this.frame);
    const figures = [drawn(here, "decoded here")];
    let told = `Frame ${this.frame + 1} of ${decoded.count}, ${decoded.width}×${decoded.height}.`;
    if (reference && this.frame < reference.count) {
      const wanted = reference.at(this.frame);
      figures.push(drawn(wanted, "reference"));
      const decibels = psnrOfFrames(here, wanted);
      if (decibels !== null) told += decibels === Infinity ? " Every pixel is the reference's." : ` ${decibels.toFixed(2)} dB against the reference.`;
    }
    byId("show").replaceChildren(...figures);
    byId("said").textContent = told;
    byId("said").classList.remove("bad");
  }

  private toggle(): void {
    const isPlaying = this.timer !== 0;
    clearInterval(this.timer);
    this.timer = isPlaying ? 0 : window.setInterval(() => this.show(this.frame + 1), 1000 / FRAMES_PER_SECOND);
    this.play.textContent = isPlaying ? "Play" : "Pause";
  }

  private async said(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      byId("said").textContent = error instanceof Error ? error.message : String(error);
      byId("said").classList.add("bad");
    }
  }
}

function drawn(image: ImageData, caption: string): HTMLElement {
  const [canvas, context] = canvasOf(image.width, image.height);
  context.putImageData(image, 0, 0);
  return captioned(canvas, caption);
}
