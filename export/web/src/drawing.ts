// Boxes on a canvas, with labels that can be read.

import type { Detection } from "./boxes.ts";
import type { Corners } from "./letterbox.ts";

/** Of the colour circle from one class to the next: no two near ones look alike. */
const GOLDEN_TURN = 0.61803398875;

export function drawBoxes(context: CanvasRenderingContext2D, found: readonly Detection[]): void {
  const { width, height } = context.canvas;
  const side = Math.sqrt(width * height);
  const line = Math.max(2, Math.round(side / 260));
  const letters = Math.max(12, Math.round(side / 38));
  context.font = `600 ${letters}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const { box, label } of [...found].reverse()) {
    frame(context, box, "rgb(0 0 0 / 55%)", line + 2);
    frame(context, box, colourOf(label), line);
  }
  for (const one of [...found].reverse()) drawLabel(context, one, letters);
}

function frame(context: CanvasRenderingContext2D, [x1, y1, x2, y2]: Corners, colour: string, line: number): void {
  context.strokeStyle = colour;
  context.lineWidth = line;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

function drawLabel(context: CanvasRenderingContext2D, { box, label, name, score }: Detection, letters: number): void {
  const text = `${name} ${score.toFixed(2)}`;
  const [width, height] = [context.measureText(text).width + letters, letters * 1.5];
  const x = Math.max(0, Math.min(box[0], context.canvas.width - width));
  const y = box[1] >= height ? box[1] - height : box[1];
  context.fillStyle = colourOf(label);
  context.beginPath();
  context.roundRect(x, y, width, height, letters / 4);
  context.fill();
  context.fillStyle = lightnessOf(label) > 50 ? "#10141a" : "#ffffff";
  context.fillText(text, x + letters / 2, y + height / 2);
}

/** Saturated and neither black nor white; lighter and darker by turns. */
export function colourOf(label: number): string {
  return `hsl(${Math.round(((0.44 + label * GOLDEN_TURN) % 1) * 360)} 82% ${lightnessOf(label)}%)`;
}

function lightnessOf(label: number): number {
  return [55, 42, 66][label % 3]!;
}
