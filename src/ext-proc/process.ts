import type { ServerDuplexStream } from '@grpc/grpc-js';
import { type Decision, decide, type SiteState } from '../decision/decide.ts';
import type { Policy } from '../decision/policy.ts';
import type { Replies } from './replies.ts';
import type { PhaseMessage } from './request.ts';

export type ProcessCall = ServerDuplexStream<Buffer, Buffer>;

export interface ProcessOptions {
  readonly policy: Policy;
  readonly decode: (bytes: Uint8Array) => PhaseMessage;
  readonly replies: Replies;
  /** The state to decide by, read once for each request. */
  readonly currentState: () => SiteState;
  /** Told of each decision and the message it was made of; null where nobody listens, so that it costs nothing. */
  readonly onDecision: ((decision: Decision, message: Uint8Array) => void) | null;
  /** Told of a message that is not Envoy's. */
  readonly onMalformed: () => void;
}

/**
 * Builds the handler of one ext_proc stream, which Envoy opens for each HTTP request. Each phase that Envoy sends is
 * answered exactly once, and the call is ended with the last answer: Envoy then frees it at once instead of at the end
 * of the response. Only cookies to expire keep it open until the response headers.
 */
export function createProcess(options: ProcessOptions): (call: ProcessCall) => void {
  const { policy, decode, replies, currentState, onDecision, onMalformed } = options;
  const { unchanged } = replies;

  return function process(call) {
    let onResponse: Buffer | null = null;
    let ended = false;

    function endWith(reply: Buffer): void {
      ended = true;
      call.write(reply);
      call.end();
    }

    call.on('data', (bytes: Buffer) => {
      if (ended) return;
      const message = decode(bytes);
      switch (message.phase) {
        case 'requestHeaders': {
          const decision = decide(policy, currentState(), message);
          const reply = replies.forDecision(decision);
          if (onDecision !== null) onDecision(decision, bytes);
          onResponse = reply.onResponse;
          if (onResponse === null) endWith(reply.bytes);
          else call.write(reply.bytes);
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
          call.end();
          return;
        default:
          call.write(unchanged[message.phase]);
      }
    });
    call.on('end', () => {
      if (!ended) call.end();
      ended = true;
    });
    // A stream that its Envoy broke off; there is nobody left to answer.
    call.on('error', () => {
      ended = true;
    });
  };
}
