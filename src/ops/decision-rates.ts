import type { Reason } from '../decision/decide.ts';
import { type Counters, forEachReason } from '../metrics/counters.ts';

/** Decisions a second by reason, over about a second. */
export interface RateSample {
  /** In milliseconds since 1970. */
  readonly atMs: number;
  readonly perSecond: Readonly<Record<Reason, number>>;
}

const SAMPLE_INTERVAL_MS = 1_000;
const MAX_KEPT = 120;

/** Over how many samples "now" is: one alone would jump between 0 and 1 where there is little to do. */
const SAMPLES_OF_NOW = 5;

/** Decisions a second, for people: the last two minutes, so that a graph has something to show when it is opened. */
export class DecisionRates {
  readonly #counters: Counters;
  readonly #samples: RateSample[] = [];
  readonly #listeners = new Set<(sample: RateSample) => void>();
  readonly #timer: NodeJS.Timeout;
  #totals: Record<Reason, number>;
  #sampledAtMs = performance.now();

  constructor(counters: Counters) {
    this.#counters = counters;
    this.#totals = counters.decisionTotals();
    this.#timer = setInterval(() => this.#sample(), SAMPLE_INTERVAL_MS);
    this.#timer.unref();
  }

  /** The oldest first. */
  get samples(): readonly RateSample[] {
    return this.#samples;
  }

  /** The mean of the last few seconds. */
  now(): Record<Reason, number> {
    const last = this.#samples.slice(-SAMPLES_OF_NOW);
    return forEachReason((reason) =>
      last.length === 0 ? 0 : round(last.reduce((sum, { perSecond }) => sum + perSecond[reason], 0) / last.length),
    );
  }

  onSample(listener: (sample: RateSample) => void): void {
    this.#listeners.add(listener);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    const nowMs = performance.now();
    const seconds = (nowMs - this.#sampledAtMs) / 1_000;
    const totals = this.#counters.decisionTotals();
    const before = this.#totals;
    const perSecond = forEachReason((reason) => round((totals[reason] - before[reason]) / seconds));
    this.#totals = totals;
    this.#sampledAtMs = nowMs;
    const sample = { atMs: Date.now(), perSecond };
    this.#samples.push(sample);
    if (this.#samples.length > MAX_KEPT) this.#samples.shift();
    for (const listener of this.#listeners) listener(sample);
  }
}

function round(rate: number): number {
  return Math.round(rate * 10) / 10;
}
