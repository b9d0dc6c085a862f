import {
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  status,
} from '@grpc/grpc-js';
import type { ProcessStream, ReplyStream } from './process.ts';

const OK = { code: status.OK, details: '', metadata: null };
const INTERNAL = { code: status.INTERNAL, details: '', metadata: null };

/**
 * Takes a method's calls out of grpc-js's hands before it wraps each in a Duplex stream: for one short message each way
 * those streams, their buffers and events cost more than all that is done here.
 * @param open called for each call
 * @param onError told of a call that failed here, which is ended with INTERNAL
 */
export function serveDirectly(
  path: string,
  open: (replies: ReplyStream) => ProcessStream,
  onError: (error: unknown) => void,
): ServerInterceptor {
  return (method, call) => {
    if (method.path !== path) return new ServerInterceptingCall(call);
    // The handler that grpc-js would start is never told of the call.
    return new ServerInterceptingCall(call, { start: () => call.start(new DirectCall(call, open, onError)) });
  };
}

/** The listener of one call, and the way back. */
class DirectCall implements ReplyStream {
  readonly #call: ServerInterceptingCallInterface;
  readonly #stream: ProcessStream;
  readonly #onError: (error: unknown) => void;
  #isEnded = false;

  constructor(
    call: ServerInterceptingCallInterface,
    open: (replies: ReplyStream) => ProcessStream,
    onError: (error: unknown) => void,
  ) {
    this.#call = call;
    this.#onError = onError;
    this.#stream = open(this);
  }

  onReceiveMetadata(): void {
    this.#call.startRead();
  }

  onReceiveMessage(message: Buffer): void {
    try {
      this.#stream.receive(message);
    } catch (error) {
      this.#isEnded = true;
      this.#call.sendStatus(INTERNAL);
      this.#onError(error);
    }
    if (!this.#isEnded) this.#call.startRead();
  }

  onReceiveHalfClose(): void {
    this.#stream.halfClose();
  }

  /** Also called when all is sent. */
  onCancel(): void {
    this.#stream.cancel();
  }

  write(reply: Buffer): void {
    this.#call.sendMessage(reply, ignore);
  }

  end(): void {
    this.#isEnded = true;
    this.#call.sendStatus(OK);
  }
}

function ignore(): void {}
