/** A histogram as Prometheus has it: how many were at most so long, for each bound, the last of which is infinite. */
export interface HistogramValues {
  readonly buckets: readonly { readonly upToSeconds: number; readonly count: number }[];
  readonly sumSeconds: number;
  readonly count: number;
}

/** How long things took, in a fixed row of plain numbers: counting one allocates nothing. */
export class DurationHistogram {
  readonly #boundsSeconds: readonly number[];
  readonly #boundsMs: readonly number[];
  readonly #counts: Float64Array;
  #sumMs = 0;

  /** @param boundsSeconds ascending; what is longer than the last is counted, too */
  constructor(boundsSeconds: readonly number[]) {
    this.#boundsSeconds = [...boundsSeconds, Number.POSITIVE_INFINITY];
    this.#boundsMs = this.#boundsSeconds.map((bound) => bound * 1_000);
    this.#counts = new Float64Array(this.#boundsMs.length);
  }

  add(ms: number): void {
    let bucket = 0;
    while (ms > (this.#boundsMs[bucket] ?? ms)) bucket++;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sumMs += ms;
  }

  values(): HistogramValues {
    let count = 0;
    const buckets = this.#boundsSeconds.map((upToSeconds, index) => {
      count += this.#counts[index] ?? 0;
      return { upToSeconds, count };
    });
    return { buckets, sumSeconds: this.#sumMs / 1_000, count };
  }
}
