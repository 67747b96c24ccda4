// Rounding as Python and NumPy do it.

/** Halves go to the even number. */
export function evenRound(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
