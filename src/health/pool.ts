import {
  type Application,
  applicationsOf,
  type Config,
  healthClusterOf,
  isUnlisted,
  type RemotePoolConfig,
} from '../config/config.ts';
import type { Host, PoolCount } from '../envoy-admin/admin-client.ts';
import { overHttp2 } from '../envoy-config/names.ts';
import { hasHttp2Twin } from '../envoy-config/protocols.ts';

/** What is watched of a pool, from the config. */
export interface WatchedPool {
  /** The name of its application. */
  readonly application: string;
  readonly site: string;
  /** Whose servers Envoy checks. */
  readonly cluster: string;
  /** The same servers by another protocol; null where Envoy has no such cluster. */
  readonly twin: Twin | null;
  /** The key of the config that names the cluster. */
  readonly key: string;
  readonly minUp: number;
  /** Whether some of its servers drain. */
  readonly drains: boolean;
}

export interface Twin {
  readonly cluster: string;
  /** For so long after a check of the twin succeeded, a pool whose own checks fail is not down: the link only loses packets. */
  readonly aliveForMs: number;
}

/** A pool as last seen. Times are of the monotonic clock (`performance.now()`). */
export interface PoolState {
  readonly count: PoolCount;
  /** Of its servers those that drain: nobody expects them to be up. */
  readonly draining: number;
  /** False where Envoy has no cluster of that name. */
  readonly isKnownToEnvoy: boolean;
  readonly isUp: boolean;
  /** When it was last seen with fewer than `minUp` servers; null for never. */
  readonly lastShortAtMs: number | null;
  /** Its hosts when the count last changed; empty until Envoy was asked. */
  readonly hosts: readonly Host[];
}

/** Application by application in the order of the config, each with its pools in the order of the policy's sites. */
export function watchedPools(config: Config): readonly WatchedPool[] {
  const isPlain = isUnlisted(config);
  return applicationsOf(config).flatMap((application, index) =>
    watchedPoolsOf(application, isPlain ? '' : `applications[${index}].`),
  );
}

/** @param base in front of its keys in the config file */
function watchedPoolsOf(application: Application, base: string): WatchedPool[] {
  const { name, site, localPool, remotePools } = application;
  return [
    {
      ...{ application: name, site, cluster: localPool.cluster, twin: null },
      ...{ key: `${base}local_pool.cluster`, minUp: localPool.minUp },
      drains: localPool.servers.some((server) => server.drain),
    },
    ...remotePools.map((pool, at) => ({
      ...{ application: name, site: pool.site, cluster: healthClusterOf(pool) },
      ...{ twin: hasHttp2Twin(application, pool) ? twinOf(pool) : null },
      key: `${base}remote_pools[${at}].${pool.healthCluster === undefined ? 'cluster' : 'health_cluster'}`,
      ...{ minUp: pool.minUp, drains: false },
    })),
  ];
}

/** Three time-outs in a row take a site out: had its twin an answer meanwhile, the site was there. */
function twinOf(pool: RemotePoolConfig): Twin {
  const { unhealthy, timeoutMs } = pool.healthCheck;
  return { cluster: overHttp2(pool), aliveForMs: unhealthy * timeoutMs };
}

/** What a pool is judged by. */
interface Settings extends Pick<WatchedPool, 'minUp' | 'drains'> {
  readonly holdUpMs: number;
  readonly nowMs: number;
}

/**
 * A pool's next state from what Envoy says now. Up means at least `minUp` servers, for at least `holdUpMs` since it
 * last had fewer: a flapping site gets no sessions back. A pool never seen short is up at once, so that a restart of
 * the sidecar holds nothing back.
 * @param count undefined where Envoy has no such cluster, which counts as no server
 */
export function nextPoolState(
  previous: PoolState | undefined,
  count: PoolCount | undefined,
  settings: Settings,
): PoolState {
  const seen = count ?? { up: 0, total: 0, excluded: 0, failedChecks: null, succeededChecks: null };
  const isShort = seen.up < settings.minUp;
  const lastShortAtMs = isShort ? settings.nowMs : (previous?.lastShortAtMs ?? null);
  const isHeld = lastShortAtMs !== null && settings.nowMs - lastShortAtMs < settings.holdUpMs;
  return {
    count: seen,
    // Otherwise they are servers that say themselves, by a header of their health check, that they are down.
    draining: settings.drains ? seen.excluded : 0,
    isKnownToEnvoy: count !== undefined,
    isUp: !isShort && !isHeld,
    lastShortAtMs,
    hosts: previous?.hosts ?? [],
  };
}

/**
 * A pool's state as other settings have it. What has servers enough by the new `minUp` is up at once, for it was not
 * short in their sense; only what `hold_up` was holding back is held on, from when it was last short.
 * @param minUpBefore what the state was judged by
 */
export function rejudgedPoolState(state: PoolState, minUpBefore: number, settings: Settings): PoolState {
  const isHeld = !state.isUp && state.count.up >= minUpBefore;
  const previous = isHeld ? state : { ...state, lastShortAtMs: null };
  return nextPoolState(previous, state.isKnownToEnvoy ? state.count : undefined, settings);
}

export function isSamePoolState(a: PoolState, b: PoolState): boolean {
  return (
    a.isUp === b.isUp &&
    a.isKnownToEnvoy === b.isKnownToEnvoy &&
    a.draining === b.draining &&
    a.count.up === b.count.up &&
    a.count.total === b.count.total
  );
}

/** How many health checks failed from one state to the next; 0 where Envoy does not say, or began to count anew. */
export function failedChecksBetween(before: PoolState, now: PoolState): number {
  if (before.count.failedChecks === null || now.count.failedChecks === null) return 0;
  return Math.max(0, now.count.failedChecks - before.count.failedChecks);
}

/** Of a large pool not every server is named. */
const MAX_HOSTS_NAMED = 10;

/** `pool local_pool (east) is down: 0 of 1 servers up, 1 draining; 127.0.0.1:3001 failed active health check` */
export function describePool(pool: WatchedPool, state: PoolState): string {
  const hosts = state.hosts.filter((host) => !host.up).map((host) => `${host.address} ${host.why}`);
  const isHeld = !state.isUp && state.count.up >= pool.minUp;
  return [
    `pool ${pool.cluster} (${pool.site}) is ${state.isUp ? 'up' : 'down'}: `,
    `${state.count.up} of ${state.count.total - state.draining} servers up`,
    state.draining > 0 ? `, ${state.draining} draining` : '',
    isHeld ? ', held back by hold_up' : '',
    pool.minUp > 1 ? `, min_up ${pool.minUp}` : '',
    ...hosts.slice(0, MAX_HOSTS_NAMED).map((host) => `; ${host}`),
    hosts.length > MAX_HOSTS_NAMED ? `; and ${hosts.length - MAX_HOSTS_NAMED} more` : '',
  ].join('');
}
