// Times of runs, and what is told of them.

export interface Latency {
  readonly runs: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly min: number;
  /** Milliseconds, in the order of the runs. */
  readonly samples: readonly number[];
}

/** Linear between the two nearest samples, as NumPy computes it. */
export function percentile(samples: readonly number[], percent: number): number {
  const sorted = [...samples].sort((one, other) => one - other);
  const place = (percent / 100) * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (place - low);
}

export function latencyOf(samples: readonly number[]): Latency {
  return {
    runs: samples.length,
    p50: percentile(samples, 50),
    p90: percentile(samples, 90),
    p99: percentile(samples, 99),
    min: Math.min(...samples),
    samples,
  };
}

/** Times of `run` until `seconds` are over and at least `fewest` have been taken. */
export async function sample(run: () => Promise<unknown>, seconds: number, fewest: number): Promise<number[]> {
  const samples: number[] = [];
  const end = performance.now() + 1000 * seconds;
  while (samples.length < fewest || performance.now() < end) {
    const started = performance.now();
    await run();
    samples.push(performance.now() - started);
  }
  return samples;
}
