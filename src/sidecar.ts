import type { Logger } from 'pino';
import { ChangeLog } from './changes.ts';
import { formatAddress } from './config/address.ts';
import type { Config } from './config/config.ts';
import { type Decision, isAllLocal, ownerName } from './decision/decide.ts';
import { createPolicy, type Policy } from './decision/policy.ts';
import { createRequestMatcher } from './decision/request-matcher.ts';
import { createProcess } from './ext-proc/process.ts';
import { createReplies } from './ext-proc/replies.ts';
import { createRequestDecoder } from './ext-proc/request.ts';
import { startExtProcServer } from './ext-proc/server.ts';
import { createExtProcService } from './ext-proc/service.ts';
import { createFastPath } from './fast-path/fast-path.ts';
import { describeAdmin } from './health/admin-client.ts';
import { watchedPools } from './health/pool.ts';
import { createHealthWatcher } from './health/watcher.ts';
import { Counters } from './metrics/counters.ts';
import { createMetrics } from './metrics/registry.ts';
import { DecisionRates } from './ops/decision-rates.ts';
import { Drain } from './ops/drain.ts';
import { EventStreams } from './ops/event-streams.ts';
import { startOpsServer } from './ops/server.ts';
import { reportSiteState, type Serving } from './ops/state.ts';
import { packageVersion } from './package-version.ts';

export interface Sidecar {
  /** Stops taking calls, lets those in flight end, and stops polling. */
  close(): Promise<void>;
}

/**
 * Puts the parts together and serves until closed.
 * @throws ListenError when an address cannot be had; nothing is left running then
 */
export async function startSidecar(config: Config, logger: Logger): Promise<Sidecar> {
  const policy = createPolicy(config);
  const service = createExtProcService();
  const counters = new Counters();
  const changes = new ChangeLog(logger);
  const health = createHealthWatcher({ config, changes, counters, onHealth: () => fastPath.update() });
  const drain = new Drain(config.site, changes, () => void fastPath.update());
  const fastPath = createFastPath({
    admin: config.envoy.admin,
    isEnabled: config.envoy.fastPath,
    isRight: () => isAllLocal({ health: health.current(), draining: drain.isDraining }),
    changes,
  });
  const open = createProcess({
    policy,
    decode: createRequestDecoder(createRequestMatcher(policy, config.statusUri)),
    replies: createReplies({ config, policy, encode: service.encodeResponse, counters }),
    currentState: () => ({ health: health.current(), draining: drain.isDraining }),
    counters,
    onDecision: logger.isLevelEnabled('debug') ? logDecisions(policy, logger) : null,
    onMalformed: warnOnce(logger, 'a message on the ext_proc listener is not of Envoy: it is closed without an answer'),
  });
  const rates = new DecisionRates(counters);
  const version = packageVersion();
  const startedAtMs = Date.now();
  let serving: Serving = 'starting';
  const state = () =>
    reportSiteState({
      ...{ site: config.site, version, startedAtMs, serving, watched: watchedPools(config) },
      ...{ health, drain, fastPath, counters, rates, changes },
    });
  const started: { close(): void | Promise<void> }[] = [rates, health];
  const closeAll = async () => {
    serving = 'stopping';
    for (const part of started.toReversed()) await part.close();
  };
  try {
    const metrics = createMetrics({ counters, state, version });
    const events = new EventStreams({ state, rates, changes });
    started.push(await startOpsServer({ listen: config.opsListen, drain, state, metrics, events, logger }), drain);
    const server = await startExtProcServer({ listen: config.listen, service, open, logger });
    // Side by side, for each may take its time: the whole stop stays under 5 s.
    started.push({ close: async () => void (await Promise.all([server.close(), fastPath.close()])) });
    // Before its first poll a sidecar would have no opinion, and its status URI would tell the other sites 503.
    await health.start();
    server.acceptCalls();
    serving = 'serving';
  } catch (error) {
    await closeAll();
    throw error;
  }
  logger.info(
    { site: config.site, listen: formatAddress(config.listen), admin: describeAdmin(config.envoy.admin) },
    `site ${config.site}: deciding on ${formatAddress(config.listen)}, not draining`,
  );
  return { close: closeAll };
}

function logDecisions(policy: Policy, logger: Logger): (decision: Decision) => void {
  return (decision) => {
    const owner = ownerName(policy, decision.owner);
    const pool = 'pool' in decision ? policy.sites[decision.pool]?.cluster : undefined;
    logger.debug({ decision: decision.reason, owner, pool }, 'decision');
  };
}

function warnOnce(logger: Logger, message: string): () => void {
  let isSaid = false;
  return () => {
    if (isSaid) return;
    isSaid = true;
    logger.warn(message);
  };
}
