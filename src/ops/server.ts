import type { ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import type { Address } from '../config/address.ts';
import { type Config, namesOf, type SocketConfig } from '../config/config.ts';
import type { Drain } from '../envoy-runtime/drain.ts';
import type { Hold } from '../envoy-runtime/hold.ts';
import type { ServerTls } from '../listener/server-tls.ts';
import { type EventStreams, MAX_EVENT_STREAMS } from './event-streams.ts';
import { type Question, send, sendText, startHttpListener } from './http-listener.ts';
import type { Metrics } from './metrics-text.ts';
import { answerMonitoring } from './monitoring-routes.ts';
import { giveOrder, readApplications } from './order-routes.ts';
import { readPageFiles } from './page-files.ts';
import type { PoolHistory } from './pool-history.ts';
import type { SiteStateReport } from './state.ts';

export interface OpsServerOptions {
  readonly listen: Address;
  readonly socket: SocketConfig;
  /** Null: without TLS, and so without authentication. */
  readonly tls: ServerTls | null;
  /** The one in force. */
  readonly config: () => Config;
  readonly drain: Drain;
  readonly hold: Hold;
  /** Reads the config file again, as SIGHUP does, and tells what became of it. */
  readonly reload: () => Promise<{ readonly isAccepted: boolean; readonly lines: readonly string[] }>;
  /** Resolves when Envoy has an order that began or ended, or lets it wait. */
  readonly share: () => Promise<void>;
  readonly state: () => SiteStateReport;
  readonly poolHistory: PoolHistory;
  readonly metrics: Metrics;
  readonly events: EventStreams;
  readonly logger: Logger;
}

export interface OpsServer {
  close(): Promise<void>;
}

const ROUTES =
  'GET /, /metrics, /livez, /readyz, /api/state, /api/history?application=shop and /events, POST /drain?for=30m&application=shop&evict&reason=TEXT&force, /undrain, /hold?site=west&reason=TEXT&for=2h&application=shop&force, /release?site=west and /reload';

/**
 * The operator's listener: the status page, metrics, probes, the state as JSON and as events, drains and holds. Without
 * TLS it has no authentication, so it belongs on loopback or a Unix socket.
 * @throws ListenError when the address cannot be had
 */
export async function startOpsServer(options: OpsServerOptions): Promise<OpsServer> {
  const { listen: address, socket, tls, logger, events } = options;
  const listener = await startHttpListener({
    ...{ key: 'ops_listen', address, socket, tls, logger },
    answer: createAnswer(options),
  });
  return {
    async close() {
      events.close();
      await listener.close();
    },
  };
}

function createAnswer(options: OpsServerOptions) {
  const { config, share, reload, state, poolHistory, events } = options;
  const pageFiles = readPageFiles();

  return async function answer(question: Question): Promise<void> {
    const { route, query, request, response } = question;
    if (await answerMonitoring(options, question)) return;
    const order = giveOrder(options, question);
    if (order !== null) {
      if (order.status !== 200) return sendText(response, order.status, order.why);
      // Envoy goes by it as well: the next request is to see the order.
      await share();
      return sendJson(response, state());
    }
    switch (route) {
      case 'GET /api/state':
        return sendJson(response, state());
      case 'GET /api/history': {
        const names = readApplications(query, namesOf(config()));
        if (names instanceof Error) return sendText(response, 400, names.message);
        return sendJson(response, { pools: poolHistory.report(names) });
      }
      case 'GET /events':
        if (request.method === 'HEAD') return sendText(response, 405, 'only GET');
        if (events.isFull) return sendText(response, 503, `${MAX_EVENT_STREAMS} others are reading events: try again`);
        return events.open(response);
      case 'POST /reload': {
        // It takes as long as Envoy does, and others must be answered meanwhile.
        void reload().then(({ isAccepted, lines }) => sendText(response, isAccepted ? 200 : 422, lines.join('\n')));
        return;
      }
      default: {
        const file = pageFiles.get(route.replace(/^GET /, ''));
        if (file !== undefined) return send(response, 200, file.type, file.body);
        return sendText(response, 404, `no ${route} here: ${ROUTES}`);
      }
    }
  };
}

function sendJson(response: ServerResponse, report: SiteStateReport | { readonly pools: object }): void {
  send(response, 200, 'application/json', `${JSON.stringify(report)}\n`);
}
