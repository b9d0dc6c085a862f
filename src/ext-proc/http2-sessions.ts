import { EventEmitter } from 'node:events';
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Server } from '@grpc/grpc-js';
import { EXT_PROC_SERVICE } from '../contract.ts';

const PROCESS_PATH = `/${EXT_PROC_SERVICE}/Process`;

/** An event emitter of node:http2, seen through grpc-js. */
export interface EventSource {
  on(event: string, listener: (...values: unknown[]) => void): unknown;
  off(event: string, listener: (...values: unknown[]) => void): unknown;
}

/**
 * Calls `onSession` with each HTTP/2 session of a server. To be called after the server has its addresses or injectors.
 * Where grpc-js hides its HTTP/2 servers none is seen.
 */
export function watchSessions(server: Server, onSession: (session: EventSource) => void): void {
  for (const http2Server of http2ServersOf(server)) {
    http2Server.on('session', (session: unknown) => {
      if (isEventSource(session)) onSession(session);
    });
  }
}

/**
 * Offers each HTTP/2 stream of a server to `take`, and hands to grpc-js what it does not take. To be called after the
 * server has its addresses or injectors. Where grpc-js hides its HTTP/2 servers it goes on to serve every stream itself.
 */
export function takeStreams(
  server: Server,
  take: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean,
): void {
  for (const http2Server of http2ServersOf(server)) {
    const listeners = http2Server.listeners('stream');
    http2Server.removeAllListeners('stream');
    http2Server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: unknown[]) => {
      if (take(stream, headers)) return;
      for (const listener of listeners) Reflect.apply(listener, http2Server, [stream, headers, ...rest]);
    });
  }
}

/** grpc-js has no public way to them; none where it hides them otherwise than it does now. */
function http2ServersOf(server: Server): EventEmitter[] {
  const servers: unknown = Reflect.get(server, 'http2Servers');
  return servers instanceof Map ? [...servers.keys()].filter((each) => each instanceof EventEmitter) : [];
}

export function isEventSource(value: unknown): value is EventSource {
  return typeof value === 'object' && value !== null && 'on' in value && 'off' in value;
}

/** By the headers that come with a session's event `stream`. A health check is none. */
export function isExtProcStream(headers: unknown): boolean {
  return typeof headers === 'object' && headers !== null && ':path' in headers && headers[':path'] === PROCESS_PATH;
}
