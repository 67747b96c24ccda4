// The boxes of a detector's outputs: class-aware greedy suppression, as edgekit/detection/suppression.py.

import { type Corners, type Placement, toPicture } from "./letterbox.ts";
import { type Manifest, type Thresholds, boxesOf } from "./manifest.ts";
import { type Tensor, type Tensors, numbers } from "./tensor.ts";

export interface Detection {
  readonly name: string;
  readonly label: number;
  readonly score: number;
  readonly box: Corners;
}

interface Found {
  readonly row: number;
  readonly label: number;
  readonly score: number;
  readonly corners: Corners;
}

/** In pixels of the picture, best first. Throws an Error for outputs of something else than a detector. */
export function detections(
  manifest: Manifest, outputs: Tensors, placement: Placement, thresholds: Thresholds,
): Detection[] {
  const { boxes, scores, labels } = outputs;
  if (!boxes || !scores) throw new Error(`${manifest.name} gives no boxes and scores.`);
  const names = boxesOf(manifest)?.names ?? [];
  const found = labels ? rowsInUse(boxes, scores, labels, thresholds.score) : suppressed(boxes, scores, thresholds);
  return found.flatMap(({ label, score, corners }) => {
    const box = toPicture(placement, corners);
    return box ? [{ name: names[label] || `class ${label}`, label, score, box }] : [];
  });
}

/** Of a file that suppresses by itself: unused rows have the label -1. */
function rowsInUse(boxes: Tensor, scores: Tensor, labels: Tensor, least: number): Found[] {
  const [all, values] = [numbers(boxes), numbers(scores)];
  return Array.from(numbers(labels), (label, row) => ({ row, label, score: values[row]!, corners: cornersAt(all, row) }))
    .filter(({ label, score }) => label >= 0 && score > Math.fround(least));
}

/**
 * The best `limit` of boxes 1 A 4 with scores 1 A C that no better one of their class covers. Of equal
 * scores the earlier box is the better, then the earlier class.
 */
export function suppressed(boxes: Tensor, scores: Tensor, { score, iou, limit }: Thresholds): Found[] {
  const [all, values] = [numbers(boxes), numbers(scores)];
  const [, candidates, classes] = scores.shape as [number, number, number];
  const kept: Found[] = [];
  for (let label = 0; label < classes; label++) {
    const queue: Found[] = [];
    for (let row = 0; row < candidates; row++) {
      const value = values[row * classes + label]!;
      if (!(value > Math.fround(score))) continue;
      const corners = cornersAt(all, row);
      if (corners.every(Number.isFinite)) queue.push({ row, label, score: value, corners });
    }
    kept.push(...greedy(queue.sort(better), iou, limit));
  }
  return kept.sort(better).slice(0, limit); // sorting is stable: of one row, the earlier class stays first
}

function better(one: Found, other: Found): number {
  return other.score - one.score;
}

function greedy(queue: readonly Found[], iou: number, limit: number): Found[] {
  const kept: Found[] = [];
  for (const next of queue) {
    if (kept.length === limit) break;
    if (iou >= 1 || kept.every((one) => overlap(one.corners, next.corners) <= Math.fround(iou))) kept.push(next);
  }
  return kept;
}

/** Intersection over union in single precision. Corners may come in any order; a box without area has none. */
export function overlap(one: Corners, other: Corners): number {
  const f = Math.fround;
  const [a, b] = [ordered(one), ordered(other)];
  const width = f(Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = f(Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const shared = f(Math.max(width, 0) * Math.max(height, 0));
  const [area, others] = [areaOf(a), areaOf(b)];
  if (shared <= 0 || area <= 0 || others <= 0) return 0;
  return f(shared / f(f(area + others) - shared));
}

function areaOf([x1, y1, x2, y2]: Corners): number {
  return Math.fround(Math.fround(x2 - x1) * Math.fround(y2 - y1));
}

function ordered([x1, y1, x2, y2]: Corners): Corners {
  return [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
}

function cornersAt(all: ArrayLike<number>, row: number): Corners {
  return [all[4 * row]!, all[4 * row + 1]!, all[4 * row + 2]!, all[4 * row + 3]!];
}
