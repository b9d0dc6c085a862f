import { constants } from 'node:http2';
import { createServer, type Socket } from 'node:net';
import { logVerbosity, Server, ServerCredentials, type ServerDuplexStream, setLogVerbosity } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type { Logger } from 'pino';
import type { Address } from '../config/address.ts';
import type { SocketConfig } from '../config/config.ts';
import { EXT_PROC_SERVICE, GRACEFUL_CLOSE_FLAG, MAX_CALLS_OF_CONNECTION } from '../contract.ts';
import { Connections } from '../listener/connections.ts';
import { listen } from '../listener/listen.ts';
import { createHandshakes, type ServerTls } from '../listener/server-tls.ts';
import { createLogLimit } from '../log/log-limit.ts';
import { logConnections } from './connection-log.ts';
import { serveGrpcCall } from './grpc-call.ts';
import { HealthChecks } from './health-checks.ts';
import { createHttp2Calls, isPlainCall } from './http2-call.ts';
import { onFirstStreamReset, type ResetAllowance, raiseResetAllowance } from './http2-resets.ts';
import { isExtProcStream, takeStreams, watchSessions } from './http2-sessions.ts';
import { OpenCalls } from './open-calls.ts';
import type { ProcessStream, ReplyStream } from './process.ts';
import type { ExtProcService } from './service.ts';

/** Calls still running this long after Envoy has seen the stop are cut off: with its up to 1 s the whole stop stays under 5 s. */
const STOP_GRACE_MS = 3_500;

/** Each worker of an Envoy has one, or a few. */
const MAX_CONNECTIONS = 1_000;

/** Health checks, and calls that are not plain: those that grpc-js serves. */
const MAX_OTHER_CALLS = 1_000;

/**
 * Of those each may hold so much, for grpc-js keeps a message of each call until it is whole. A health check is a name; of a
 * request's headers Envoy lets 60 KiB through by default.
 */
const MAX_OTHER_MESSAGE_BYTES = 128 * 1024;

export interface ExtProcServerOptions {
  readonly listen: Address;
  readonly socket: SocketConfig;
  /** Null: without TLS. */
  readonly tls: ServerTls | null;
  readonly service: ExtProcService;
  /** Called for each stream. */
  readonly open: (replies: ReplyStream) => ProcessStream;
  readonly logger: Logger;
}

export interface ExtProcServer {
  /** Until then the address is taken but each connection dropped at once, which sends Envoy elsewhere. */
  acceptCalls(): void;
  /** Whether an Envoy's health check has found it serving: before, Envoy sends no request here. */
  readonly isSeenByEnvoy: boolean;
  /**
   * Reports NOT_SERVING, goes on serving until Envoy has seen that, takes no new connection, lets the calls in flight end, and
   * returns when they have.
   */
  close(): Promise<void>;
}

/**
 * Serves ext_proc, and grpc.health.v1 beside it, by which Envoy takes a hung or stopping sidecar out.
 * @throws ListenError when the address cannot be had
 */
export async function startExtProcServer(options: ExtProcServerOptions): Promise<ExtProcServer> {
  const { service, tls, logger } = options;
  const onError = (error: unknown) => logger.error({ err: error }, 'a decision failed unexpectedly');
  // grpc-js prints lines of its own beside the log; what matters of them comes as errors as well.
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server({
    'grpc.enable_channelz': 0,
    'grpc.max_receive_message_length': MAX_OTHER_MESSAGE_BYTES,
    'grpc.max_concurrent_streams': MAX_CALLS_OF_CONNECTION,
  });
  const allowance = raiseResetAllowance(server);
  if (allowance === 'hidden by grpc-js') logger.warn(resetAdvice(allowance));
  server.addService(service.definition, {
    Process: (call: ServerDuplexStream<Buffer, Buffer>) => serveGrpcCall(call, options.open, onError),
  });
  const health = new HealthImplementation({ '': 'SERVING', [EXT_PROC_SERVICE]: 'SERVING' });
  health.addToServer(server);
  const healthChecks = new HealthChecks();

  const logCrowded = limitedWarning(logger);
  // The listener and its connections are ours, not grpc-js's: it has no way to end those that do not end by themselves.
  const connections = new Connections(MAX_CONNECTIONS, () => logCrowded('connection'));
  const http2 = server.createConnectionInjector(ServerCredentials.createInsecure());
  const serveCall = createHttp2Calls({ open: options.open, onError, onCrowded: () => logCrowded('call') });
  const otherCalls = new OpenCalls(MAX_OTHER_CALLS, () => logCrowded('call'));
  takeStreams(server, (stream, headers) => {
    if (isExtProcStream(headers) && isPlainCall(headers)) {
      serveCall(stream);
      return true;
    }
    healthChecks.observe(stream, headers);
    const call = { reset: () => stream.close(constants.NGHTTP2_CANCEL) };
    const place = otherCalls.add(call);
    stream.on('close', () => otherCalls.remove(call, place));
    return false;
  });
  /** The connection whose session is being made, which node:http2 does at once. */
  let injected: Socket | null = null;
  watchSessions(server, (session) => {
    const connection = injected;
    const noteAsked = (_: unknown, headers: unknown) => {
      if (!isExtProcStream(headers)) return;
      session.off('stream', noteAsked);
      if (connection !== null) connections.preferToKeep(connection);
    };
    session.on('stream', noteAsked);
  });
  const serve = (connection: Socket) => {
    injected = connection;
    http2.injectConnection(connection);
    injected = null;
  };
  const begin = tls === null ? serve : createHandshakes(tls, serve);
  let isAccepting = false;
  const listener = createServer({ noDelay: true }, (connection) => {
    if (!isAccepting) {
      connection.destroy();
      return;
    }
    connections.add(connection);
    begin(connection);
  });
  onFirstStreamReset(server, (errorCode) => {
    logger.warn({ errorCode }, `Envoy ends its ext_proc streams by reset: ${resetAdvice(allowance)}`);
  });
  const connectionLog = logConnections(server, options.listen, logger);
  await listen(listener, { key: 'listen', address: options.listen, socket: options.socket });

  return {
    acceptCalls() {
      isAccepting = true;
    },
    get isSeenByEnvoy() {
      return healthChecks.wasAsked;
    },
    async close() {
      connectionLog.close();
      for (const name of ['', EXT_PROC_SERVICE]) health.setStatus(name, 'NOT_SERVING');
      await healthChecks.stopped();
      const allEnded = new Promise<void>((resolve) => listener.close(() => resolve()));
      // Its callback can't be waited for: from Node 24 on it comes while calls are still running.
      server.tryShutdown(() => {});
      const cutOff = setTimeout(() => {
        logger.warn('stop timeout: calls still in flight were reset');
        connections.endAll();
      }, STOP_GRACE_MS);
      await allEnded;
      clearTimeout(cutOff);
    },
  };
}

/** Says that something had to make room, in at most one line a minute and how many more there were. */
function limitedWarning(logger: Logger): (what: 'call' | 'connection') => void {
  const mayLog = createLogLimit({
    lines: 1,
    perMs: 60_000,
    onLeftOut: (count) => logger.warn({ leftOut: count }, `${count} more calls or connections were reset`),
  });
  return (what) => {
    if (mayLog())
      logger.warn(`limit of open ${what}s reached: one was reset; check what else connects to this listener`);
  };
}

/** What resets cost, and what to set in Envoy to have none. */
function resetAdvice(allowance: ResetAllowance): string {
  const cost = {
    raised: 'that costs CPU on both sides',
    'fixed by Node': `Node ${process.version} closes the connection after 1,000 of them (Node 22 and later do not)`,
    'hidden by grpc-js': 'this version of grpc-js does not let Node be told to put up with stream resets',
  };
  return `${cost[allowance]}. With Envoy 1.40 and later set the runtime flag ${GRACEFUL_CLOSE_FLAG}: true`;
}
