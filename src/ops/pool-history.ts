import type { PoolState, WatchedPool } from '../health/pool.ts';

/** `held`: it has servers enough, and counts as down all the same: by a hold, or by hold_up. `unknown`: Envoy has not said lately how it is. */
export type PoolStateName = 'up' | 'down' | 'held' | 'unknown';

/** From when on a pool was so, in milliseconds since 1970. */
export interface PoolMoment {
  readonly atMs: number;
  readonly state: PoolStateName;
}

/** The oldest first; the first may be older than what is kept of the others, so that it says how the pool was until the second. */
export interface PoolHistoryReport {
  readonly application: string;
  readonly site: string;
  readonly history: readonly PoolMoment[];
}

const KEPT_MS = 60 * 60_000;

/** Of a pool that comes and goes all the time the newest. */
const MAX_KEPT_OF_POOL = 50;

/** Of all pools together: a hundred bytes each. */
const MAX_KEPT = 10_000;

/** The pools as they are now. */
export interface PoolsSeen {
  readonly watched: readonly WatchedPool[];
  /** In the same order. */
  readonly pools: readonly PoolState[];
  readonly isKnown: boolean;
  readonly isHeld: (application: string, site: string) => boolean;
}

interface History {
  readonly application: string;
  readonly site: string;
  readonly moments: PoolMoment[];
}

/**
 * How the pools were in the last hour: who looks for what happened comes afterwards. It outlives reloads of the config,
 * not the sidecar.
 */
export class PoolHistory {
  readonly #nowMs: () => number;
  #histories: ReadonlyMap<string, History> = new Map();

  /** @param nowMs in milliseconds since 1970 */
  constructor(nowMs: () => number = Date.now) {
    this.#nowMs = nowMs;
  }

  /** Looks at the pools; those that are watched no longer are forgotten. */
  observe({ watched, pools, isKnown, isHeld }: PoolsSeen): void {
    const atMs = this.#nowMs();
    const most = Math.max(2, Math.min(MAX_KEPT_OF_POOL, Math.floor(MAX_KEPT / watched.length)));
    const before = this.#histories;
    this.#histories = new Map(
      watched.map((pool, index) => {
        const { application, site } = pool;
        const key = `${application} ${site}`;
        const history = before.get(key) ?? { application, site, moments: [] };
        const seen = isKnown ? pools[index] : undefined;
        note(history.moments, { atMs, state: stateOf(pool, seen, isHeld(application, site)) }, most);
        return [key, history];
      }),
    );
  }

  /** @param names of the applications; null: all */
  report(names: readonly string[] | null): PoolHistoryReport[] {
    const asked = [...this.#histories.values()].filter(({ application }) => names?.includes(application) ?? true);
    return asked.map(({ application, site, moments }) => ({ application, site, history: [...moments] }));
  }
}

function note(moments: PoolMoment[], now: PoolMoment, most: number): void {
  if (moments.at(-1)?.state !== now.state) moments.push(now);
  const isOver = (moment: PoolMoment | undefined) => moment !== undefined && moment.atMs < now.atMs - KEPT_MS;
  while (moments.length > most || isOver(moments[1])) moments.shift();
}

function stateOf({ minUp }: WatchedPool, pool: PoolState | undefined, isHeld: boolean): PoolStateName {
  if (pool === undefined) return 'unknown';
  if (pool.isUp && !isHeld) return 'up';
  return pool.count.up >= minUp ? 'held' : 'down';
}
