import type { PoolCount } from '../envoy-admin/admin-client.ts';
import type { WatchedPool } from './pool.ts';

interface Success {
  readonly checks: number;
  /** Of the monotonic clock; null until one more has been seen. */
  readonly atMs: number | null;
}

/**
 * The checks of the pools' twins. On a link that loses packets three checks in a row fail now and then, and every session would
 * move though requests go through. In silence no check succeeds, and nobody waits for the twin's verdict, which comes later.
 */
export class Twins {
  readonly #watched: readonly WatchedPool[];
  readonly #successes = new Map<string, Success>();
  readonly #upByTwin = new Set<string>();

  constructor(watched: readonly WatchedPool[]) {
    this.#watched = watched;
  }

  /** The clusters to count, the twins among them. */
  get clusters(): string[] {
    return this.#watched.flatMap(({ cluster, twin }) => (twin === null ? [cluster] : [cluster, twin.cluster]));
  }

  /** The pools' counts, of those that are there only by their twins the twins'. */
  merge(counts: ReadonlyMap<string, PoolCount>, nowMs: number): Map<string, PoolCount> {
    const merged = new Map(counts);
    this.#upByTwin.clear();
    for (const { cluster, twin } of this.#watched) {
      if (twin === null) continue;
      const [own, other] = [counts.get(cluster), counts.get(twin.cluster)];
      merged.delete(twin.cluster);
      if (own === undefined || other === undefined) continue;
      const { atMs } = this.#note(twin.cluster, other.succeededChecks ?? 0, nowMs);
      const isAlive = atMs !== null && nowMs - atMs <= twin.aliveForMs;
      if (!isAlive || other.up <= own.up) continue;
      this.#upByTwin.add(cluster);
      merged.set(cluster, { ...own, up: other.up });
    }
    return merged;
  }

  /** The twin by which a pool was up at the last merge, or null. */
  upBy({ cluster, twin }: WatchedPool): string | null {
    return twin !== null && this.#upByTwin.has(cluster) ? twin.cluster : null;
  }

  #note(cluster: string, checks: number, nowMs: number): Success {
    const before = this.#successes.get(cluster);
    const atMs = before !== undefined && checks > before.checks ? nowMs : (before?.atMs ?? null);
    const success = { checks, atMs };
    this.#successes.set(cluster, success);
    return success;
  }
}
