import type { Logger } from 'pino';
import { formatAddress } from './config/address.ts';
import type { Config } from './config/config.ts';
import { isAllLocal } from './decision/decide.ts';
import { createDecisionLog } from './decision-log.ts';
import { startExtProcServer } from './ext-proc/server.ts';
import { createExtProcService } from './ext-proc/service.ts';
import { createGeneration, type LastingParts } from './generation.ts';
import { describeAdmin } from './health/admin-client.ts';
import { watchedPools } from './health/pool.ts';
import type { HealthWatcher } from './health/watcher.ts';
import { Drain } from './ops/drain.ts';
import { startOpsServer } from './ops/server.ts';
import { reportSiteState } from './ops/state.ts';
import { createReloader, type Reloader, type ReloadResult } from './reload.ts';

export interface Sidecar {
  /** Replaces the config in force, see {@link Reloader.reload}. No call is lost; what listens stays where it is. */
  readonly reload: Reloader['reload'];
  /** Stops taking calls, lets those in flight end, and stops polling. */
  close(): Promise<void>;
}

/**
 * Puts the parts together and serves until closed.
 * @param onReload told of each reload
 * @throws ListenError when an address cannot be had; nothing is left running then
 */
export async function startSidecar(
  config: Config,
  logger: Logger,
  onReload: (result: ReloadResult) => void = () => {},
): Promise<Sidecar> {
  const service = createExtProcService();
  const drain = new Drain(
    () => generation.config.site,
    logger,
    () => void generation.fastPath.update(),
  );
  const parts: LastingParts = {
    encodeResponse: service.encodeResponse,
    isDraining: () => drain.isDraining,
    isAllLocal: () => isAllLocal({ health: generation.health.current(), draining: drain.isDraining }),
    onHealth: () => generation.fastPath.update(),
    onMalformed: warnOnce(logger, 'a message on the ext_proc listener is not of Envoy: it is closed without an answer'),
    decisionLog: createDecisionLog(logger),
    logger,
  };
  let generation = createGeneration(config, parts, null);
  /** A watcher that is to take over, during its first poll. */
  let successor: HealthWatcher | null = null;
  let isClosing = false;

  async function apply(next: Config): Promise<void> {
    const before = generation;
    const after = createGeneration(next, parts, before);
    if (after.health !== before.health) {
      successor = after.health;
      const firstPoll = after.health.start();
      // Health that is known all the time is worth more than a reload at once.
      if (!after.health.current().known) await firstPoll;
      successor = null;
    }
    if (isClosing) {
      if (after.health !== before.health) await after.health.close();
      return;
    }
    generation = after;
    if (after.health !== before.health) await before.health.close();
    if (after.fastPath !== before.fastPath) await before.fastPath.close();
    await after.fastPath.update();
  }

  const reloader = createReloader({ current: () => generation.config, apply, onReload, logger });
  const started: { close(): void | Promise<void> }[] = [{ close: () => generation.health.close() }];
  const closeAll = async () => {
    isClosing = true;
    reloader.close();
    await successor?.close();
    for (const part of started.toReversed()) await part.close();
  };
  try {
    const state = () =>
      reportSiteState({ ...generation, site: generation.config.site, watched: watchedPools(generation.config), drain });
    started.push(await startOpsServer({ listen: config.opsListen, drain, state, logger }), drain);
    const process = (call: Parameters<typeof generation.process>[0]) => generation.process(call);
    const server = await startExtProcServer({ listen: config.listen, service, process, logger });
    // Side by side, for each may take its time: the whole stop stays under 5 s.
    started.push({ close: async () => void (await Promise.all([server.close(), generation.fastPath.close()])) });
    // Before its first poll a sidecar would have no opinion, and its status URI would tell the other sites 503.
    await generation.health.start();
    server.acceptCalls();
  } catch (error) {
    await closeAll();
    throw error;
  }
  logger.info(
    { site: config.site, listen: formatAddress(config.listen), admin: describeAdmin(config.envoy.admin) },
    `site ${config.site}: deciding on ${formatAddress(config.listen)}, not draining`,
  );
  return { reload: reloader.reload, close: closeAll };
}

function warnOnce(logger: Logger, message: string): () => void {
  let isSaid = false;
  return () => {
    if (isSaid) return;
    isSaid = true;
    logger.warn(message);
  };
}
