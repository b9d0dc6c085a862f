import { z } from 'zod';
import type { Config, OnOwnerDown } from '../config/config.ts';
import { REASONS } from '../decision/decide.ts';
import type { Drain, RunningDrain } from '../envoy-runtime/drain.ts';
import type { Hold } from '../envoy-runtime/hold.ts';
import type { Order } from '../envoy-runtime/orders.ts';
import { FAST_PATH_STATES, type SiteKeys } from '../envoy-runtime/site-keys.ts';
import type { PoolState, WatchedPool } from '../health/pool.ts';
import type { HealthWatcher } from '../health/watcher.ts';
import { CHANGE_LEVELS, type ChangeLog } from '../log/changes.ts';
import { type Counters, forEachReason } from '../metrics/counters.ts';
import {
  forEachSessionKind,
  type SessionCount,
  type SessionTotals,
  sessionCounts,
  sessionTotals,
} from '../metrics/sessions.ts';
import type { DecisionRates } from './decision-rates.ts';
import { DRAINED_AFTER_MS, type OwnRequests } from './own-requests.ts';
import { VERDICT_LEVELS, verdictOf, verdictOfSite } from './verdict.ts';

const host = z.object({ address: z.string(), up: z.boolean(), draining: z.boolean(), why: z.string() });

const pool = z.object({
  application: z.string(),
  site: z.string(),
  cluster: z.string(),
  /** Of that site's own status page; null where it is not known, and for this site. */
  ops_url: z.string().nullable(),
  up: z.boolean(),
  /** Envoy has said lately how it is, and has a cluster of that name; where it has not, the rest is as last seen. */
  health_known: z.boolean(),
  /** False where Envoy has no cluster of that name; null before the first good poll. */
  known_to_envoy: z.boolean().nullable(),
  servers_up: z.number(),
  /** Without those that drain. */
  servers_total: z.number(),
  servers_draining: z.number(),
  min_up: z.number(),
  /** It has servers enough, but not for long enough (hold_up). */
  held_up: z.boolean(),
  /** When hold_up lets it be up, if it stays so; null where it does not hold it back. */
  hold_up_left_ms: z.number().nullable(),
  /** This site takes it for down until somebody releases it; null: it does not. The servers are as really seen. */
  held: z.object({ since: z.string(), until: z.string().nullable(), reason: z.string() }).nullable(),
  hosts: z.array(host),
});

/** Since the start, and a second (the mean of the last few). */
const counted = z.object({ total: z.number(), per_second: z.number() });

/** By reason. */
const decisions = z.record(z.enum(REASONS), counted);

/** Requests by what became of their session, see {@link SESSION_KINDS}. */
const sessions = z.object({
  ...forEachSessionKind(() => counted),
  /** Null: this site's own sessions have come, and Envoy does not count what became of them. */
  server_gone: counted.nullable(),
});

const drainState = {
  draining: z.boolean(),
  draining_since: z.string().nullable(),
  draining_until: z.string().nullable(),
  /** As somebody gave it; null: none. */
  draining_reason: z.string().nullable(),
  /** The sessions that live here move to other sites. */
  evicting: z.boolean(),
};

const application = z.object({
  name: z.string(),
  hosts: z.array(z.string()),
  /** What its clients get now, in one sentence. */
  verdict: z.string(),
  verdict_level: z.enum(VERDICT_LEVELS),
  ...drainState,
  /** As the config file says it, so that `undrain` does not end it. */
  draining_by_config: z.boolean(),
  /** It drains, and for five minutes no request of its own sessions has come. */
  drained: z.boolean(),
  /** Requests of the sessions that live here. */
  own_requests_last_minute: z.number(),
  /** Null: none since the start. */
  last_own_request: z.string().nullable(),
  fast_path: z.enum(FAST_PATH_STATES),
  decisions,
  sessions,
  /** Requests since the start that carried this site's cookie more than once. */
  duplicate_cookies: z.number(),
});

/** What `GET /api/state` says: the sidecar's view of its site. Times are ISO 8601. */
export const siteStateSchema = z.object({
  /** What clients get now, in one sentence: of the only application, or how many of several are not well. */
  verdict: z.string(),
  verdict_level: z.enum(VERDICT_LEVELS),
  site: z.string(),
  version: z.string(),
  started: z.string(),
  /** Why the sidecar is not ready: it does not serve, or does not know health. Null: it is. */
  not_ready: z.string().nullable(),
  health_known: z.boolean(),
  /** Since the last good poll; null for never. */
  health_age_ms: z.number().nullable(),
  /** Whether the page has buttons to drain and undrain. */
  buttons: z.boolean(),
  /** Of all applications: whether each of them drains. */
  ...drainState,
  /** Whether requests that need no decision stay in Envoy: see {@link FastPathState}. Of several applications the worst. */
  fast_path: z.enum(FAST_PATH_STATES),
  /** In the order of the config; one named `default` where it names none. */
  applications: z.array(application),
  /** Application by application, each with its local pool first. */
  pools: z.array(pool),
  /** Of all applications together. */
  decisions,
  duplicate_cookies: z.number(),
  /** Requests since the start whose host belongs to no application. */
  other_hosts: z.number(),
  /** The last changes, the newest first, of each application the last four at least; `application` is null where all are meant. */
  changes: z.array(
    z.object({
      time: z.string(),
      level: z.enum(CHANGE_LEVELS),
      application: z.string().nullable(),
      message: z.string(),
    }),
  ),
});

export type SiteStateReport = z.infer<typeof siteStateSchema>;

/** Whether the sidecar takes calls; `unseen`: it does, and Envoy has not seen it yet. */
export type Serving = 'starting' | 'unseen' | 'serving' | 'stopping';

export interface SiteParts {
  /** The config in force. */
  readonly config: Config;
  readonly version: string;
  readonly startedAtMs: number;
  readonly serving: Serving;
  readonly watched: readonly WatchedPool[];
  readonly health: HealthWatcher;
  readonly drain: Drain;
  readonly hold: Hold;
  readonly siteKeys: SiteKeys;
  readonly ownRequests: OwnRequests;
  readonly counters: Counters;
  readonly rates: DecisionRates;
  readonly changes: ChangeLog;
}

export function reportSiteState(parts: SiteParts): SiteStateReport {
  const { config, watched, health, hold, counters, rates, changes } = parts;
  const isKnown = health.isKnown;
  const seen = health.pools();
  // In the order of what is watched.
  const opsUrls = config.applications.flatMap(({ remotePools }) => [null, ...remotePools.map(({ opsUrl }) => opsUrl)]);
  const pools = watched.map((of, index) => ({
    ...reportPool(of, seen[index], { isKnown, held: hold.of(of.application, of.site), ...config.health }),
    ops_url: opsUrls[index] ?? null,
  }));
  const poolsOf = groupByApplication(pools);
  const applications = config.applications.map((of) =>
    reportApplication(parts, { ...of, pools: poolsOf.get(of.name) ?? [] }),
  );
  const totals = counters.decisionTotals();
  const now = rates.now();
  const verdict = verdictOfSite(applications.map(({ verdict: text, verdict_level: level }) => ({ level, text })));
  return {
    verdict: verdict.text,
    verdict_level: verdict.level,
    site: config.site,
    version: parts.version,
    started: new Date(parts.startedAtMs).toISOString(),
    not_ready: whyNotReady(parts.serving, isKnown, health.ageMs()),
    health_known: isKnown,
    health_age_ms: health.ageMs(),
    buttons: config.opsButtons || config.opsListenTls !== null,
    ...drainOfAll(applications),
    fast_path: worstFastPath(applications),
    applications,
    pools,
    decisions: forEachReason((reason) => ({ total: totals[reason], per_second: now[reason] })),
    duplicate_cookies: counters.duplicateCookies(),
    other_hosts: counters.otherHosts,
    changes: changes.last.map(({ atMs, ...change }) => ({ time: new Date(atMs).toISOString(), ...change })),
  };
}

type ApplicationReport = SiteStateReport['applications'][number];
type PoolReport = SiteStateReport['pools'][number];

/** Of an application, what its report is made of. */
interface ApplicationParts {
  readonly name: string;
  readonly hosts: readonly string[];
  /** As the config says it. */
  readonly drain: boolean;
  readonly onOwnerDown: OnOwnerDown;
  /** The local pool first. */
  readonly pools: readonly PoolReport[];
}

function reportApplication(parts: SiteParts, of: ApplicationParts): ApplicationReport {
  const { config, health, drain, siteKeys, counters, rates, ownRequests } = parts;
  const { name, hosts, drain: byConfig } = of;
  const running = drain.of(name);
  const draining = byConfig || running !== null;
  const evicting = running?.evict === true;
  const drained = draining && isDrained(parts, name, running);
  const own = counters.ofApplication(name);
  const [totals, now] = [own.totals(), rates.ofApplication(name)];
  const [local, ...others] = of.pools;
  const requests = ownRequests.inLastMinute(name);
  const verdict = verdictOf({
    ...{ site: config.site, isKnown: health.isKnown, draining, drained, evicting, ownRequests: requests },
    ...{ onOwnerDown: of.onOwnerDown, local, others },
  });
  return {
    name,
    hosts: [...hosts],
    verdict: verdict.text,
    verdict_level: verdict.level,
    draining,
    ...reportDrain(running),
    draining_by_config: byConfig,
    drained,
    own_requests_last_minute: requests,
    last_own_request: isoTime(ownRequests.lastMs(name)),
    fast_path: siteKeys.state(name),
    decisions: forEachReason((reason) => ({ total: totals[reason], per_second: now[reason] })),
    sessions: reportSessions(sessionCounts(own, config.site), rates.sessionsOf(name)),
    duplicate_cookies: own.duplicateCookies,
  };
}

function reportSessions(counts: readonly SessionCount[], perSecond: SessionTotals): ApplicationReport['sessions'] {
  const totals = sessionTotals(counts);
  const all = forEachSessionKind((kind) => ({ total: totals[kind], per_second: perSecond[kind] }));
  const isKnown = counts.some(({ kind }) => kind === 'server_gone');
  return isKnown ? all : { ...all, server_gone: null };
}

function groupByApplication(pools: readonly PoolReport[]): ReadonlyMap<string, readonly PoolReport[]> {
  const groups = new Map<string, PoolReport[]>();
  for (const each of pools) {
    const group = groups.get(each.application);
    if (group === undefined) groups.set(each.application, [each]);
    else group.push(each);
  }
  return groups;
}

/** As far as this sidecar can know, which has seen nothing of before its start. */
function isDrained({ ownRequests, startedAtMs }: SiteParts, name: string, running: RunningDrain | null): boolean {
  const since = Math.max(startedAtMs, running?.sinceMs ?? 0, ownRequests.lastMs(name) ?? 0);
  return Date.now() - since >= DRAINED_AFTER_MS;
}

function reportDrain(running: RunningDrain | null) {
  return {
    draining_since: isoTime(running?.sinceMs),
    draining_until: isoTime(running?.untilMs),
    draining_reason: running === null || running.reason === '' ? null : running.reason,
    evicting: running?.evict === true,
  };
}

/** What all have together. */
function drainOfAll(applications: readonly ApplicationReport[]) {
  const draining = applications.every((each) => each.draining);
  const same = (key: 'draining_since' | 'draining_until' | 'draining_reason') => {
    const [first] = applications;
    return draining && applications.every((each) => each[key] === first?.[key]) ? (first?.[key] ?? null) : null;
  };
  return {
    draining,
    draining_since: same('draining_since'),
    draining_until: same('draining_until'),
    draining_reason: same('draining_reason'),
    evicting: applications.every((each) => each.evicting),
  };
}

function worstFastPath(applications: readonly ApplicationReport[]): ApplicationReport['fast_path'] {
  const worstFirst = ['refused', 'off', 'on', 'unused'] as const;
  return worstFirst.find((state) => applications.some((each) => each.fast_path === state)) ?? 'unused';
}

interface PoolSurroundings {
  /** Whether health is known. */
  readonly isKnown: boolean;
  readonly held: Order | null;
  readonly holdUpMs: number;
}

function reportPool(
  watched: WatchedPool,
  state: PoolState | undefined,
  { isKnown, held, holdUpMs }: PoolSurroundings,
): Omit<PoolReport, 'ops_url'> {
  const { application: of, site, cluster, minUp } = watched;
  const isUp = isKnown && state?.isUp === true;
  const count = state?.count ?? { up: 0, total: 0 };
  const draining = state?.draining ?? 0;
  const isHeldUp = isKnown && !isUp && count.up >= minUp;
  return {
    application: of,
    site,
    cluster,
    up: isUp && held === null,
    health_known: isKnown && state?.isKnownToEnvoy === true,
    known_to_envoy: state?.isKnownToEnvoy ?? null,
    servers_up: count.up,
    servers_total: count.total - draining,
    servers_draining: draining,
    min_up: minUp,
    held_up: isHeldUp,
    hold_up_left_ms: isHeldUp ? leftOfHoldUp(state, holdUpMs) : null,
    held: held === null ? null : reportHold(held),
    hosts: (state?.hosts ?? []).map((each) => ({ ...each })),
  };
}

function leftOfHoldUp(state: PoolState | undefined, holdUpMs: number): number {
  const sinceMs = performance.now() - (state?.lastShortAtMs ?? Number.NEGATIVE_INFINITY);
  return Math.round(Math.max(0, holdUpMs - sinceMs));
}

function reportHold({ sinceMs, untilMs, reason }: Order) {
  return { since: new Date(sinceMs).toISOString(), until: isoTime(untilMs), reason };
}

function whyNotReady(serving: Serving, isHealthKnown: boolean, ageMs: number | null): string | null {
  if (serving === 'starting') return 'starting: no call is taken before the first poll of Envoy';
  if (serving === 'stopping') return 'stopping: no new call is taken';
  if (isHealthKnown) {
    return serving === 'unseen' ? 'starting: no Envoy has checked the health of this sidecar yet' : null;
  }
  const since = ageMs === null ? 'yet' : `for ${(ageMs / 1_000).toFixed(1)} s`;
  return `health is not known: no valid answer from Envoy's admin interface ${since}`;
}

function isoTime(ms: number | null | undefined): string | null {
  return ms === null || ms === undefined ? null : new Date(ms).toISOString();
}
