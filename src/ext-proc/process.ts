import type { ServerDuplexStream } from '@grpc/grpc-js';
import { type Decision, decide, type SiteState } from '../decision/decide.ts';
import type { Policy } from '../decision/policy.ts';
import type { Counters } from '../metrics/counters.ts';
import type { Replies } from './replies.ts';
import type { PhaseMessage } from './request.ts';

export type ProcessCall = ServerDuplexStream<PhaseMessage, Buffer>;

export interface ProcessOptions {
  readonly policy: Policy;
  readonly replies: Replies;
  /** The state to decide by, read once for each request. */
  readonly currentState: () => SiteState;
  readonly counters: Counters;
  /** Told of each decision; null where nobody listens, so that it costs nothing. */
  readonly onDecision: ((decision: Decision) => void) | null;
  /** Told of a message that is not Envoy's. */
  readonly onMalformed: () => void;
}

/**
 * Builds the handler of one ext_proc stream, which Envoy opens for each HTTP request. Each phase that Envoy sends is
 * answered exactly once, and the call is ended with the last answer: Envoy then frees it at once instead of at the end
 * of the response. Only cookies to expire keep it open until the response headers.
 */
export function createProcess(options: ProcessOptions): (call: ProcessCall) => void {
  const { policy, replies, currentState, counters, onDecision, onMalformed } = options;
  const { unchanged } = replies;
  const { streams, decisionTime } = counters;

  return function process(call) {
    const openedAtMs = performance.now();
    let onResponse: Buffer | null = null;
    let ended = false;

    function endWith(reply: Buffer): void {
      ended = true;
      streams.complete++;
      call.write(reply);
      call.end();
    }

    call.on('data', (message: PhaseMessage) => {
      if (ended) return;
      switch (message.phase) {
        case 'requestHeaders': {
          const decision = decide(policy, currentState(), message);
          const reply = replies.forDecision(decision);
          if (onDecision !== null) onDecision(decision);
          onResponse = reply.onResponse;
          if (onResponse === null) endWith(reply.bytes);
          else call.write(reply.bytes);
          reply.counter.count++;
          decisionTime.add(performance.now() - openedAtMs);
          return;
        }
        case 'responseHeaders':
          // A session that nobody served keeps its cookies.
          endWith(onResponse !== null && !message.isUnserved ? onResponse : unchanged.responseHeaders);
          return;
        case 'malformed':
          // Closed without a reply: Envoy goes on with the request as if there were no opinion.
          onMalformed();
          ended = true;
          streams.malformed++;
          call.end();
          return;
        default:
          call.write(unchanged[message.phase]);
      }
    });
    call.on('end', () => {
      if (ended) return;
      ended = true;
      streams.abandoned++;
      call.end();
    });
    // A stream that its Envoy broke off; there is nobody left to answer.
    const onReset = () => {
      if (!ended) streams.reset++;
      ended = true;
    };
    call.on('cancelled', onReset);
    call.on('error', onReset);
  };
}
