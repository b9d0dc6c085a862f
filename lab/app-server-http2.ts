import { createServer as createHttp2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { createServer, type Server } from 'node:net';
import { type AppServerOptions, createAppServer } from './app-server.ts';

/** What every HTTP/2 connection begins with (RFC 9113, 3.4). */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n');

/** The application as an HTTP/2 server in clear text: gRPC is echoed message by message, everything else answered with what was seen. */
export function createHttp2AppServer(options: AppServerOptions): Server {
  return createHttp2Server().on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => {});
    if (String(headers['content-type']).startsWith('application/grpc')) echoGrpc(options, stream, headers);
    else answer(options, stream, headers);
  });
}

/** The application for whatever a connection speaks, HTTP/1.1 with WebSockets or HTTP/2. */
export function createBothProtocolsAppServer(options: AppServerOptions): Server {
  const http1 = createAppServer(options);
  const http2 = createHttp2AppServer(options);
  return createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (first: Buffer) => {
      socket.pause();
      socket.unshift(first);
      const isHttp2 = PREFACE.subarray(0, first.length).equals(first.subarray(0, PREFACE.length));
      (isHttp2 ? http2 : http1).emit('connection', socket);
      // An HTTP/2 session reads what is there by itself.
      if (!isHttp2) socket.resume();
    });
  });
}

/** Unary, or streaming either way: each message comes back as soon as it is there. */
function echoGrpc({ site, server }: AppServerOptions, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const hop = headers['x-site-hop'];
  stream.respond(
    { ':status': 200, 'content-type': 'application/grpc', site, server, ...(hop === undefined ? {} : { hop }) },
    { waitForTrailers: true },
  );
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.pipe(stream);
}

function answer(
  { application, site, server }: AppServerOptions,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
): void {
  let bodyBytes = 0;
  stream.on('data', (data: Buffer) => {
    bodyBytes += data.length;
  });
  stream.on('end', () => {
    const seen = {
      application,
      site,
      server,
      method: headers[':method'],
      path: headers[':path'],
      hop: headers['x-site-hop'] ?? null,
      cookies: headers.cookie ?? null,
      bodyBytes,
      headers,
    };
    stream.respond({ ':status': 200, 'content-type': 'application/json' });
    stream.end(`${JSON.stringify(seen)}\n`);
  });
}
