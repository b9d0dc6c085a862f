import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { type Address, formatAddress, isIpAddress } from '../config/address.ts';
import { listen } from '../listen.ts';
import { type Drain, parseDrainMs } from './drain.ts';
import type { SiteStateReport } from './state.ts';

export interface OpsServerOptions {
  readonly listen: Address;
  readonly drain: Drain;
  readonly state: () => SiteStateReport;
  readonly logger: Logger;
}

export interface OpsServer {
  close(): Promise<void>;
}

/**
 * The operator's listener: `GET /api/state`, `POST /drain` (`?for=30m`), `POST /undrain`. It has no authentication,
 * so it belongs on loopback or a Unix socket.
 * @throws ListenError when the address cannot be had
 */
export async function startOpsServer(options: OpsServerOptions): Promise<OpsServer> {
  const { listen: address, logger } = options;
  const server = createServer((request, response) => {
    request.resume();
    send(response, answer(options, request));
  });
  await listen(server, 'ops_listen', address);
  if (address.kind === 'tcp' && !isLoopback(address.host)) {
    logger.warn(
      `ops_listen ${formatAddress(address)} is not loopback: whoever reaches it can drain this site; ` +
        'keep others out, or listen on 127.0.0.1 or a Unix socket',
    );
  }
  return {
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

type OpsAnswer =
  | { readonly status: 200; readonly state: SiteStateReport }
  | { readonly status: number; readonly text: string };

function answer({ drain, state }: OpsServerOptions, request: IncomingMessage): OpsAnswer {
  const url = parseUrl(request.url ?? '/');
  if (url === null) return { status: 400, text: 'not a path' };
  if (request.method === 'POST' && isFromAnotherSite(request)) {
    return { status: 403, text: 'a request of another web site is refused' };
  }
  const route = `${request.method} ${url.pathname}`;
  switch (route) {
    case 'GET /api/state':
      break;
    case 'POST /drain': {
      const forMs = readDuration(url.searchParams.get('for'));
      if (forMs instanceof Error) return { status: 400, text: forMs.message };
      drain.start(forMs);
      break;
    }
    case 'POST /undrain':
      drain.end('undrain was asked for');
      break;
    default:
      return { status: 404, text: `no ${route} here: GET /api/state, POST /drain?for=30m or POST /undrain` };
  }
  return { status: 200, state: state() };
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

/**
 * A page on any web site can make the operator's browser post to loopback; browsers then say where the page came from.
 * A name that such a site has made lead here is its own origin, so only addresses and localhost count.
 */
function isFromAnotherSite(request: IncomingMessage): boolean {
  const { origin, host } = request.headers;
  if (origin === undefined) return false;
  const name = /^http:\/\/\[?([^/]+?)\]?(:\d+)?$/.exec(origin)?.[1] ?? '';
  return origin !== `http://${host}` || !(name === 'localhost' || isIpAddress(name));
}

function send(response: ServerResponse, sent: OpsAnswer): void {
  const [type, body] =
    'state' in sent ? ['application/json', JSON.stringify(sent.state)] : ['text/plain; charset=utf-8', sent.text];
  response.writeHead(sent.status, { 'content-type': type, 'cache-control': 'no-store' }).end(`${body}\n`);
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}
