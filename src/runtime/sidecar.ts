import type { Logger } from 'pino';
import { formatAddress } from '../config/address.ts';
import type { Config, ListenTlsConfig } from '../config/config.ts';
import { type ListenerKey, listenersOf, whyExposed } from '../config/listener-safety.ts';
import { describeAdmin } from '../envoy-admin/admin-client.ts';
import { Drain } from '../envoy-runtime/drain.ts';
import { Hold } from '../envoy-runtime/hold.ts';
import { createDecisionLog } from '../ext-proc/decision-log.ts';
import { type ExtProcServer, startExtProcServer } from '../ext-proc/server.ts';
import { createExtProcService } from '../ext-proc/service.ts';
import { watchedPools } from '../health/pool.ts';
import { RouteCounts } from '../health/route-counts.ts';
import { type ServerTls, startServerTls } from '../listener/server-tls.ts';
import { ChangeLog } from '../log/changes.ts';
import { Counters } from '../metrics/counters.ts';
import { DecisionRates } from '../ops/decision-rates.ts';
import { EventStreams } from '../ops/event-streams.ts';
import { startHttpListener } from '../ops/http-listener.ts';
import { createMetrics } from '../ops/metrics-text.ts';
import { createMonitoringAnswer } from '../ops/monitoring-routes.ts';
import { OwnRequests } from '../ops/own-requests.ts';
import { PoolHistory } from '../ops/pool-history.ts';
import { startOpsServer } from '../ops/server.ts';
import { reportSiteState, type Serving } from '../ops/state.ts';
import { CurrentGeneration } from './current-generation.ts';
import { EnvoyFollows } from './envoy-follows.ts';
import type { Generation, SharedServices } from './generation.ts';
import { HeldAlarm } from './held-alarm.ts';
import { packageVersion } from './package-version.ts';
import { createReloader, type Reloader, type ReloadOutcome } from './reload.ts';

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
 * @param read reads the config file again, for a reload
 * @throws ListenError when an address cannot be had, CertificateError when its certificates can't be used; nothing is
 * left running then
 */
export async function startSidecar(config: Config, logger: Logger, read: () => Promise<Config>): Promise<Sidecar> {
  const service = createExtProcService();
  const counters = new Counters();
  const changes = new ChangeLog(logger);
  const configNow = () => current.get().config;
  const tellEnvoy = () => void current.get().envoyRuntime.update();
  const drain = new Drain(configNow, changes, tellEnvoy);
  const hold = new Hold(configNow, changes, tellEnvoy);
  const heldAlarm = new HeldAlarm({ current: () => current.get(), hold, changes });
  const services: SharedServices = {
    encodeResponse: service.encodeResponse,
    drain,
    hold,
    stateOf: (application) => current.get().stateOf(application),
    onHealth: () => {
      healthKnownAtMs ??= performance.now();
      void envoyFollows.onHealth();
      heldAlarm.observe();
      return current.get().envoyRuntime.update();
    },
    onMalformed: warnOnce(
      logger,
      'a message on the ext_proc listener is not from Envoy: its stream was closed without an answer',
    ),
    decisionLog: createDecisionLog(logger),
    routeCounts: new RouteCounts(counters),
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

  const envoyFollows = new EnvoyFollows(() => current.get(), changes);
  const reloader = createReloader({
    read,
    current: () => current.get().config,
    giveToEnvoy: (next) => envoyFollows.follow(next),
    apply: (next) => current.replace(next),
    counters,
    changes,
    logger,
  });
  const site = () => current.get().config.site;
  const rates = new DecisionRates(counters, site);
  const ownRequests = new OwnRequests(counters, site);
  const poolHistory = new PoolHistory();
  keepHistory(poolHistory, { current: () => current.get(), hold, rates, changes });
  const version = packageVersion();
  const startedAtMs = Date.now();
  const state = () => {
    const { config: inForce, health, siteKeys } = current.get();
    return reportSiteState({
      ...{ config: inForce, version, startedAtMs, serving: currentServing(), watched: watchedPools(inForce) },
      ...{ health, drain, hold, siteKeys, counters, rates, ownRequests, changes },
    });
  };
  const { listen, opsListen, socket } = config;
  const tls: ServerTls[] = [];
  const reload = async (): Promise<ReloadOutcome> => {
    const [outcome, ...certificates] = await Promise.all([reloader.reload(), ...tls.map((one) => one.reload())]);
    const bad = certificates.filter((why) => why !== null);
    return { isAccepted: outcome.isAccepted && bad.length === 0, lines: [...outcome.lines, ...bad] };
  };
  const startTls = async (listener: ListenerKey, files: ListenTlsConfig | null) => {
    if (files === null) return null;
    const made = await startServerTls({ listener, files, changes, logger });
    started.push(made);
    tls.push(made);
    return made;
  };
  const started: { close(): void | Promise<void> }[] = [rates, ownRequests, current];
  const closeAll = async () => {
    serving = 'stopping';
    reloader.close();
    // Beside the rest, for an Envoy that hangs may hold it up.
    const followed = envoyFollows.close();
    await current.stopReplacing();
    for (const part of started.toReversed()) await part.close();
    await followed;
  };
  try {
    const metrics = createMetrics({ counters, state, certificates: tls, version });
    const events = new EventStreams({ state, rates, changes });
    const opsTls = await startTls('ops_listen', config.opsListenTls);
    const extProcTls = await startTls('listen', config.listenTls);
    const share = () => current.get().envoyRuntime.updateSoon();
    const seen = { drain, hold, share, state, poolHistory, metrics, events, reload };
    const ops = { listen: opsListen, socket, tls: opsTls, config: configNow, ...seen, logger };
    started.push(await startOpsServer(ops), drain, hold);
    if (config.metricsListen !== null) {
      const metricsTls = await startTls('metrics_listen', config.metricsListenTls);
      const answer = createMonitoringAnswer({ state, metrics });
      const place = { key: 'metrics_listen', address: config.metricsListen, socket, tls: metricsTls } as const;
      started.push(await startHttpListener({ ...place, answer, logger }));
    }
    const open: Generation['open'] = (replies) => current.get().open(replies);
    const extProc = await startExtProcServer({ listen, socket, tls: extProcTls, service, open, logger });
    server = extProc;
    // Side by side, for each may take its time: the whole stop stays under 5 s.
    started.push({ close: async () => void (await Promise.all([extProc.close(), current.closeRuntime()])) });
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
    `site ${config.site}: deciding on ${formatAddress(listen)}, ${describeDrain(config, drain)}`,
  );
  // What has been changed while no sidecar ran.
  void envoyFollows.follow(config).catch((error: unknown) => {
    if (serving === 'stopping') return;
    const why = error instanceof Error ? error.message : String(error);
    changes.error(`${why}; this sidecar goes by the config file all the same`);
  });
  return { reload, close: closeAll };
}

/** Each second, for health becomes unknown without a change of a pool, and after each change, for a pool may be down for less. */
function keepHistory(
  history: PoolHistory,
  parts: { current: () => Generation; hold: Hold; rates: DecisionRates; changes: ChangeLog },
): void {
  const { current, hold, rates, changes } = parts;
  const isHeld = (application: string, site: string) => hold.sitesOf(application).has(site);
  const observe = () => {
    const { config, health } = current();
    history.observe({
      ...{ watched: watchedPools(config), pools: health.memory().pools },
      ...{ isKnown: health.isKnown, isHeld },
    });
  };
  rates.onSample(observe);
  // Of changes that come together once.
  let isDue = false;
  changes.onChange(() => {
    if (isDue) return;
    isDue = true;
    setImmediate(() => {
      isDue = false;
      observe();
    });
  });
}

function describeDrain({ applications }: Config, drain: Drain): string {
  const draining = applications.filter((application) => application.drain || drain.of(application.name) !== null);
  if (draining.length === 0) return 'not draining';
  const which = draining.length === applications.length ? '' : ` ${draining.map(({ name }) => name).join(', ')}`;
  const why = draining.every((application) => application.drain) ? 'the config file says' : "Envoy's runtime says";
  return `draining${which}, as ${why}`;
}

function warnOnce(logger: Logger, message: string): () => void {
  let isSaid = false;
  return () => {
    if (isSaid) return;
    isSaid = true;
    logger.warn(message);
  };
}
