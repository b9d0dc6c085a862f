import { failedChecksBetween, type PoolState } from './pool.ts';

/** How long an alert lasts after the last sign of failing servers. */
export const ALERT_MS = 3_000;

/**
 * Tells when servers that count as up are failing right now. Each poll's pools are shown to it, in the same order each
 * time; times are of the monotonic clock (`performance.now()`).
 */
export class FailureAlert {
  readonly #pollIntervalMs: number;
  #lastPollAtMs: number | null = null;
  #untilMs = Number.NEGATIVE_INFINITY;
  /** By pool, the checks that failed between two polls outside of an alert; null where that is to be learned anew. */
  #failedChecksUsually: readonly (number | null)[];

  /** @param pollIntervalMs the pause between two polls outside of an alert */
  constructor(poolCount: number, pollIntervalMs: number) {
    this.#pollIntervalMs = pollIntervalMs;
    this.#failedChecksUsually = Array.from({ length: poolCount }, () => 0);
  }

  isOn(nowMs: number): boolean {
    return nowMs < this.#untilMs;
  }

  /** Looks at what a good poll saw. @param before as the poll before it saw them; undefined where that did not */
  observe(before: readonly (PoolState | undefined)[], pools: readonly PoolState[], nowMs: number): void {
    const isFullPause = this.#lastPollAtMs !== null && nowMs - this.#lastPollAtMs >= this.#pollIntervalMs * 0.8;
    this.#lastPollAtMs = nowMs;
    const failedChecks = pools.map((pool, index) => failedChecksBetween(before[index] ?? pool, pool));
    const isFailing = pools.some((pool, index) => {
      const last = before[index];
      if (last === undefined) return false;
      if (pool.count.up < last.count.up) return true;
      // What is usual between two polls can't be told from the quick ones of an alert.
      const usually = isFullPause ? (this.#failedChecksUsually[index] ?? null) : null;
      // Servers that are down go on failing, each at its own time: there may be one more of each than the last time.
      return usually !== null && (failedChecks[index] ?? 0) > usually + last.count.total - last.count.up;
    });
    if (isFailing) {
      this.#untilMs = nowMs + ALERT_MS;
      this.#failedChecksUsually = pools.map(() => null);
    } else if (isFullPause) {
      this.#failedChecksUsually = failedChecks;
    }
  }
}
