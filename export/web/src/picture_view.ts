// The stage of networks that take pictures: boxes, classes, or the picture that comes out.

import { type Detection, detections } from "./boxes.ts";
import type { Calls, Opened } from "./calls.ts";
import { colourOf, drawBoxes } from "./drawing.ts";
import { byId, canvasOf, captioned, fileButton, made, slider } from "./elements.ts";
import { toImageData, toRgba } from "./image.ts";
import type { Placement } from "./letterbox.ts";
import { type Thresholds, boxesOf } from "./manifest.ts";
import { type Pixels, withoutAlpha } from "./resize.ts";
import type { Sent } from "./split.ts";
import { type Tensors, numbers } from "./tensor.ts";

const SHOWN_CLASSES = 5;
const LEAST_SCORE = 0.01;
/** Of networks that find no boxes. */
const NOTHING: Thresholds = { score: 1, iou: 1, limit: 1 };

interface Shown {
  readonly source: CanvasImageSource;
  readonly width: number;
  readonly height: number;
  readonly pixels: Pixels;
  readonly outputs: Tensors;
  readonly placement: Placement;
  /** What the network was given; of a split network, only its packet is known. */
  readonly seen: Pixels | null;
}

export class PictureView {
  private thresholds: Thresholds;
  private keep: number;
  private shown: Shown | null = null;
  private camera: MediaStream | null = null;

  /** `relay`: the address that forwards packets, of a split bundle. `told` hears how long the parts took. */
  constructor(
    private readonly calls: Calls, private readonly opened: Opened, private readonly relay: string,
    private readonly told: (ms: Readonly<Record<string, number>>) => void, score?: number,
  ) {
    const { score: least, iou, limit } = opened.manifest.suppression ?? boxesOf(opened.manifest) ?? NOTHING;
    this.thresholds = { score: score ?? least, iou, limit };
    this.keep = opened.manifest.split?.channels ?? 0;
    this.addControls();
  }

  private addControls(): void {
    const picture = fileButton("Picture", "image/*", (file) => void this.showFile(file));
    picture.classList.add("primary");
    const camera = made("button", "Camera");
    camera.addEventListener("click", () => void this.toggleCamera(camera));
    const row = made("div", "", "row");
    row.append(picture, camera);
    byId("controls").append(row);
    const { manifest } = this.opened;
    if (boxesOf(manifest)) {
      const least = manifest.suppression?.score ?? LEAST_SCORE;
      byId("controls").append(
        slider("Score", [least, 1, 0.01], this.thresholds.score, (score) => {
          this.thresholds = { ...this.thresholds, score };
          this.draw();
        }),
      );
    }
    const { split } = manifest;
    if (split && split.channels > (split.least_kept ?? 1)) {
      byId("controls").append(
        slider("Channels", [split.least_kept ?? 1, split.channels, 1], this.keep, (keep) => {
          this.keep = keep;
          if (this.shown) void this.compute(this.shown.source, this.shown.width, this.shown.height);
        }),
      );
    }
  }

  async showFile(file: Blob): Promise<void> {
    this.stopCamera();
    let bitmap: ImageBitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      return say("This file is no picture that the browser can read.", true);
    }
    await this.compute(bitmap, bitmap.width, bitmap.height);
  }

  /** Found boxes of what is shown, for whoever drives the page. */
  get found(): readonly Detection[] {
    if (this.shown === null || !boxesOf(this.opened.manifest)) return [];
    return detections(this.opened.manifest, this.shown.outputs, this.shown.placement, this.thresholds);
  }

  /** Says in the page why it could not be done. */
  private async compute(source: CanvasImageSource, width: number, height: number): Promise<void> {
    try {
      await this.computeOrThrow(source, width, height);
    } catch (error) {
      this.stopCamera();
      say(error instanceof Error ? error.message : String(error), true);
    }
  }

  private async computeOrThrow(source: CanvasImageSource, width: number, height: number): Promise<void> {
    const [, context] = canvasOf(width, height);
    context.drawImage(source, 0, 0);
    const pixels = withoutAlpha(context.getImageData(0, 0, width, height).data, width, height);
    const picture = { source, width, height, pixels };
    const started = performance.now();
    if (this.opened.manifest.split) {
      const sent = await this.calls.send(pixels, this.keep, this.relay);
      this.shown = { ...picture, seen: null, outputs: sent.outputs, placement: sent.placement! };
      saySent(sent, this.opened.manifest.split.channels);
      this.draw();
      this.told({ ...sent.ms, total: performance.now() - started });
      return;
    }
    const looked = await this.calls.look(pixels);
    this.shown = { ...picture, seen: looked.seen, outputs: looked.outputs, placement: looked.placement };
    const computed = performance.now();
    this.draw();
    const drawn = performance.now();
    this.told({ "resize and normalise": looked.prepare_ms, network: looked.run_ms, "choose and draw": drawn - computed });
  }

  private draw(): void {
    if (this.shown === null) return;
    const { manifest } = this.opened;
    const kind = manifest.image?.output.kind;
    const { source, width, height, outputs } = this.shown;
    const [canvas, context] = canvasOf(width, height);
    context.drawImage(source, 0, 0);
    const figures = [captioned(canvas, "")];
    if (kind === "boxes") {
      drawBoxes(context, this.found);
      listBoxes(this.found);
    } else if (kind === "logits") {
      listClasses(numbers(outputs["logits"] ?? Object.values(outputs)[0]!));
    } else {
      const spec = manifest.outputs[0]!;
      const image = toRgba(outputs[spec.name]!, spec);
      const [result, pen] = canvasOf(image.width, image.height);
      pen.putImageData(image, 0, 0);
      const { seen } = this.shown;
      const [given, brush] = canvasOf(seen?.width ?? width, seen?.height ?? height);
      if (seen) brush.putImageData(toImageData(seen), 0, 0);
      figures.splice(0, 1, captioned(given, "what the network was given"), captioned(result, "what it made of it"));
    }
    byId("show").replaceChildren(...figures);
  }

  private async toggleCamera(button: HTMLButtonElement): Promise<void> {
    if (this.camera) return this.stopCamera();
    try {
      this.camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      return say("There is no camera here, or it was not allowed.", true);
    }
    say("");
    button.textContent = "Stop";
    const video = document.createElement("video");
    video.srcObject = this.camera;
    await video.play();
    while (this.camera) {
      await this.compute(video, video.videoWidth, video.videoHeight);
      await new Promise(requestAnimationFrame);
    }
    button.textContent = "Camera";
  }

  private stopCamera(): void {
    this.camera?.getTracks().forEach((track) => track.stop());
    this.camera = null;
  }
}

function listBoxes(found: readonly Detection[]): void {
  byId("found").replaceChildren(...found.map(({ name, label, score }) => bar(name, score.toFixed(2), score, colourOf(label))));
  say(found.length ? "" : "No box has a score that high.");
}

function listClasses(logits: ArrayLike<number>): void {
  const values = Array.from(logits);
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  const best = powers.map((power, index) => ({ index, share: power / sum })).sort((a, b) => b.share - a.share);
  byId("found").replaceChildren(
    ...best.slice(0, SHOWN_CLASSES).map(({ index, share }) =>
      bar(`class ${index}`, `${(100 * share).toFixed(1)} %`, share, colourOf(index)),
    ),
  );
}

function bar(name: string, value: string, share: number, colour: string): HTMLElement {
  const item = made("li");
  item.style.setProperty("--colour", colour);
  item.style.setProperty("--share", `${(100 * share).toFixed(1)}%`);
  item.append(made("i"), made("b", name), made("em", value), made("span"));
  return item;
}

function saySent(sent: Sent, channels: number): void {
  const by = {
    server: `The tail's server answered a packet of ${sent.packet_bytes} bytes: ${sent.channels} of ${channels} channels.`,
    here: `${sent.why} The bundle's own tail computed the answer here, of ${sent.packet_bytes} bytes.`,
    exit: "The head's early exit was sure, so nothing was sent.",
  };
  say(by[sent.answered_by], sent.answered_by === "here" && sent.why !== "");
}

function say(sentence: string, isBad = false): void {
  byId("said").textContent = sentence;
  byId("said").classList.toggle("bad", isBad);
}
