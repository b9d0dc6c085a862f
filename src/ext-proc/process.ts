import { type Decision, decide, type SiteState } from '../decision/decide.ts';
import { areOfSeveralSites, type Policy } from '../decision/policy.ts';
import type { ApplicationCounters, Counters, StreamEnd } from '../metrics/counters.ts';
import type { Replies, UnchangedReplies } from './replies.ts';
import type { PhaseMessage } from './request.ts';

/** Where the answers of one ext_proc stream go. */
export interface ReplyStream {
  write(reply: Buffer): void;
  /** After the last reply. Envoy frees the stream at once then, instead of at the end of the HTTP response. */
  end(): void;
}

/** One ext_proc stream, which Envoy opens for each HTTP request. */
export interface ProcessStream {
  /** A `ProcessingRequest`. */
  receive(message: Buffer): void;
  /** Envoy sends no more. */
  halfClose(): void;
  /** Envoy has reset it, or it has ended. */
  cancel(): void;
}

/** How the requests of one application are decided. */
export interface ApplicationProcess {
  readonly policy: Policy;
  readonly replies: Replies;
  /** The state to decide by, read once for each request. */
  readonly currentState: () => SiteState;
  readonly counters: ApplicationCounters;
  /** Told of each decision and the message it was made of; null where nobody listens, so that it costs nothing. */
  readonly onDecision: ((decision: Decision, message: Uint8Array) => void) | null;
}

export interface ProcessOptions {
  /** In the order of the config. */
  readonly applications: readonly ApplicationProcess[];
  readonly decode: (message: Uint8Array) => PhaseMessage;
  readonly unchanged: UnchangedReplies;
  readonly counters: Counters;
  /** Told of a message that is not Envoy's. */
  readonly onMalformed: () => void;
}

/**
 * Each phase that Envoy sends is answered exactly once, and the stream is ended with the last answer. Only cookies to
 * expire keep it open until the response headers.
 */
export function createProcess(options: ProcessOptions): (replies: ReplyStream) => ProcessStream {
  return (stream) => new DecidedStream(options, stream);
}

class DecidedStream implements ProcessStream {
  readonly #options: ProcessOptions;
  readonly #stream: ReplyStream;
  #onResponse: Buffer | null = null;
  #isEnded = false;
  readonly #openedAtMs = performance.now();

  constructor(options: ProcessOptions, stream: ReplyStream) {
    this.#options = options;
    this.#stream = stream;
  }

  receive(bytes: Buffer): void {
    if (this.#isEnded) return;
    const { unchanged, decode } = this.#options;
    const message = decode(bytes);
    switch (message.phase) {
      case 'requestHeaders': {
        const { applications, counters } = this.#options;
        const application = applications[message.application];
        if (application === undefined) {
          // Of a host that is nothing to us, whatever its path and headers look like.
          this.#stream.write(unchanged.requestHeaders);
          this.#end('complete');
          counters.otherHosts++;
          return;
        }
        const { policy, replies, currentState, onDecision } = application;
        const decision = decide(policy, currentState(), message);
        const reply = replies.forDecision(decision);
        if (onDecision !== null) onDecision(decision, bytes);
        this.#onResponse = reply.onResponse;
        this.#stream.write(reply.bytes);
        if (reply.onResponse === null) this.#end('complete');
        reply.counter.count++;
        if (areOfSeveralSites(message.cookies)) reply.counter.bothCookies++;
        if (message.isLocalCookieTwice) application.counters.duplicateCookies++;
        counters.decisionTime.add(performance.now() - this.#openedAtMs);
        return;
      }
      case 'responseHeaders':
        // A session that nobody served keeps its cookies.
        this.#stream.write(
          this.#onResponse !== null && !message.isUnserved ? this.#onResponse : unchanged.responseHeaders,
        );
        this.#end('complete');
        return;
      case 'malformed':
        // Closed without a reply: Envoy goes on with the request as if there were no opinion.
        this.#options.onMalformed();
        this.#end('malformed');
        return;
      default:
        this.#stream.write(unchanged[message.phase]);
    }
  }

  halfClose(): void {
    // grpc-js says this of a stream that was reset, too.
    if (!this.#isEnded) this.#end('reset');
  }

  cancel(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#options.counters.streams.reset++;
  }

  #end(how: StreamEnd): void {
    this.#isEnded = true;
    this.#options.counters.streams[how]++;
    this.#stream.end();
  }
}
