import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { type Address, isLoopback } from '../config/address.ts';
import type { SocketConfig } from '../config/config.ts';
import { Connections } from '../listener/connections.ts';
import { listen } from '../listener/listen.ts';
import type { ServerTls } from '../listener/server-tls.ts';
import { createLogLimit } from '../log/log-limit.ts';
import { type Drain, parseDrainMs } from './drain.ts';
import { type EventStreams, MAX_EVENT_STREAMS } from './event-streams.ts';
import type { Metrics } from './metrics-text.ts';
import { readPageFiles } from './page-files.ts';
import { type Reach, whyRefused } from './request-guard.ts';
import { type Answer, RequestQueue } from './request-queue.ts';
import type { SiteStateReport } from './state.ts';

export interface OpsServerOptions {
  readonly listen: Address;
  readonly socket: SocketConfig;
  /** Null: without TLS, and so without authentication. */
  readonly tls: ServerTls | null;
  readonly drain: Drain;
  readonly state: () => SiteStateReport;
  readonly metrics: Metrics;
  readonly events: EventStreams;
  readonly logger: Logger;
}

export interface OpsServer {
  close(): Promise<void>;
}

/** Every event stream, and for each a scraper, a probe and an operator. */
const MAX_CONNECTIONS = 128;

/** Nothing from elsewhere, nothing inline, no frame around it, and no HTML made of text by a script. */
const PAGE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
].join('; ');

const SECURITY_HEADERS = {
  'content-security-policy': PAGE_POLICY,
  'x-content-type-options': 'nosniff',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
};

const ROUTES = 'GET /, /metrics, /livez, /readyz, /api/state and /events, POST /drain?for=30m and /undrain';

/**
 * The operator's listener: the status page, metrics, probes, the state as JSON and as events, drain and undrain. Without
 * TLS it has no authentication, so it belongs on loopback or a Unix socket.
 * @throws ListenError when the address cannot be had
 */
export async function startOpsServer(options: OpsServerOptions): Promise<OpsServer> {
  const { listen: address, socket, tls, logger, events } = options;
  const answer = createAnswer(options);
  const queue = new RequestQueue(async (request, response) => {
    request.resume();
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
    try {
      await answer(request, response);
    } catch (error) {
      logger.error({ err: error }, `the ops listener could not answer ${request.method} ${request.url}`);
      response.destroy();
    }
  });
  const connections = new Connections(MAX_CONNECTIONS, warnCrowded(logger));
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    connections.preferToKeep(request.socket);
    queue.add(request, response);
  };
  const server = tls === null ? createServer(onRequest) : createOverTls(tls, onRequest);
  server.on('connection', (connection: Socket) => connections.add(connection));
  await listen(server, { key: 'ops_listen', address, socket });
  return {
    async close() {
      events.close();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        // Node's closeAllConnections() would leave those in the middle of a handshake.
        connections.endAll();
      });
    },
  };
}

function createOverTls(tls: ServerTls, onRequest: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createTlsServer(tls.options, onRequest);
  tls.attach(server);
  return server;
}

function warnCrowded(logger: Logger): () => void {
  const mayLog = createLogLimit({
    lines: 1,
    perMs: 60_000,
    onLeftOut: (count) => logger.warn({ leftOut: count }, `${count} more connections of the ops listener were closed`),
  });
  return () => {
    if (mayLog())
      logger.warn('connection limit of the ops listener reached: one was closed; check what connects to it');
  };
}

function createAnswer(options: OpsServerOptions): Answer {
  const { drain, state, metrics, events } = options;
  const pageFiles = readPageFiles();
  const reach = reachOf(options);

  return async function answer(request, response) {
    const url = parseUrl(request.url ?? '/');
    if (url === null) return sendText(response, 400, 'not a path');
    const refusal = whyRefused(request, reach);
    if (refusal !== null) return sendText(response, 403, refusal);
    // HEAD is GET without the body, which Node leaves out.
    const route = `${request.method === 'HEAD' ? 'GET' : request.method} ${url.pathname}`;
    switch (route) {
      case 'GET /api/state':
        return sendState(response, state());
      case 'GET /events':
        if (request.method === 'HEAD') return sendText(response, 405, 'only GET');
        if (events.isFull) return sendText(response, 503, `${MAX_EVENT_STREAMS} others are reading events: try again`);
        return events.open(response);
      case 'GET /metrics':
        return send(response, 200, metrics.contentType, await metrics.text());
      case 'GET /livez':
        return sendText(response, 200, 'ok');
      case 'GET /readyz': {
        const why = state().not_ready;
        return sendText(response, why === null ? 200 : 503, why ?? 'ready');
      }
      case 'POST /drain': {
        const forMs = readDuration(url.searchParams.get('for'));
        if (forMs instanceof Error) return sendText(response, 400, forMs.message);
        drain.start(forMs);
        return sendState(response, state());
      }
      case 'POST /undrain':
        drain.end('undrain was asked for');
        return sendState(response, state());
      default: {
        const file = route.startsWith('GET ') ? pageFiles.get(url.pathname) : undefined;
        if (file !== undefined) return send(response, 200, file.type, file.body);
        return sendText(response, 404, `no ${route} here: ${ROUTES}`);
      }
    }
  };
}

function parseUrl(path: string): URL | null {
  try {
    return new URL(path, 'http://ops');
  } catch {
    return null;
  }
}

function readDuration(text: string | null): number | null | Error {
  if (text === null) return null;
  try {
    return parseDrainMs(text);
  } catch (error) {
    return new Error(`for=${text}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function sendState(response: ServerResponse, state: SiteStateReport): void {
  send(response, 200, 'application/json', `${JSON.stringify(state)}\n`);
}

function sendText(response: ServerResponse, status: number, text: string): void {
  send(response, status, 'text/plain; charset=utf-8', `${text}\n`);
}

function send(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
}

function reachOf({ listen: address, tls }: OpsServerOptions): Reach {
  if (tls !== null) return 'tls';
  // A Unix socket is reached by no browser, and whatever its client calls it is right.
  return address.kind === 'tcp' && isLoopback(address.host) ? 'loopback' : 'network';
}
