import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';
import type { PoolHealth } from '../decision/decide.ts';
import {
  createAdminClient,
  describeAdmin,
  type Host,
  maxBytesOfHosts,
  type PoolCount,
} from '../envoy-admin/admin-client.ts';
import type { ChangeLog } from '../log/changes.ts';
import type { Counters } from '../metrics/counters.ts';
import { FailureAlert } from './alert.ts';
import { batches, countPools } from './count-pools.ts';
import { FailureReasons } from './failure-reasons.ts';
import {
  describePool,
  isSamePoolState,
  nextPoolState,
  type PoolState,
  rejudgedPoolState,
  type WatchedPool,
  watchedPools,
} from './pool.ts';
import { countedOf, type RouteCounts } from './route-counts.ts';
import { Twins } from './twins.ts';

/** A restarted Envoy must be known again in under 2 s, so the pause between two failed polls never grows past this. */
const MAX_BACKOFF_MS = 1_000;

/** Envoy's admin interface is one thread and answers late when it is busy; that is no reason to give up at once. */
const MAX_POLL_TIMEOUT_MS = 1_000;

/**
 * While servers are failing, the time from Envoy's notice to this watcher's is lost to every request decided meanwhile
 * for a pool that Envoy has no server of. It polls this often then, until nothing has happened for a while.
 */
const ALERT_POLL_INTERVAL_MS = 20;

/** A poll that takes long keeps Envoy's administration busy for as long: while servers are failing it gets three times that to itself. */
const PAUSE_PER_ALERT_POLL = 3;

/**
 * With more pools than this a poll is work: of 200 applications it takes Envoy 50 ms, and the sidecar 10. Then it is a
 * twentieth of the time at most, as long as a change is known within a second; while servers fail twice that.
 */
const MANY_POOLS = 50;
const PAUSE_PER_POLL_OF_MANY = 20;
const MAX_PAUSE_MS = 1_000;

/** Where Envoy has none of a file's clusters, the first tell what is wrong. */
const MAX_MISSING_SAID = 20;

const UNKNOWN: PoolHealth = { known: false };

export interface HealthWatcher {
  /**
   * The health to decide by, of the application at this place in the config. Called for each request: cheap, and unknown as
   * soon as the last good poll is too old.
   */
  current(application: number): PoolHealth;
  /** Whether health is known, of all applications. */
  readonly isKnown: boolean;
  /** The pools as last seen, in the order of the watched pools; empty before the first good poll. */
  pools(): readonly PoolState[];
  /** Since the last good poll; null for never. */
  ageMs(): number | null;
  /** What a watcher that takes over from this one may go on with. */
  memory(): HealthMemory;
  /** Begins to poll; resolves after the first poll, good or bad. */
  start(): Promise<void>;
  close(): Promise<void>;
}

/** What was last seen of an Envoy, under the config that it was seen by. Times are of the monotonic clock. */
export interface HealthMemory {
  readonly config: Config;
  readonly pools: readonly PoolState[];
  readonly lastGoodAtMs: number | null;
  readonly failedSinceMs: number | null;
}

export interface HealthWatcherOptions {
  readonly config: Config;
  readonly changes: ChangeLog;
  readonly counters: Counters;
  readonly routeCounts: RouteCounts;
  /** Called after each good poll, when its health is in force; the next poll waits for it. */
  readonly onHealth?: () => Promise<void>;
  /**
   * Of the watcher that this one takes over from. Pools of the same Envoy are judged by the new settings without a poll:
   * health that was known stays known, and only what the settings say themselves makes a pool come or go.
   */
  readonly memory?: HealthMemory;
}

/** Watches the health of the configured pools: polls Envoy's admin interface, one request at a time, until closed. */
export function createHealthWatcher(options: HealthWatcherOptions): HealthWatcher {
  const { config, changes, counters, routeCounts, onHealth = async () => {}, memory } = options;
  const { pollIntervalMs, staleAfterMs, holdUpMs } = config.health;
  const timeoutMs = Math.min(MAX_POLL_TIMEOUT_MS, staleAfterMs / 2);
  const client = createAdminClient(config.envoy.admin, timeoutMs);
  const watched = watchedPools(config);
  const twins = new Twins(watched);
  const counted = countedOf(config);
  const statPrefixes = counted.decisions.map(({ statPrefix }) => statPrefix).filter((prefix) => prefix !== '');
  const closing = new AbortController();

  const isSameEnvoy = memory !== undefined && isDeepStrictEqual(memory.config.envoy.admin, config.envoy.admin);
  if (!isSameEnvoy) routeCounts.reset();
  const before = rememberedPools(isSameEnvoy ? memory : undefined);
  const remembered = isSameEnvoy ? recallPools(before, config, watched) : [];
  let pools: readonly PoolState[] = remembered.every((pool) => pool !== undefined) ? remembered : [];
  let health = healthOfEach(config, remembered);
  let lastGoodAtMs = isSameEnvoy && remembered.some((pool) => pool !== undefined) ? memory.lastGoodAtMs : null;
  let failedSinceMs = isSameEnvoy ? memory.failedSinceMs : null;
  const alert = new FailureAlert(watched.length, pollIntervalMs);
  const reasons = new FailureReasons(config, changes);

  let running: Promise<void> | undefined;
  let staleTimer: NodeJS.Timeout | undefined;

  async function poll(): Promise<boolean> {
    const startedAtMs = performance.now();
    try {
      const counts = await countPools(client, { watched, twins, statPrefixes });
      if (closing.signal.aborted) return false;
      counters.countPoll('ok', performance.now() - startedAtMs);
      routeCounts.observe(counted, counts);
      await accept(counts.pools);
      return true;
    } catch (error) {
      if (closing.signal.aborted) return false;
      counters.countPoll('error', performance.now() - startedAtMs);
      noteFailure(error);
      return false;
    }
  }

  async function accept(counts: ReadonlyMap<string, PoolCount>): Promise<void> {
    const nowMs = performance.now();
    const merged = twins.merge(counts, nowMs);
    const previous = pools.length === 0 ? remembered : pools;
    pools = watched.map((pool, index) =>
      nextPoolState(previous[index], merged.get(pool.cluster), { ...pool, holdUpMs, nowMs }),
    );
    health = healthOfEach(config, pools);
    alert.observe(previous, pools, nowMs);
    lastGoodAtMs = nowMs;
    staleTimer?.refresh();
    noteSuccess(nowMs);
    await onHealth();

    const changed = watched.filter((_, index) => {
      const [before, now] = [previous[index], pools[index]];
      return before === undefined || now === undefined || !isSamePoolState(before, now);
    });
    if (changed.length > 0) await describeChanges(changed, previous);
    reasons.observe(watched, pools);
  }

  /** Asks which hosts are behind the new numbers, for the log, status and the page, and logs what changed. */
  async function describeChanges(changed: readonly WatchedPool[], previous: KnownPools): Promise<void> {
    const hosts = new Map<string, readonly Host[]>();
    try {
      const asked = changed.flatMap((pool) => {
        const clusters = [pool.cluster, twins.upBy(pool) ?? []].flat();
        return clusters.map((cluster) => [cluster, totalOf(pool)] as const);
      });
      for (const { clusters, servers } of batches(asked)) {
        for (const [name, of] of await client.listHosts(clusters, maxBytesOfHosts(servers))) hosts.set(name, of);
      }
    } catch {
      // The numbers are good and already in force; the next failing poll says what is wrong.
    }
    pools = pools.map((pool, index) => {
      const of = watched[index];
      // Hosts that could not be asked for are better not named than named as they were.
      return of !== undefined && changed.includes(of)
        ? { ...pool, hosts: hostsOf(of.cluster, twins.upBy(of), hosts) }
        : pool;
    });
    let missing = 0;
    watched.forEach((pool, index) => {
      const [before, now] = [previous[index], pools[index]];
      if (now === undefined || !changed.includes(pool)) return;
      if (!now.isKnownToEnvoy) missing++;
      if (now.isKnownToEnvoy || missing <= MAX_MISSING_SAID) logPool(pool, now, before === undefined);
    });
    const more = missing - MAX_MISSING_SAID;
    if (more > 0) changes.error(`Envoy lacks ${more} more ${more === 1 ? 'cluster' : 'clusters'} of the config file`);
  }

  function totalOf(pool: WatchedPool): number {
    return pools[watched.indexOf(pool)]?.count.total ?? 0;
  }

  function logPool(pool: WatchedPool, now: PoolState, isNew: boolean): void {
    if (!now.isKnownToEnvoy) {
      changes.error(
        `Envoy has no cluster "${pool.cluster}" (${pool.key}): the name must be the same in the config file and in Envoy`,
        { application: pool.application, cluster: pool.cluster },
      );
      return;
    }
    const level = now.isUp || isNew ? 'info' : 'warn';
    const { application, cluster, site } = pool;
    const { up, total } = now.count;
    const fields = { application, cluster, site, up, total: total - now.draining, draining: now.draining };
    changes[level](describePool(pool, now), fields);
  }

  /** Pools that came or went by the new settings alone. */
  function logRejudged(): void {
    watched.forEach((pool, index) => {
      const now = remembered[index];
      const was = before.get(pool.cluster);
      if (now !== undefined && was !== undefined && now.isUp !== was.state.isUp) logPool(pool, now, false);
    });
  }

  function noteFailure(error: unknown): void {
    if (failedSinceMs !== null) return;
    failedSinceMs = performance.now();
    const reason = error instanceof Error ? error.message : String(error);
    changes.warn(`cannot read health from Envoy's admin interface at ${describeAdmin(config.envoy.admin)}: ${reason}`);
  }

  function noteSuccess(nowMs: number): void {
    if (failedSinceMs === null) return;
    const seconds = ((nowMs - failedSinceMs) / 1000).toFixed(1);
    failedSinceMs = null;
    changes.info(`Envoy's admin interface answers again after ${seconds} s`);
  }

  async function run(onFirstPoll: () => void): Promise<void> {
    let backoffMs = pollIntervalMs;
    while (!closing.signal.aborted) {
      const startedAtMs = performance.now();
      const isGood = await poll();
      onFirstPoll();
      backoffMs = isGood ? pollIntervalMs : Math.min(backoffMs * 2, Math.max(MAX_BACKOFF_MS, pollIntervalMs));
      const isAlert = isGood && alert.isOn(startedAtMs);
      const pauseMs = isAlert ? Math.min(ALERT_POLL_INTERVAL_MS, pollIntervalMs) : backoffMs;
      const tookMs = performance.now() - startedAtMs;
      await sleep(Math.max(restMs(tookMs, isAlert), pauseMs - tookMs), undefined, {
        signal: closing.signal,
      }).catch(() => {});
    }
  }

  /** What Envoy's administration gets to itself after a poll that kept it busy for so long. */
  function restMs(tookMs: number, isAlert: boolean): number {
    if (watched.length > MANY_POOLS) {
      const [times, most] = isAlert
        ? [PAUSE_PER_POLL_OF_MANY / 2, MAX_PAUSE_MS / 2]
        : [PAUSE_PER_POLL_OF_MANY, MAX_PAUSE_MS];
      return Math.min(tookMs * times, most, staleAfterMs / 3);
    }
    return isAlert ? Math.min(tookMs * PAUSE_PER_ALERT_POLL, pollIntervalMs) : 0;
  }

  function isFresh(): boolean {
    return lastGoodAtMs !== null && performance.now() - lastGoodAtMs <= staleAfterMs;
  }

  function logUnknown(): void {
    changes.error(
      `health is unknown: no valid answer from Envoy for ${staleAfterMs} ms; Envoy's fallback routes decide until one arrives`,
    );
  }

  return {
    current: (application) => (isFresh() ? (health[application] ?? UNKNOWN) : UNKNOWN),
    get isKnown() {
      return isFresh() && pools.length > 0;
    },
    pools: () =>
      pools.map((pool, index) => {
        const cluster = watched[index]?.cluster ?? '';
        return { ...pool, hosts: pool.hosts.map((host) => reasons.explained(cluster, host)) };
      }),
    memory: () => ({ config, pools, lastGoodAtMs, failedSinceMs }),
    ageMs: () => (lastGoodAtMs === null ? null : Math.round(performance.now() - lastGoodAtMs)),
    start() {
      logRejudged();
      // Only says that time is up: a decision looks at the clock itself.
      staleTimer = setTimeout(logUnknown, staleAfterMs);
      return new Promise((resolve) => {
        running = run(resolve);
      });
    },
    async close() {
      closing.abort();
      reasons.close();
      clearTimeout(staleTimer);
      client.close();
      await running;
    },
  };
}

/** @param twin of a pool that is up by it: what is up there is up */
function hostsOf(cluster: string, twin: string | null, hosts: ReadonlyMap<string, readonly Host[]>): readonly Host[] {
  const own = hosts.get(cluster) ?? [];
  const upByTwin = new Set((hosts.get(twin ?? '') ?? []).filter(({ up }) => up).map(({ address }) => address));
  return own.map((host) => (upByTwin.has(host.address) ? { ...host, up: true, draining: false, why: '' } : host));
}

/** By application, in the order of the config. @param pools of all of them; unknown is an application of which one is not there */
function healthOfEach({ applications }: Config, pools: KnownPools): readonly PoolHealth[] {
  let next = 0;
  return applications.map(({ remotePools }) => {
    const first = next;
    next += 1 + remotePools.length;
    const own = pools.slice(first, next).filter((pool) => pool !== undefined);
    return own.length < next - first ? UNKNOWN : { known: true, up: own.map((pool) => pool.isUp) };
  });
}

/** In the order of the watched pools; undefined for one that was not watched. */
type KnownPools = readonly (PoolState | undefined)[];

/** What the memory has of the watched pools, as the new config judges it. */
function recallPools(memory: RememberedPools, config: Config, watched: readonly WatchedPool[]): KnownPools {
  const settings = { holdUpMs: config.health.holdUpMs, nowMs: performance.now() };
  return watched.map((pool) => {
    const was = memory.get(pool.cluster);
    return was === undefined ? undefined : rejudgedPoolState(was.state, was.minUp, { ...pool, ...settings });
  });
}

/** By cluster, as they were and judged by what. */
type RememberedPools = ReadonlyMap<string, { readonly state: PoolState; readonly minUp: number }>;

function rememberedPools(memory: HealthMemory | undefined): RememberedPools {
  const pools = memory === undefined ? [] : watchedPools(memory.config);
  return new Map(
    pools.flatMap(({ cluster, minUp }, index) => {
      const state = memory?.pools[index];
      return state === undefined ? [] : [[cluster, { state, minUp }] as const];
    }),
  );
}
