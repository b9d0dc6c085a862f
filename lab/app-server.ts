import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

/** The application of the demo and the tests: says which server answered, and everything that it was sent. */
export interface AppServerOptions {
  readonly application: string;
  readonly site: string;
  readonly server: string;
  readonly port: number;
}

/** What the application answers as JSON, where the client prefers that to a page. */
export interface AppAnswer {
  readonly application: string;
  readonly site: string;
  readonly server: string;
  readonly method: string;
  readonly path: string;
  readonly hop: string | null;
  readonly cookies: string | null;
  /** Bytes of the request's body. */
  readonly bodyBytes: number;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
}

/**
 * `/healthz` answers 200; `/set-cookie` sets a cookie of the application's own; `/set-headers?name=value` answers with these
 * headers; `/download?bytes=N` streams N bytes, with `&everyMs=M` a byte each M ms; `?waitMs=M` waits so long before the body is read;
 * a WebSocket is echoed; everything else answers with what was seen, after the whole body was read.
 */
export function createAppServer(options: AppServerOptions): Server {
  // It is Envoy's limit on headers that counts here, not Node's of 16 kB.
  const server = createServer({ maxHeaderSize: 1024 * 1024 }, (request, response) => {
    void answer(options, request, response).catch(() => response.destroy());
  });
  server.on('upgrade', (request, socket: Duplex) =>
    echoWebSocket(request, socket, `${options.site}/${options.server}`),
  );
  return server;
}

async function answer(options: AppServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  // Not a URL, which not every path that a client can send is.
  const [pathname = '', query = ''] = (request.url ?? '').split('?', 2);
  const parameters = new URLSearchParams(query);
  const waitMs = Number(parameters.get('waitMs') ?? '0');
  if (waitMs > 0) await sleep(waitMs);
  let bodyBytes = 0;
  for await (const chunk of request) bodyBytes += (chunk as Buffer).length;

  if (pathname === '/healthz') {
    response.writeHead(200, { 'content-type': 'text/plain' }).end('ok\n');
    return;
  }
  if (pathname === '/download') {
    const bytes = Number(parameters.get('bytes') ?? '0');
    const everyMs = Number(parameters.get('everyMs') ?? '0');
    await (everyMs > 0 ? trickle(response, bytes, everyMs) : stream(response, bytes));
    return;
  }
  const seen: AppAnswer = {
    application: options.application,
    site: options.site,
    server: options.server,
    method: request.method ?? '',
    path: request.url ?? '',
    hop: headerText(request.headers['x-site-hop']),
    cookies: headerText(request.headers.cookie),
    bodyBytes,
    headers: Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, value ?? ''])),
  };
  if (pathname === '/set-cookie') response.setHeader('set-cookie', ['app=1; Path=/', 'theme=dark; Path=/']);
  if (pathname === '/set-headers') {
    for (const [name, value] of parameters) response.setHeader(name, value);
  }
  if (String(request.headers.accept).includes('text/html')) {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page(seen));
  } else {
    response.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify(seen)}\n`);
  }
}

async function stream(response: ServerResponse, bytes: number): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/octet-stream' });
  const chunk = Buffer.alloc(64 * 1024, 'x');
  for (let left = bytes; left > 0; left -= chunk.length) {
    if (!response.write(left < chunk.length ? chunk.subarray(0, left) : chunk)) {
      await new Promise((resolve) => response.once('drain', resolve));
    }
  }
  response.end();
}

async function trickle(response: ServerResponse, bytes: number, everyMs: number): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/octet-stream' });
  for (let left = bytes; left > 0; left--) {
    response.write('x');
    await sleep(everyMs);
  }
  response.end();
}

function headerText(value: string | string[] | undefined): string | null {
  return value === undefined ? null : String(value);
}

function page(seen: AppAnswer): string {
  const row = (name: string, value: string) => `<tr><th>${name}</th><td>${escapeHtml(value)}</td></tr>`;
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeHtml(`${seen.application} ${seen.site} ${seen.server}`)}</title>
<style>body{font:1.1rem/1.6 system-ui;margin:2rem}th{text-align:left;padding-right:1.5rem;vertical-align:top}</style>
<h1>${escapeHtml(`Application ${seen.application}, site ${seen.site}, server ${seen.server}`)}</h1>
<table>
${row('Request', `${seen.method} ${seen.path}`)}
${row('Forwarded by', seen.hop ?? 'nobody: this site received it')}
${row('Cookies', seen.cookies ?? 'none')}
</table>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Just enough of RFC 6455 to greet a client with the server's name and send each of its small frames back. */
function echoWebSocket(request: IncomingMessage, socket: Duplex, name: string): void {
  const accept = createHash('sha1')
    .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  socket.write(Buffer.concat([Buffer.from([0x81, name.length]), Buffer.from(name)]));
  let pending = Buffer.alloc(0);
  socket.on('data', (data: Buffer) => {
    pending = Buffer.concat([pending, data]);
    while (pending.length >= 6) {
      const length = (pending[1] ?? 0) & 0x7f;
      if (pending.length < 6 + length) return;
      const mask = pending.subarray(2, 6);
      const payload = pending.subarray(6, 6 + length).map((byte, index) => byte ^ (mask[index % 4] ?? 0));
      if (((pending[0] ?? 0) & 0x0f) === 8) socket.end(Buffer.from([0x88, 0]));
      else socket.write(Buffer.concat([Buffer.from([0x81, length]), payload]));
      pending = pending.subarray(6 + length);
    }
  });
  socket.on('error', () => socket.destroy());
}
