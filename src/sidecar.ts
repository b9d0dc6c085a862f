import type { Logger } from 'pino';
import { formatAddress } from './config/address.ts';
import type { Config } from './config/config.ts';
import { type Decision, isAllLocal, NO_OWNER } from './decision/decide.ts';
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
import { Drain } from './ops/drain.ts';
import { startOpsServer } from './ops/server.ts';
import { reportSiteState } from './ops/state.ts';

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
  const health = createHealthWatcher(config, logger, () => fastPath.update());
  const drain = new Drain(config.site, logger, () => void fastPath.update());
  const fastPath = createFastPath({
    admin: config.envoy.admin,
    isEnabled: config.envoy.fastPath,
    isRight: () => isAllLocal({ health: health.current(), draining: drain.isDraining }),
    logger,
  });
  const open = createProcess({
    policy,
    decode: createRequestDecoder(createRequestMatcher(policy, config.statusUri)),
    replies: createReplies(config, policy, service.encodeResponse),
    currentState: () => ({ health: health.current(), draining: drain.isDraining }),
    onDecision: logger.isLevelEnabled('debug') ? logDecisions(policy, logger) : null,
    onMalformed: warnOnce(logger, 'a message on the ext_proc listener is not of Envoy: it is closed without an answer'),
  });
  const started: { close(): void | Promise<void> }[] = [health];
  const closeAll = async () => {
    for (const part of started.toReversed()) await part.close();
  };
  try {
    const state = () => reportSiteState({ site: config.site, watched: watchedPools(config), health, drain, fastPath });
    started.push(await startOpsServer({ listen: config.opsListen, drain, state, logger }), drain);
    const server = await startExtProcServer({ listen: config.listen, service, open, logger });
    // Side by side, for each may take its time: the whole stop stays under 5 s.
    started.push({ close: async () => void (await Promise.all([server.close(), fastPath.close()])) });
    // Before its first poll a sidecar would have no opinion, and its status URI would tell the other sites 503.
    await health.start();
    server.acceptCalls();
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
    const owner = decision.owner === NO_OWNER ? 'none' : policy.sites[decision.owner]?.name;
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
