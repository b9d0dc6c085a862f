import type { Config } from '../config/config.ts';
import type { Host } from '../envoy-admin/admin-client.ts';
import type { ChangeLog } from '../log/changes.ts';
import { type CheckResult, repeatCheck } from './check-probe.ts';
import type { PoolState, WatchedPool } from './pool.ts';

/** What fails may come to fail for another reason: a server that was gone is back, and answers 404. */
const ASK_AGAIN_MS = 10_000;

/** When something has just changed, more changes: somebody is working on it. */
const ASK_SOON_AGAIN_MS = 2_000;
const SOON_FOR_MS = 30_000;

/** Envoy's next checks notice within this that a server is back; before that, no check of it is only Envoy's to fail. */
const ENVOY_NOTICES_MS = 10_000;

/** Of all pools together, when another site is down and each application says so. */
const MAX_ASKED = 50;
const MAX_ASKED_AT_ONCE = 10;

interface FailingServer {
  readonly pool: WatchedPool;
  readonly address: string;
  askedAtMs: number;
  /** Of the sidecar's checks, without one between that failed; null where the last one did. */
  succeedsSinceMs: number | null;
  reason: string | null;
  /** Every one that it has had since it fails. */
  readonly reasons: Set<string>;
}

/** Envoy's word for a host that its health check has condemned, see `readHost`. */
const FAILED_CHECK = 'failed active health check';

/**
 * Why the health checks of servers fail, which Envoy does not tell. Asked beside the polls, once when a server is seen to
 * fail and now and then while it does.
 */
export class FailureReasons {
  readonly #config: Config;
  readonly #changes: ChangeLog;
  readonly #closing = new AbortController();
  #failing: ReadonlyMap<string, FailingServer> = new Map();
  /** Those whose time has come, the longest not asked first. */
  #due: FailingServer[] = [];
  /** The keys of those that have not answered yet. */
  readonly #asking = new Set<string>();
  #changedAtMs = Number.NEGATIVE_INFINITY;

  constructor(config: Config, changes: ChangeLog) {
    this.#config = config;
    this.#changes = changes;
  }

  /** Looks at the pools as a good poll saw them. */
  observe(watched: readonly WatchedPool[], pools: readonly PoolState[]): void {
    const nowMs = performance.now();
    const hosts = hostsToAsk(watched.map((pool, index) => [pool, pools[index]?.hosts ?? []]));
    const failing = new Map<string, FailingServer>();
    for (const [pool, { address }] of hosts) {
      const key = keyOf(pool.cluster, address);
      const known = this.#failing.get(key);
      if (known === undefined) this.#changedAtMs = nowMs;
      failing.set(key, known ?? newlyFailing(pool, address));
    }
    this.#failing = failing;
    const againMs = nowMs - this.#changedAtMs < SOON_FOR_MS ? ASK_SOON_AGAIN_MS : ASK_AGAIN_MS;
    this.#due = [...failing]
      .filter(([key, { askedAtMs }]) => nowMs - askedAtMs >= againMs && !this.#asking.has(key))
      .map(([, server]) => server)
      .sort((a, b) => a.askedAtMs - b.askedAtMs);
    this.#askDue();
  }

  /** The host with the reason, where it is known. */
  explained(cluster: string, host: Host): Host {
    const reason = isFailing(host) ? this.#failing.get(keyOf(cluster, host.address))?.reason : undefined;
    return reason === undefined || reason === null ? host : withReason(host, reason);
  }

  close(): void {
    this.#due = [];
    this.#closing.abort();
  }

  #askDue(): void {
    while (this.#asking.size < MAX_ASKED_AT_ONCE) {
      const server = this.#due.shift();
      if (server === undefined) return;
      const key = keyOf(server.pool.cluster, server.address);
      this.#asking.add(key);
      void this.#ask(server).finally(() => {
        this.#asking.delete(key);
        this.#askDue();
      });
    }
  }

  async #ask(server: FailingServer): Promise<void> {
    const { pool, address } = server;
    server.askedAtMs = performance.now();
    const result = await repeatCheck(this.#config, pool.cluster, address, this.#closing.signal);
    const isStillFailing = this.#failing.get(keyOf(pool.cluster, address)) === server;
    if (result === null || !isStillFailing || this.#closing.signal.aborted) return;
    const nowMs = performance.now();
    server.succeedsSinceMs = result.succeeds ? (server.succeedsSinceMs ?? nowMs) : null;
    // Envoy may be about to notice that it does, or not have checked it yet.
    if (server.succeedsSinceMs !== null && nowMs - server.succeedsSinceMs < ENVOY_NOTICES_MS) return;
    const reason = describeResult(result);
    if (server.reason === reason) return;
    server.reason = reason;
    // One that comes and goes, as of a server that crashes and is started again, is no news.
    if (!server.reasons.has(reason)) this.#changedAtMs = nowMs;
    server.reasons.add(reason);
    this.#changes.warn(`health check of ${address} in ${pool.cluster} (${pool.site}) fails: ${reason}`, {
      application: pool.application,
      cluster: pool.cluster,
      address,
    });
  }
}

/** Before each time that the clock says; unlike the infinite it can be compared by subtraction. */
const NEVER_MS = Number.MIN_SAFE_INTEGER;

function newlyFailing(pool: WatchedPool, address: string): FailingServer {
  return { pool, address, askedAtMs: NEVER_MS, succeedsSinceMs: null, reason: null, reasons: new Set() };
}

/** The hosts whose checks are to be repeated: one of each pool, then a second of each, and so on to the limit for all. */
export function hostsToAsk<P>(pools: readonly (readonly [P, readonly Host[]])[]): (readonly [P, Host])[] {
  const failing = pools
    .map(([pool, hosts]) => ({ pool, hosts: hosts.filter(isFailing) }))
    .filter(({ hosts }) => hosts.length > 0);
  const asked: (readonly [P, Host])[] = [];
  const longest = failing.reduce((most, { hosts }) => Math.max(most, hosts.length), 0);
  for (let turn = 0; turn < longest && asked.length < MAX_ASKED; turn += 1) {
    for (const { pool, hosts } of failing) {
      const host = hosts[turn];
      if (host !== undefined && asked.length < MAX_ASKED) asked.push([pool, host]);
    }
  }
  return asked;
}

function isFailing({ why, draining }: Host): boolean {
  // One that drains may be stopped at any time.
  return !draining && why.includes(FAILED_CHECK);
}

export function withReason(host: Host, reason: string): Host {
  return { ...host, why: host.why.replace(FAILED_CHECK, () => `${FAILED_CHECK}: ${reason}`) };
}

export function describeResult({ succeeds, text }: CheckResult): string {
  return succeeds ? `only Envoy's own, from here it succeeds: ${text}` : text;
}

function keyOf(cluster: string, address: string): string {
  return `${cluster} ${address}`;
}
