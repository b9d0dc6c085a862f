import { z } from 'zod';
import { REASONS } from '../decision/decide.ts';
import { FAST_PATH_STATES, type FastPath } from '../fast-path/fast-path.ts';
import type { PoolState, WatchedPool } from '../health/pool.ts';
import type { HealthWatcher } from '../health/watcher.ts';
import { CHANGE_LEVELS, type ChangeLog } from '../log/changes.ts';
import { type Counters, forEachReason } from '../metrics/counters.ts';
import type { DecisionRates } from './decision-rates.ts';
import type { Drain } from './drain.ts';

const host = z.object({ address: z.string(), up: z.boolean(), why: z.string() });

const pool = z.object({
  site: z.string(),
  cluster: z.string(),
  up: z.boolean(),
  /** Envoy has said lately how it is, and has a cluster of that name; where it has not, the rest is as last seen. */
  health_known: z.boolean(),
  /** False where Envoy has no cluster of that name; null before the first good poll. */
  known_to_envoy: z.boolean().nullable(),
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
  version: z.string(),
  started: z.string(),
  /** Why the sidecar is not ready: it does not serve, or does not know health. Null: it is. */
  not_ready: z.string().nullable(),
  health_known: z.boolean(),
  /** Since the last good poll; null for never. */
  health_age_ms: z.number().nullable(),
  draining: z.boolean(),
  draining_since: z.string().nullable(),
  draining_until: z.string().nullable(),
  /** Whether requests that need no decision stay in Envoy: see {@link FastPathState}. */
  fast_path: z.enum(FAST_PATH_STATES),
  /** The local pool first. */
  pools: z.array(pool),
  /** By reason, since the start and a second (the mean of the last few). */
  decisions: z.record(z.enum(REASONS), z.object({ total: z.number(), per_second: z.number() })),
  /** Requests since the start that carried this site's cookie more than once. */
  duplicate_cookies: z.number(),
  /** The last changes, the newest first. */
  changes: z.array(z.object({ time: z.string(), level: z.enum(CHANGE_LEVELS), message: z.string() })),
});

export type SiteStateReport = z.infer<typeof siteStateSchema>;

/** Whether the sidecar takes calls; `unseen`: it does, and Envoy has not seen it yet. */
export type Serving = 'starting' | 'unseen' | 'serving' | 'stopping';

export interface SiteParts {
  readonly site: string;
  readonly version: string;
  readonly startedAtMs: number;
  readonly serving: Serving;
  readonly watched: readonly WatchedPool[];
  readonly health: HealthWatcher;
  readonly drain: Drain;
  readonly fastPath: FastPath;
  readonly counters: Counters;
  readonly rates: DecisionRates;
  readonly changes: ChangeLog;
}

export function reportSiteState(parts: SiteParts): SiteStateReport {
  const { watched, health, drain, counters, rates, changes } = parts;
  const isKnown = health.current().known;
  const pools = health.pools();
  const totals = counters.decisionTotals();
  const now = rates.now();
  return {
    site: parts.site,
    version: parts.version,
    started: new Date(parts.startedAtMs).toISOString(),
    not_ready: whyNotReady(parts.serving, isKnown, health.ageMs()),
    health_known: isKnown,
    health_age_ms: health.ageMs(),
    draining: drain.isDraining,
    draining_since: isoTime(drain.times?.sinceMs),
    draining_until: isoTime(drain.times?.untilMs),
    fast_path: parts.fastPath.state,
    pools: watched.map((of, index) => reportPool(of, pools[index], isKnown)),
    decisions: forEachReason((reason) => ({ total: totals[reason], per_second: now[reason] })),
    duplicate_cookies: counters.duplicateCookies,
    changes: changes.last.map(({ atMs, level, message }) => ({
      time: new Date(atMs).toISOString(),
      level,
      message,
    })),
  };
}

function reportPool(
  watched: WatchedPool,
  state: PoolState | undefined,
  isKnown: boolean,
): SiteStateReport['pools'][number] {
  const { site, cluster, minUp } = watched;
  const up = isKnown && state?.isUp === true;
  const count = state?.count ?? { up: 0, total: 0 };
  return {
    site,
    cluster,
    up,
    health_known: isKnown && state?.isKnownToEnvoy === true,
    known_to_envoy: state?.isKnownToEnvoy ?? null,
    servers_up: count.up,
    servers_total: count.total,
    min_up: minUp,
    held_up: isKnown && !up && count.up >= minUp,
    hosts: (state?.hosts ?? []).map((each) => ({ ...each })),
  };
}

function whyNotReady(serving: Serving, isHealthKnown: boolean, ageMs: number | null): string | null {
  if (serving === 'starting') return 'starting: no call is taken before the first poll of Envoy';
  if (serving === 'stopping') return 'stopping: no new call is taken';
  if (isHealthKnown) {
    return serving === 'unseen' ? 'starting: no Envoy has checked the health of this sidecar yet' : null;
  }
  const since = ageMs === null ? 'yet' : `for ${(ageMs / 1_000).toFixed(1)} s`;
  return `health is not known: no good answer from Envoy's admin interface ${since}`;
}

function isoTime(ms: number | null | undefined): string | null {
  return ms === null || ms === undefined ? null : new Date(ms).toISOString();
}
