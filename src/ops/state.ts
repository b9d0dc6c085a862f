import { z } from 'zod';
import { FAST_PATH_STATES, type FastPath } from '../fast-path/fast-path.ts';
import type { WatchedPool } from '../health/pool.ts';
import type { HealthWatcher } from '../health/watcher.ts';
import type { Drain } from './drain.ts';

const host = z.object({ address: z.string(), up: z.boolean(), why: z.string() });

const pool = z.object({
  site: z.string(),
  cluster: z.string(),
  up: z.boolean(),
  /** False where Envoy has no cluster of that name. */
  known_to_envoy: z.boolean(),
  servers_up: z.number(),
  servers_total: z.number(),
  min_up: z.number(),
  /** It has servers enough, but not for long enough (hold_up). */
  held_up: z.boolean(),
  hosts: z.array(host),
});

/** What `GET /api/state` says: the sidecar's view of its site. Times are ISO 8601. */
export const siteStateSchema = z.object({
  site: z.string(),
  health_known: z.boolean(),
  /** Since the last good poll; null for never. */
  health_age_ms: z.number().nullable(),
  draining: z.boolean(),
  draining_since: z.string().nullable(),
  draining_until: z.string().nullable(),
  /** Whether requests that need no decision stay in Envoy: see {@link FastPathState}. */
  fast_path: z.enum(FAST_PATH_STATES),
  /** The local pool first; empty before the first good poll. */
  pools: z.array(pool),
});

export type SiteStateReport = z.infer<typeof siteStateSchema>;

export interface SiteParts {
  readonly site: string;
  readonly watched: readonly WatchedPool[];
  readonly health: HealthWatcher;
  readonly drain: Drain;
  readonly fastPath: FastPath;
}

export function reportSiteState({ site, watched, health, drain, fastPath }: SiteParts): SiteStateReport {
  const isoTime = (ms: number | null | undefined) =>
    ms === null || ms === undefined ? null : new Date(ms).toISOString();
  const isKnown = health.current().known;
  return {
    site,
    health_known: isKnown,
    health_age_ms: health.ageMs(),
    draining: drain.isDraining,
    draining_since: isoTime(drain.times?.sinceMs),
    draining_until: isoTime(drain.times?.untilMs),
    fast_path: fastPath.state,
    pools: health.pools().map((state, index) => ({
      site: watched[index]?.site ?? '',
      cluster: watched[index]?.cluster ?? '',
      up: isKnown && state.isUp,
      known_to_envoy: state.isKnownToEnvoy,
      servers_up: state.count.up,
      servers_total: state.count.total,
      min_up: watched[index]?.minUp ?? 1,
      held_up: isKnown && !state.isUp && state.count.up >= (watched[index]?.minUp ?? 1),
      hosts: state.hosts.map((each) => ({ ...each })),
    })),
  };
}
