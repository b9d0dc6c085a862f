import type { Counters } from '../metrics/counters.ts';

const SAMPLE_INTERVAL_MS = 1_000;
const SAMPLES_OF_A_MINUTE = 60;

/** After so long without a request of its own sessions a draining application is drained. */
export const DRAINED_AFTER_MS = 5 * 60_000;

interface History {
  /** The totals of the last minute, one a second, the oldest first. */
  readonly totals: number[];
  lastMs: number | null;
}

/** The requests of the sessions that live at this site: what a drain waits for the end of. */
export class OwnRequests {
  readonly #counters: Counters;
  readonly #site: () => string;
  readonly #nowMs: () => number;
  readonly #histories = new Map<string, History>();
  readonly #timer: NodeJS.Timeout;

  /** @param site its name under the config in force @param nowMs in milliseconds since 1970 */
  constructor(counters: Counters, site: () => string, nowMs: () => number = Date.now) {
    this.#counters = counters;
    this.#site = site;
    this.#nowMs = nowMs;
    this.#timer = setInterval(() => this.sample(), SAMPLE_INTERVAL_MS);
    this.#timer.unref();
  }

  /** How many came in the last minute, as of the last second. */
  inLastMinute(application: string): number {
    const totals = this.#histories.get(application)?.totals ?? [];
    return (totals.at(-1) ?? 0) - (totals[0] ?? 0);
  }

  /** When the last one came, in milliseconds since 1970; null: none since the start. */
  lastMs(application: string): number | null {
    return this.#histories.get(application)?.lastMs ?? null;
  }

  /** Called once a second. */
  sample(): void {
    const site = this.#site();
    for (const [application, counters] of this.#counters.applications) {
      const total = counters.requestsOf(site);
      const history = this.#histories.get(application) ?? { totals: [0], lastMs: null };
      if (total > (history.totals.at(-1) ?? 0)) history.lastMs = this.#nowMs();
      history.totals.push(total);
      if (history.totals.length > SAMPLES_OF_A_MINUTE + 1) history.totals.shift();
      this.#histories.set(application, history);
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
