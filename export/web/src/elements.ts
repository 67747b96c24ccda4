// The page's own elements, by their ids, and small new ones.

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`The page has no element '${id}'.`);
  return found as T;
}

export function made<K extends keyof HTMLElementTagNameMap>(
  tag: K, text = "", classes = "",
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = classes;
  return element;
}

/** A large number and its small unit. */
export function figure(element: HTMLElement, number: string, unit: string): void {
  element.replaceChildren(number, made("small", unit));
}

export function rows(list: HTMLElement, facts: readonly (readonly [string, string])[]): void {
  list.replaceChildren(...facts.flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
}

/** A button that asks for a file. */
export function fileButton(text: string, accept: string, take: (file: File) => void): HTMLElement {
  const label = made("label", text, "file");
  const input = made("input");
  input.type = "file";
  input.accept = accept;
  input.addEventListener("change", () => input.files?.[0] && take(input.files[0]));
  label.append(input);
  return label;
}

export function slider(
  text: string, [low, high, step]: readonly [number, number, number], value: number, changed: (value: number) => void,
): HTMLElement {
  const label = made("label", text, "slider");
  const input = made("input");
  Object.assign(input, { type: "range", min: String(low), max: String(high), step: String(step), value: String(value) });
  const shown = made("output", String(value));
  input.addEventListener("input", () => {
    shown.textContent = input.value;
    changed(Number(input.value));
  });
  label.append(input, shown);
  return label;
}

export function canvasOf(width: number, height: number): [HTMLCanvasElement, CanvasRenderingContext2D] {
  const canvas = made("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("This browser draws on no canvas.");
  return [canvas, context];
}

export function captioned(canvas: HTMLCanvasElement, caption: string): HTMLElement {
  const box = made("div");
  box.append(canvas);
  if (caption) box.append(made("figcaption", caption));
  return box;
}
