import type { Server } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { type Address, formatAddress } from '../config/address.ts';
import { createLogLimit } from '../log/log-limit.ts';
import { type EventSource, isExtProcStream, watchSessions } from './http2-sessions.ts';

/** An Envoy has a connection for each of its workers, so a restart of it makes many lines at once; one that flaps, no end. */
const LINES = 40;
const PER_MS = 60_000;

export interface ConnectionLog {
  /** Says nothing more: that connections end with the server goes without saying. */
  close(): void;
}

/**
 * Logs each connection that an Envoy asks for decisions over: with its first ext_proc stream and when it has gone. One
 * that never asks is nobody's: that of a health checker, or of a port scanner. To be called like {@link watchSessions}.
 */
export function logConnections(server: Server, listen: Address, logger: Logger): ConnectionLog {
  let isClosed = false;
  const mayLog = createLogLimit({
    lines: LINES,
    perMs: PER_MS,
    onLeftOut: (count) =>
      logger.info({ leftOut: count }, `${count} more Envoy connections and disconnections in this minute`),
  });
  const log = (fields: object, message: string) => {
    if (!isClosed && mayLog()) logger.info(fields, message);
  };

  watchSessions(server, (session) => {
    const peer = peerOf(session) ?? formatAddress(listen);
    let streams = 0;
    let sinceMs = 0;
    session.on('stream', (_, headers) => {
      if (!isExtProcStream(headers)) return;
      streams++;
      if (streams > 1) return;
      sinceMs = performance.now();
      log({ peer }, `Envoy connected: ${peer}`);
    });
    session.on('close', () => {
      if (streams === 0) return;
      const seconds = Number(((performance.now() - sinceMs) / 1000).toFixed(1));
      log({ peer, seconds, streams }, `Envoy disconnected: ${peer}, after ${seconds} s and ${streams} streams`);
    });
  });
  return {
    close() {
      isClosed = true;
    },
  };
}

/** The other end's address; null over a Unix socket, where it has none. */
function peerOf(session: EventSource): string | null {
  const socket: unknown = Reflect.get(session, 'socket');
  if (typeof socket !== 'object' || socket === null) return null;
  const host: unknown = Reflect.get(socket, 'remoteAddress');
  const port: unknown = Reflect.get(socket, 'remotePort');
  if (typeof host !== 'string' || typeof port !== 'number') return null;
  return formatAddress({ kind: 'tcp', host: host.replace(/^::ffff:/, ''), port });
}
