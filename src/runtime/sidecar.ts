import type { Logger } from 'pino';
import { formatAddress } from '../config/address.ts';
import type { Config, ListenTlsConfig } from '../config/config.ts';
import { type ListenerKey, listenersOf, whyExposed } from '../config/listener-safety.ts';
import { isAllLocal } from '../decision/decide.ts';
import { describeAdmin } from '../envoy-admin/admin-client.ts';
import { createDecisionLog } from '../ext-proc/decision-log.ts';
import { type ExtProcServer, startExtProcServer } from '../ext-proc/server.ts';
import { createExtProcService } from '../ext-proc/service.ts';
import { watchedPools } from '../health/pool.ts';
import { type ServerTls, startServerTls } from '../listener/server-tls.ts';
import { ChangeLog } from '../log/changes.ts';
import { Counters } from '../metrics/counters.ts';
import { DecisionRates } from '../ops/decision-rates.ts';
import { Drain } from '../ops/drain.ts';
import { EventStreams } from '../ops/event-streams.ts';
import { createMetrics } from '../ops/metrics-text.ts';
import { startOpsServer } from '../ops/server.ts';
import { reportSiteState, type Serving } from '../ops/state.ts';
import { CurrentGeneration } from './current-generation.ts';
import type { Generation, SharedServices } from './generation.ts';
import { packageVersion } from './package-version.ts';
import { createReloader, type Reloader } from './reload.ts';

/** An Envoy whose config checks no sidecar's health never asks; the rendered one asks every 0.5 s. */
const FIRST_HEALTH_CHECK_MS = 5_000;

export interface Sidecar {
  /**
   * Replaces the config in force, see {@link Reloader.reload}, and reads the certificates again. No call is lost; what
   * listens stays where it is.
   */
  readonly reload: Reloader['reload'];
  /** Stops taking calls, lets those in flight end, and stops polling. */
  close(): Promise<void>;
}

/**
 * Puts the parts together and serves until closed.
 * @throws ListenError when an address cannot be had, CertificateError when its certificates can't be used; nothing is
 * left running then
 */
export async function startSidecar(config: Config, logger: Logger): Promise<Sidecar> {
  const service = createExtProcService();
  const counters = new Counters();
  const changes = new ChangeLog(logger);
  const drain = new Drain(
    () => current.get().config.site,
    changes,
    () => void current.get().fastPath.update(),
  );
  const services: SharedServices = {
    encodeResponse: service.encodeResponse,
    isDraining: () => drain.isDraining,
    isAllLocal: () => isAllLocal({ health: current.get().health.current(), draining: drain.isDraining }),
    onHealth: () => {
      healthKnownAtMs ??= performance.now();
      return current.get().fastPath.update();
    },
    onMalformed: warnOnce(
      logger,
      'a message on the ext_proc listener is not from Envoy: its stream was closed without an answer',
    ),
    decisionLog: createDecisionLog(logger),
    counters,
    changes,
  };
  const current = new CurrentGeneration(config, services);
  let serving: Serving = 'starting';
  /** When Envoy first said how the pools are. */
  let healthKnownAtMs: number | null = null;
  let server: ExtProcServer | null = null;
  const currentServing = (): Serving => {
    if (serving !== 'serving' || server?.isSeenByEnvoy === true) return serving;
    const isOverdue = healthKnownAtMs !== null && performance.now() - healthKnownAtMs > FIRST_HEALTH_CHECK_MS;
    return isOverdue ? 'serving' : 'unseen';
  };

  const reloader = createReloader({
    current: () => current.get().config,
    apply: (next) => current.replace(next),
    counters,
    changes,
    logger,
  });
  const rates = new DecisionRates(counters);
  const version = packageVersion();
  const startedAtMs = Date.now();
  const state = () => {
    const { config: inForce, health, fastPath } = current.get();
    return reportSiteState({
      ...{ site: inForce.site, version, startedAtMs, serving: currentServing(), watched: watchedPools(inForce) },
      ...{ health, drain, fastPath, counters, rates, changes },
    });
  };
  const { listen, opsListen, socket } = config;
  const tls: ServerTls[] = [];
  const startTls = async (listener: ListenerKey, files: ListenTlsConfig | null) => {
    if (files === null) return null;
    const made = await startServerTls({ listener, files, changes, logger });
    started.push(made);
    tls.push(made);
    return made;
  };
  const started: { close(): void | Promise<void> }[] = [rates, current];
  const closeAll = async () => {
    serving = 'stopping';
    reloader.close();
    await current.stopReplacing();
    for (const part of started.toReversed()) await part.close();
  };
  try {
    const metrics = createMetrics({ counters, state, certificates: tls, version });
    const events = new EventStreams({ state, rates, changes });
    const opsTls = await startTls('ops_listen', config.opsListenTls);
    const extProcTls = await startTls('listen', config.listenTls);
    const ops = { listen: opsListen, socket, tls: opsTls, drain, state, metrics, events, logger };
    started.push(await startOpsServer(ops), drain);
    const open: Generation['open'] = (replies) => current.get().open(replies);
    const extProc = await startExtProcServer({ listen, socket, tls: extProcTls, service, open, logger });
    server = extProc;
    // Side by side, for each may take its time: the whole stop stays under 5 s.
    started.push({ close: async () => void (await Promise.all([extProc.close(), current.get().fastPath.close()])) });
    // Before its first poll a sidecar would have no opinion.
    await current.get().health.start();
    extProc.acceptCalls();
    serving = 'serving';
  } catch (error) {
    await closeAll();
    throw error;
  }
  for (const listener of listenersOf(config)) {
    const why = whyExposed(listener);
    if (why !== null) logger.warn(`insecure: ${listener.key} ${formatAddress(listener.address)} ${why}`);
  }
  logger.info(
    { site: config.site, listen: formatAddress(listen), admin: describeAdmin(config.envoy.admin) },
    `site ${config.site}: deciding on ${formatAddress(listen)}, not draining`,
  );
  return {
    async reload(read) {
      await Promise.all([reloader.reload(read), ...tls.map((one) => one.reload())]);
    },
    close: closeAll,
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
