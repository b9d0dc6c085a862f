import type { Reason } from '../decision/decide.ts';
import { type Counters, forEachReason } from '../metrics/counters.ts';
import { forEachSessionKind, type SessionTotals, sessionCounts, sessionTotals } from '../metrics/sessions.ts';

type ByReason = Readonly<Record<Reason, number>>;

/** Decisions a second by reason, of all applications, over about a second or, of more than two minutes ago, five. */
export interface RateSample {
  /** In milliseconds since 1970. */
  readonly atMs: number;
  readonly perSecond: ByReason;
}

const SAMPLE_INTERVAL_MS = 1_000;
const MAX_KEPT = 120;

/** Of what is older one sample is the mean of so many. */
const SAMPLES_PER_OLDER = 5;
const MAX_OLDER_KEPT = (3_600 - MAX_KEPT) / SAMPLES_PER_OLDER;

/** Over how many samples "now" is: one alone would jump between 0 and 1 where there is little to do. */
const SAMPLES_OF_NOW = 5;

/** The totals of all applications, and when they were. */
interface Totals {
  readonly atMs: number;
  readonly byApplication: ReadonlyMap<string, { readonly decisions: ByReason; readonly sessions: SessionTotals }>;
}

/** Decisions a second, for people: the last hour, for a graph is opened after what it is to show. */
export class DecisionRates {
  readonly #counters: Counters;
  readonly #site: () => string;
  /** The oldest first, as the others. */
  readonly #older: RateSample[] = [];
  readonly #samples: RateSample[] = [];
  readonly #listeners = new Set<(sample: RateSample) => void>();
  readonly #timer: NodeJS.Timeout;
  /** The oldest first; of as many samples as "now" needs, and one more. */
  readonly #lastTotals: Totals[];

  /** @param site its name under the config in force */
  constructor(counters: Counters, site: () => string) {
    this.#counters = counters;
    this.#site = site;
    this.#lastTotals = [this.#read()];
    this.#timer = setInterval(() => this.#sample(), SAMPLE_INTERVAL_MS);
    this.#timer.unref();
  }

  /** The oldest first. */
  get samples(): readonly RateSample[] {
    return [...this.#older, ...this.#samples];
  }

  /** The mean of the last few seconds, of one application. */
  ofApplication(name: string): ByReason {
    return forEachReason((reason) => this.#now(({ byApplication }) => byApplication.get(name)?.decisions[reason]));
  }

  /** The same of what becomes of its sessions. */
  sessionsOf(name: string): SessionTotals {
    return forEachSessionKind((kind) => this.#now(({ byApplication }) => byApplication.get(name)?.sessions[kind]));
  }

  /** The mean of all applications' decisions together. */
  now(): ByReason {
    return forEachReason((reason) => this.#now(ofAll(reason)));
  }

  onSample(listener: (sample: RateSample) => void): void {
    this.#listeners.add(listener);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    const before = this.#lastTotals.at(-1);
    const now = this.#read();
    this.#lastTotals.push(now);
    if (this.#lastTotals.length > SAMPLES_OF_NOW + 1) this.#lastTotals.shift();
    const sample = { atMs: Date.now(), perSecond: forEachReason((reason) => perSecond(before, now, ofAll(reason))) };
    this.#samples.push(sample);
    if (this.#samples.length >= MAX_KEPT + SAMPLES_PER_OLDER) {
      this.#older.push(meanOf(this.#samples.splice(0, SAMPLES_PER_OLDER)));
      if (this.#older.length > MAX_OLDER_KEPT) this.#older.shift();
    }
    for (const listener of this.#listeners) listener(sample);
  }

  #now(of: Of): number {
    return perSecond(this.#lastTotals[0], this.#lastTotals.at(-1), of);
  }

  #read(): Totals {
    const site = this.#site();
    const totals = [...this.#counters.applications].map(([name, counters]) => {
      return [name, { decisions: counters.totals(), sessions: sessionTotals(sessionCounts(counters, site)) }] as const;
    });
    return { atMs: performance.now(), byApplication: new Map(totals) };
  }
}

type Of = (totals: Totals) => number | undefined;

function ofAll(reason: Reason): Of {
  return ({ byApplication }) => {
    let count = 0;
    for (const { decisions } of byApplication.values()) count += decisions[reason];
    return count;
  };
}

function perSecond(from: Totals | undefined, to: Totals | undefined, of: Of): number {
  if (from === undefined || to === undefined || to.atMs <= from.atMs) return 0;
  const seconds = (to.atMs - from.atMs) / 1_000;
  return round(((of(to) ?? 0) - (of(from) ?? 0)) / seconds);
}

/** As of the last of them. */
function meanOf(samples: readonly RateSample[]): RateSample {
  const mean = (reason: Reason) => samples.reduce((all, { perSecond: of }) => all + of[reason], 0) / samples.length;
  return { atMs: samples.at(-1)?.atMs ?? 0, perSecond: forEachReason((reason) => round(mean(reason))) };
}

function round(rate: number): number {
  return Math.round(rate * 10) / 10;
}
