import { isDeepStrictEqual } from 'node:util';
import { applicationsOf, type Config, isOneForEveryHost, sitesOf } from '../config/config.ts';
import { hostTableOf } from '../config/virtual-hosts.ts';
import { evicted, type SiteState, withoutHeld } from '../decision/decide.ts';
import { createPolicy } from '../decision/policy.ts';
import type { Drain } from '../envoy-runtime/drain.ts';
import { EnvoyRuntime } from '../envoy-runtime/envoy-runtime.ts';
import type { Hold } from '../envoy-runtime/hold.ts';
import { type ApplicationSites, SiteKeys } from '../envoy-runtime/site-keys.ts';
import type { DecisionLog } from '../ext-proc/decision-log.ts';
import { type ApplicationProcess, createProcess, type ProcessStream, type ReplyStream } from '../ext-proc/process.ts';
import { createReplies, type EncodeResponse, encodeUnchanged } from '../ext-proc/replies.ts';
import { createRequestDecoder } from '../ext-proc/request.ts';
import { createRequestMatcher } from '../ext-proc/request-matcher.ts';
import { watchedPools } from '../health/pool.ts';
import type { RouteCounts } from '../health/route-counts.ts';
import { createHealthWatcher, type HealthWatcher } from '../health/watcher.ts';
import type { ChangeLog } from '../log/changes.ts';
import type { Counters } from '../metrics/counters.ts';

/**
 * Everything that comes of one config: what is compiled from it, and what runs by it. Never changed: a reload makes the
 * next one, and each call keeps to the one that was in force when it began.
 */
export interface Generation {
  readonly config: Config;
  /** Called for each ext_proc stream. */
  readonly open: (replies: ReplyStream) => ProcessStream;
  /** How an application stands now; null where there is none of that name. */
  readonly stateOf: (application: string) => SiteState | null;
  readonly health: HealthWatcher;
  /** What the sidecars of this Envoy share, and that part of it by which Envoy's steady routes go. */
  readonly envoyRuntime: EnvoyRuntime;
  readonly siteKeys: SiteKeys;
}

/** What stays from one generation to the next. */
export interface SharedServices {
  readonly encodeResponse: EncodeResponse;
  /** Who drains; what the config says of it comes on top. */
  readonly drain: Drain;
  /** Which other sites this one takes for down. */
  readonly hold: Hold;
  /** How an application stands in the generation in force. */
  readonly stateOf: Generation['stateOf'];
  /** Called after each good poll. */
  readonly onHealth: () => Promise<void>;
  readonly onMalformed: () => void;
  readonly decisionLog: DecisionLog | null;
  readonly changes: ChangeLog;
  readonly counters: Counters;
  readonly routeCounts: RouteCounts;
}

/**
 * Makes a generation. What the config has not changed for it takes over from the one before: a watcher of health that
 * goes on knows all the time how the pools are. A watcher that is new has to be started.
 */
export function createGeneration(config: Config, parts: SharedServices, before: Generation | null): Generation {
  const { changes, counters } = parts;
  const health =
    before !== null && isDeepStrictEqual(healthSettings(before.config), healthSettings(config))
      ? before.health
      : createHealthWatcher({
          config,
          changes,
          counters,
          routeCounts: parts.routeCounts,
          onHealth: parts.onHealth,
          ...(before === null ? {} : { memory: before.health.memory() }),
        });
  const isSameRuntime = before !== null && isDeepStrictEqual(runtimeSettings(before.config), runtimeSettings(config));
  const { siteKeys, envoyRuntime } = isSameRuntime ? before : createRuntime(config, parts);
  const applications = applicationsOf(config).map((application, index) => {
    const { name, statusUri, drain } = application;
    const policy = createPolicy(application);
    const ownCounters = counters.ofApplication(name);
    const process: ApplicationProcess = {
      policy,
      replies: createReplies({ application, policy, encode: parts.encodeResponse, counters: ownCounters }),
      currentState: () => {
        const pools = withoutHeld(health.current(index), policy.sites, parts.hold.sitesOf(name));
        const running = parts.drain.of(name);
        return { health: running?.evict === true ? evicted(pools) : pools, draining: drain || running !== null };
      },
      counters: ownCounters,
      onDecision: parts.decisionLog?.of(name, policy) ?? null,
    };
    return { name, process, matcher: createRequestMatcher(policy, statusUri) };
  });
  const open = createProcess({
    applications: applications.map(({ process }) => process),
    decode: createRequestDecoder({
      hosts: isOneForEveryHost(config) ? null : hostTableOf(config.applications),
      matchers: applications.map(({ matcher }) => matcher),
    }),
    unchanged: encodeUnchanged(parts.encodeResponse),
    counters,
    onMalformed: parts.onMalformed,
  });
  const states = new Map(applications.map(({ name, process }) => [name, process.currentState]));
  return { config, open, stateOf: (name) => states.get(name)?.() ?? null, health, envoyRuntime, siteKeys };
}

/** All of a config that a watcher of health goes by. */
function healthSettings(config: Config) {
  const pools = config.applications.flatMap(({ localPool, remotePools }) => [localPool, ...remotePools]);
  // What the checks are repeated by that fail.
  const checks = pools.map(({ healthCheck, protocol, tls }) => ({ healthCheck, protocol, tls }));
  const asked = config.applications.map(({ hosts, statusUri }) => ({ hosts, statusUri }));
  const { admin, fastPath } = config.envoy;
  return { checks, asked, watched: watchedPools(config), admin, fastPath, ...config.health };
}

function createRuntime(config: Config, { drain, hold, stateOf, changes }: SharedServices) {
  const siteKeys = new SiteKeys({
    ...{ isEnabled: config.envoy.fastPath, applications: sitesOfEach(config), changes },
    isUp: (application, site, siteName) => {
      // Also while health is not known.
      if (hold.sitesOf(application).has(siteName)) return false;
      const health = stateOf(application)?.health;
      return health?.known === true ? health.up[site] === true : null;
    },
    holdUpMs: config.health.holdUpMs,
  });
  const { admin } = config.envoy;
  const { pollIntervalMs } = config.health;
  // The sites last: one that moves its sessions away, or is held, is not up any more.
  const envoyRuntime = new EnvoyRuntime({ admin, pollIntervalMs, parts: [drain, hold, siteKeys] });
  return { siteKeys, envoyRuntime };
}

function runtimeSettings({ envoy, health }: Config) {
  return { admin: envoy.admin, isEnabled: envoy.fastPath, pollIntervalMs: health.pollIntervalMs };
}

export function sitesOfEach(config: Config): ApplicationSites[] {
  return applicationsOf(config).map((application) => ({ name: application.name, sites: sitesOf(application) }));
}
