import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';
import type { PoolHealth } from '../decision/decide.ts';
import {
  type AdminClient,
  createAdminClient,
  describeAdmin,
  type Host,
  maxBytesOfHosts,
  type PoolCount,
} from '../envoy-admin/admin-client.ts';
import { AdminError } from '../envoy-admin/connection.ts';
import { HttpRequestError } from '../envoy-admin/http-request.ts';
import type { ChangeLog } from '../log/changes.ts';
import type { Counters } from '../metrics/counters.ts';
import { FailureAlert } from './alert.ts';
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

/** A poll that takes long keeps Envoy's administration busy for as long: it gets three times that to itself. */
const PAUSE_PER_POLL = 3;

/**
 * Envoy describes a host in 700 bytes, and reading the answer holds up every decision meanwhile: 10,000 hosts would for
 * 30 ms. Nobody reads so many names, either.
 */
const MAX_HOSTS_LISTED = 1_000;

const UNKNOWN: PoolHealth = { known: false };

export interface HealthWatcher {
  /** The health to decide by. Called for each request: cheap, and unknown as soon as the last good poll is too old. */
  current(): PoolHealth;
  /** The pools as last seen, in the order of the sites; empty before the first good poll. */
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
  const { config, changes, counters, onHealth = async () => {}, memory } = options;
  const { pollIntervalMs, staleAfterMs, holdUpMs } = config.health;
  const timeoutMs = Math.min(MAX_POLL_TIMEOUT_MS, staleAfterMs / 2);
  const client = createAdminClient(config.envoy.admin, timeoutMs);
  const watched = watchedPools(config);
  const twins = new Twins(watched);
  const closing = new AbortController();

  const isSameEnvoy = memory !== undefined && isDeepStrictEqual(memory.config.envoy.admin, config.envoy.admin);
  const remembered = isSameEnvoy ? recallPools(memory, config, watched) : [];
  let pools: readonly PoolState[] = remembered.every((pool) => pool !== undefined) ? remembered : [];
  let health: PoolHealth = pools.length === 0 ? UNKNOWN : healthOf(pools);
  let lastGoodAtMs = isSameEnvoy && pools.length > 0 ? memory.lastGoodAtMs : null;
  let failedSinceMs = isSameEnvoy ? memory.failedSinceMs : null;
  const alert = new FailureAlert(watched.length, pollIntervalMs);
  const reasons = new FailureReasons(config, changes);

  let running: Promise<void> | undefined;
  let staleTimer: NodeJS.Timeout | undefined;

  async function poll(): Promise<boolean> {
    const startedAtMs = performance.now();
    try {
      const counts = await countPools(client, watched, twins);
      if (closing.signal.aborted) return false;
      counters.countPoll('ok', performance.now() - startedAtMs);
      await accept(counts);
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
      nextPoolState(previous[index], merged.get(pool.cluster), { minUp: pool.minUp, holdUpMs, nowMs }),
    );
    health = healthOf(pools);
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
    watched.forEach((pool, index) => {
      const [before, now] = [previous[index], pools[index]];
      if (now !== undefined && changed.includes(pool)) logPool(pool, now, before === undefined);
    });
  }

  function totalOf(pool: WatchedPool): number {
    return pools[watched.indexOf(pool)]?.count.total ?? 0;
  }

  function logPool(pool: WatchedPool, now: PoolState, isNew: boolean): void {
    if (!now.isKnownToEnvoy) {
      changes.error(
        `Envoy has no cluster "${pool.cluster}" (${pool.key}): the name must be the same in the config file and in Envoy`,
        { cluster: pool.cluster },
      );
      return;
    }
    const level = now.isUp || isNew ? 'info' : 'warn';
    const fields = { cluster: pool.cluster, site: pool.site, up: now.count.up, total: now.count.total };
    changes[level](describePool(pool, now), fields);
  }

  /** Pools that came or went by the new settings alone. */
  function logRejudged(): void {
    watched.forEach((pool, index) => {
      const now = remembered[index];
      const before = isSameEnvoy ? recallPool(memory, pool.cluster) : null;
      if (now !== undefined && before !== null && now.isUp !== before.state.isUp) logPool(pool, now, false);
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
      const restMs = isAlert ? Math.min(tookMs * PAUSE_PER_POLL, pollIntervalMs) : 0;
      await sleep(Math.max(restMs, pauseMs - tookMs), undefined, {
        signal: closing.signal,
      }).catch(() => {});
    }
  }

  function logUnknown(): void {
    changes.error(
      `health is unknown: no good answer from Envoy for ${staleAfterMs} ms; until then Envoy's fallback routes decide`,
    );
  }

  return {
    current: () => (lastGoodAtMs !== null && performance.now() - lastGoodAtMs <= staleAfterMs ? health : UNKNOWN),
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
  return own.map((host) => (upByTwin.has(host.address) ? { ...host, up: true, why: '' } : host));
}

function healthOf(pools: readonly PoolState[]): PoolHealth {
  return { known: true, up: pools.map((pool) => pool.isUp) };
}

/** In the order of the watched pools; undefined for one that was not watched. */
type KnownPools = readonly (PoolState | undefined)[];

/** What the memory has of the watched pools, as the new config judges it. */
function recallPools(memory: HealthMemory, config: Config, watched: readonly WatchedPool[]): KnownPools {
  const settings = { holdUpMs: config.health.holdUpMs, nowMs: performance.now() };
  return watched.map(({ cluster, minUp }) => {
    const was = recallPool(memory, cluster);
    return was === null ? undefined : rejudgedPoolState(was.state, was.minUp, { minUp, ...settings });
  });
}

function recallPool(memory: HealthMemory, cluster: string): { state: PoolState; minUp: number } | null {
  const before = watchedPools(memory.config);
  const index = before.findIndex((pool) => pool.cluster === cluster);
  const [pool, state] = [before[index], memory.pools[index]];
  return pool === undefined || state === undefined ? null : { state, minUp: pool.minUp };
}

/**
 * The pools' numbers from their gauges, or host by host for pools whose gauges Envoy's `stats_matcher` hides. A pool
 * without an entry is not known to Envoy.
 */
async function countPools(
  client: AdminClient,
  watched: readonly WatchedPool[],
  twins: Twins,
): Promise<ReadonlyMap<string, PoolCount>> {
  const counts = new Map(await client.countPools(twins.clusters));
  const unseen = watched.map((pool) => pool.cluster).filter((cluster) => !counts.has(cluster));
  if (unseen.length > 0) {
    for (const [cluster, hosts] of await listUncounted(client, unseen)) {
      const up = hosts.filter((host) => host.up).length;
      counts.set(cluster, { up, total: hosts.length, failedChecks: null, succeededChecks: null });
    }
  }
  return counts;
}

interface Batch {
  readonly clusters: string[];
  servers: number;
}

/** Asked for together are so many servers at most, for reading an answer holds up every decision. */
function batches(pools: readonly (readonly [cluster: string, servers: number])[]): readonly Batch[] {
  const all: Batch[] = [];
  for (const [cluster, servers] of pools) {
    if (servers > MAX_HOSTS_LISTED) continue;
    const last = all.at(-1);
    const isFull = last === undefined || last.servers + servers > MAX_HOSTS_LISTED;
    const batch = isFull ? { clusters: [], servers: 0 } : last;
    if (isFull) all.push(batch);
    batch.clusters.push(cluster);
    batch.servers += servers;
  }
  return all;
}

async function listUncounted(client: AdminClient, clusters: readonly string[]) {
  try {
    return await client.listHosts(clusters);
  } catch (error) {
    const isTooLong = error instanceof AdminError && error.cause instanceof HttpRequestError;
    if (!isTooLong || error.code !== 'ADMIN_BAD_ANSWER') throw error;
    const why = `${error.message}; it is asked since Envoy's stats hide the membership gauges of ${clusters.join(', ')}`;
    throw new AdminError(error.code, `${why}: let its stats_matcher show them`, { cause: error });
  }
}
