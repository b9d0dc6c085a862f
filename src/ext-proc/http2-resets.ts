import { createServer } from 'node:http2';
import type { Server } from '@grpc/grpc-js';
import { type EventSource, isEventSource, isExtProcStream, watchSessions } from './http2-sessions.ts';

/**
 * Without the runtime flag `ext_proc_graceful_grpc_close` Envoy ends every ext_proc stream by RST_STREAM. nghttp2, under
 * Node, takes more than 1,000 of them at once, or 33 a second, for an attack ("rapid reset", CVE-2023-44487) and closes
 * the connection. Envoy is no attacker, so the allowance is raised past what it can send.
 */
const RESET_ALLOWANCE = { streamResetBurst: 1_000_000_000, streamResetRate: 1_000_000_000 };

/** After so many streams without a reset a session is not watched further: the listener costs something on each. */
const WATCHED_STREAMS_PER_SESSION = 200;

/** Whether the allowance could be raised, or who does not let it be. */
export type ResetAllowance = 'raised' | 'fixed by Node' | 'hidden by grpc-js';

/**
 * Raises the number of stream resets that the server puts up with. To be called before the server is bound.
 * grpc-js hands its `commonServerOptions` to node:http2 but has no public way to them; Node knows the option from
 * version 22 on.
 */
export function raiseResetAllowance(server: Server): ResetAllowance {
  const options: unknown = Reflect.get(server, 'commonServerOptions');
  if (typeof options !== 'object' || options === null) return 'hidden by grpc-js';
  Object.assign(options, RESET_ALLOWANCE);
  return doesNodeKnowTheOption() ? 'raised' : 'fixed by Node';
}

/** Node refuses a bad value of an option that it knows, and overlooks one that it does not. */
function doesNodeKnowTheOption(): boolean {
  const badValue: object = { streamResetBurst: 'no number', streamResetRate: 'no number' };
  try {
    createServer(badValue).close();
    return false;
  } catch {
    return true;
  }
}

/**
 * Calls `onReset` once, when an ext_proc stream of this server ended by a reset that carries an error. To be called
 * after the server is bound. Where grpc-js hides its HTTP/2 servers nothing is noticed.
 */
export function onFirstStreamReset(server: Server, onReset: (errorCode: number) => void): void {
  let reported = false;
  const report = (errorCode: number) => {
    if (reported) return;
    reported = true;
    onReset(errorCode);
  };
  watchSessions(server, (session) => watchSession(session, () => reported, report));
}

function watchSession(session: EventSource, isReported: () => boolean, report: (errorCode: number) => void): void {
  if (isReported()) return;
  let streams = 0;
  const watchStream = (stream: unknown, headers: unknown) => {
    // A health check that Envoy gives up ends by a reset as well, whatever is set.
    if (!isExtProcStream(headers)) return;
    streams++;
    if (streams > WATCHED_STREAMS_PER_SESSION || isReported()) session.off('stream', watchStream);
    else if (isEventSource(stream)) {
      stream.on('close', () => {
        const errorCode: unknown = Reflect.get(stream, 'rstCode');
        if (typeof errorCode === 'number' && isFault(errorCode)) report(errorCode);
      });
    }
  };
  session.on('stream', watchStream);
}

/** NO_ERROR ends a stream in peace; CANCEL is a client that went away in the middle of its request. */
function isFault(errorCode: number): boolean {
  return errorCode !== 0 && errorCode !== 8;
}
