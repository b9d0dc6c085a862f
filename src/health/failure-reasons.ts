import type { Config } from '../config/config.ts';
import type { Host } from '../envoy-admin/admin-client.ts';
import type { ChangeLog } from '../log/changes.ts';
import { type CheckResult, repeatCheck } from './check-probe.ts';
import type { PoolState, WatchedPool } from './pool.ts';

/** What fails may come to fail for another reason: a server that was gone is back, and answers 404. */
const ASK_AGAIN_MS = 10_000;

/** Of a large pool a few tell enough. */
const MAX_ASKED_PER_POOL = 5;

interface FailingHost {
  readonly pool: WatchedPool;
  readonly address: string;
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
  readonly #reasons = new Map<string, string>();
  /** Whose check has succeeded for the sidecar, the last time. */
  readonly #succeeded = new Set<string>();
  readonly #closing = new AbortController();
  #isAsking = false;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #askedFor = '';

  constructor(config: Config, changes: ChangeLog) {
    this.#config = config;
    this.#changes = changes;
  }

  /** Looks at the pools as a good poll saw them. */
  observe(watched: readonly WatchedPool[], pools: readonly PoolState[]): void {
    const failing = watched.flatMap((pool, index) =>
      hostsToAsk(pools[index]?.hosts ?? []).map(({ address }) => ({ pool, address })),
    );
    const askedFor = failing.map(({ pool, address }) => keyOf(pool.cluster, address)).join(' ');
    if (failing.length === 0) {
      this.#reasons.clear();
      this.#succeeded.clear();
      this.#askedFor = '';
      return;
    }
    const isDue = askedFor !== this.#askedFor || performance.now() - this.#askedAtMs >= ASK_AGAIN_MS;
    if (!isDue || this.#isAsking) return;
    this.#askedFor = askedFor;
    this.#askedAtMs = performance.now();
    this.#isAsking = true;
    void this.#ask(failing).finally(() => {
      this.#isAsking = false;
    });
  }

  /** The host with the reason, where it is known. */
  explained(cluster: string, host: Host): Host {
    const reason = isFailing(host) ? this.#reasons.get(keyOf(cluster, host.address)) : undefined;
    return reason === undefined ? host : withReason(host, reason);
  }

  close(): void {
    this.#closing.abort();
  }

  async #ask(failing: readonly FailingHost[]): Promise<void> {
    const known = new Set(failing.map(({ pool, address }) => keyOf(pool.cluster, address)));
    for (const key of this.#reasons.keys()) if (!known.has(key)) this.#reasons.delete(key);
    await Promise.all(failing.map((host) => this.#askOne(host)));
  }

  async #askOne({ pool, address }: FailingHost): Promise<void> {
    const result = await repeatCheck(this.#config, pool.cluster, address, this.#closing.signal);
    const key = keyOf(pool.cluster, address);
    if (result === null || this.#closing.signal.aborted) return;
    const hasSucceeded = this.#succeeded.has(key);
    if (result.succeeds) this.#succeeded.add(key);
    else this.#succeeded.delete(key);
    // Envoy may be about to notice that it does, or not have checked it yet.
    if (result.succeeds && !hasSucceeded) return;
    const reason = describeResult(result);
    if (this.#reasons.get(key) === reason) return;
    this.#reasons.set(key, reason);
    this.#changes.warn(`health check of ${address} in ${pool.cluster} (${pool.site}) fails: ${reason}`, {
      cluster: pool.cluster,
      address,
    });
  }
}

/** The hosts of a pool whose checks are to be repeated. */
export function hostsToAsk(hosts: readonly Host[]): Host[] {
  return hosts.filter(isFailing).slice(0, MAX_ASKED_PER_POOL);
}

function isFailing({ why }: Host): boolean {
  return why.includes(FAILED_CHECK);
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
