import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { type Address, isLoopback } from '../config/address.ts';
import type { SocketConfig } from '../config/config.ts';
import type { ListenerKey } from '../config/listener-safety.ts';
import { Connections } from '../listener/connections.ts';
import { listen } from '../listener/listen.ts';
import type { ServerTls } from '../listener/server-tls.ts';
import { createLogLimit } from '../log/log-limit.ts';
import { type Reach, whyRefused } from './request-guard.ts';
import { RequestQueue } from './request-queue.ts';

/** What is asked of an HTTP listener. */
export interface Question {
  /** Such as `GET /metrics`; a HEAD stands here as GET, for Node leaves its body out. */
  readonly route: string;
  readonly query: URLSearchParams;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

export interface HttpListenerOptions {
  readonly key: Exclude<ListenerKey, 'listen'>;
  readonly address: Address;
  readonly socket: SocketConfig;
  /** Null: without TLS, and so without authentication. */
  readonly tls: ServerTls | null;
  readonly answer: (question: Question) => void | Promise<void>;
  readonly logger: Logger;
}

export interface HttpListener {
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

/**
 * Listens for what operators, probes and scrapers ask, one request at a time, and refuses what pages of other web sites send.
 * @throws ListenError when the address cannot be had
 */
export async function startHttpListener(options: HttpListenerOptions): Promise<HttpListener> {
  const { key, address, socket, tls, answer, logger } = options;
  const reach = reachOf(options);
  const queue = new RequestQueue(async (request, response) => {
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
    try {
      const url = parseUrl(request.url ?? '/');
      if (url === null) return sendText(response, 400, 'not a path');
      const refusal = whyRefused(request, reach);
      if (refusal !== null) return sendText(response, 403, refusal);
      const route = `${request.method === 'HEAD' ? 'GET' : request.method} ${url.pathname}`;
      await answer({ route, query: url.searchParams, request, response });
    } catch (error) {
      logger.error({ err: error }, `${key} could not answer ${request.method} ${request.url}`);
      response.destroy();
    }
  });
  const connections = new Connections(MAX_CONNECTIONS, warnCrowded(key, logger));
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    connections.preferToKeep(request.socket);
    queue.add(request, response);
  };
  const server = tls === null ? createServer(onRequest) : createOverTls(tls, onRequest);
  server.on('connection', (connection: Socket) => connections.add(connection));
  await listen(server, { key, address, socket });
  return {
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        // Node's closeAllConnections() would leave those in the middle of a handshake.
        connections.endAll();
      });
    },
  };
}

export function sendText(response: ServerResponse, status: number, text: string): void {
  send(response, status, 'text/plain; charset=utf-8', `${text}\n`);
}

export function send(response: ServerResponse, status: number, type: string, body: string | Buffer): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(body);
}

function createOverTls(tls: ServerTls, onRequest: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createTlsServer(tls.options, onRequest);
  tls.attach(server);
  return server;
}

function warnCrowded(key: string, logger: Logger): () => void {
  const mayLog = createLogLimit({
    lines: 1,
    perMs: 60_000,
    onLeftOut: (count) => logger.warn({ leftOut: count }, `${count} more connections of ${key} were closed`),
  });
  return () => {
    if (mayLog()) logger.warn(`connection limit of ${key} reached: one was closed; check what connects to it`);
  };
}

function parseUrl(path: string): URL | null {
  try {
    return new URL(path, 'http://ops');
  } catch {
    return null;
  }
}

function reachOf({ address, tls }: HttpListenerOptions): Reach {
  if (tls !== null) return 'tls';
  // A Unix socket is reached by no browser, and whatever its client calls it is right.
  return address.kind === 'tcp' && isLoopback(address.host) ? 'loopback' : 'network';
}
