// Boxes of a file that suppresses by itself against those that were promised: export/vectors/README.md has the rule.

import { overlap } from "./boxes.ts";
import type { Corners } from "./letterbox.ts";
import type { BoxesGate, Thresholds } from "./manifest.ts";
import { type Tensors, numbers } from "./tensor.ts";

/** Boxes that overlap by less are not the same. */
const SAME_IOU = 0.5;
/** A box that covers another by so much less than suppression asks for may suppress it elsewhere. */
const IOU_MARGIN = 0.05;

export interface Row {
  readonly corners: Corners;
  readonly score: number;
  readonly label: number;
}

export interface Matched {
  readonly pairs: readonly (readonly [expected: Row, found: Row])[];
  /** Whether few enough boxes of either side lack their twin. */
  readonly complete: boolean;
  readonly boxesAreNear: boolean;
  readonly scoresAreNear: boolean;
}

export function matchedBoxes(expected: Tensors, found: Tensors, gate: BoxesGate, within: Thresholds): Matched {
  const [ours, theirs] = [rowsInUse(expected), rowsInUse(found)];
  const pairs = twins(ours, theirs);
  const far = pairs.filter(([one, other]) => apart(one, other) > gate.corner_px);
  const mean = far.reduce((sum, [one, other]) => sum + overlap(one.corners, other.corners), 0) / far.length;
  return {
    pairs,
    complete:
      fewLackTwins(ours, new Set(pairs.map(([one]) => one)), theirs, gate, within) &&
      fewLackTwins(theirs, new Set(pairs.map(([, other]) => other)), ours, gate, within),
    boxesAreNear: far.length === 0 || mean >= gate.mean_iou,
    scoresAreNear: pairs.every(([one, other]) => Math.abs(one.score - other.score) <= gate.score_difference),
  };
}

function rowsInUse({ boxes, scores, labels }: Tensors): Row[] {
  const [corners, values] = [numbers(boxes!), numbers(scores!)];
  return Array.from(numbers(labels!), (label, row) => ({
    corners: Array.from({ length: 4 }, (_, side) => corners[4 * row + side]!) as unknown as Corners,
    score: values[row]!,
    label,
  })).filter(({ label }) => label >= 0);
}

/** Each expected row, best score first, with the free one of its label that covers it best. */
function twins(ours: readonly Row[], theirs: readonly Row[]): [Row, Row][] {
  const free = new Set(theirs);
  const pairs: [Row, Row][] = [];
  for (const one of ours) {
    let [best, most]: [Row | undefined, number] = [undefined, -1];
    for (const other of free) {
      const iou = other.label === one.label ? overlap(one.corners, other.corners) : -1;
      if (iou >= SAME_IOU && iou > most) [best, most] = [other, iou];
    }
    if (best === undefined) continue;
    free.delete(best);
    pairs.push([one, best]);
  }
  return pairs;
}

/** But for those that the other side lost by all but equal scores, or just does not show. */
function fewLackTwins(
  side: readonly Row[], paired: ReadonlySet<Row>, other: readonly Row[], gate: BoxesGate, within: Thresholds,
): boolean {
  const lowest = other.length >= within.limit ? Math.min(...other.map(({ score }) => score)) : 0;
  const least = Math.max(within.score, lowest) + gate.score_difference;
  const lostTo = (one: Row, better: Row) =>
    better.label === one.label &&
    better.score >= one.score - gate.score_difference &&
    overlap(one.corners, better.corners) > within.iou - IOU_MARGIN;
  /** Which suppression would have taken for a row before it. */
  const isCovered = (one: Row, at: number) =>
    side.slice(0, at).some((before) => before.label === one.label && overlap(before.corners, one.corners) > within.iou + IOU_MARGIN);
  const isExcused = (one: Row, at: number) =>
    one.score <= least || (other.some((better) => lostTo(one, better)) && !isCovered(one, at));
  const lacking = side.filter((one, at) => !paired.has(one) && !isExcused(one, at));
  return lacking.length <= (1 - gate.matched) * side.length;
}

function apart(one: Row, other: Row): number {
  return Math.max(...one.corners.map((side, at) => Math.abs(side - other.corners[at]!)));
}
