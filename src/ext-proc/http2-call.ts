import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { status } from '@grpc/grpc-js';
import { type FrameFault, FrameReader, type MessageSink } from './grpc-frames.ts';
import { type OpenCall, OpenCalls } from './open-calls.ts';
import type { ProcessStream, ReplyStream } from './process.ts';

const CONTENT_TYPE = 'application/grpc';
const RESPONSE_HEADERS = { ':status': 200, 'content-type': 'application/grpc+proto' };
const WITH_TRAILERS = { waitForTrailers: true, sendDate: false };
const WITHOUT_BODY = { endStream: true, sendDate: false };

/** Whether a stream is one that {@link createHttp2Calls} serves: plain gRPC. Anything else is for grpc-js to answer. */
export function isPlainCall(headers: IncomingHttpHeaders): boolean {
  const encoding = headers['grpc-encoding'];
  return (
    headers['content-type']?.startsWith(CONTENT_TYPE) === true && (encoding === undefined || encoding === 'identity')
  );
}

/** Envoy has as many calls open as requests wait for their decision, and those whose answer shall expire a cookie. */
const MAX_OPEN_CALLS = 10_000;

/** What is kept of unfinished messages, in all. Envoy's come whole, or nearly: past this the call that holds most is reset. */
const MAX_HELD_IN_ALL_BYTES = 64 * 1024 * 1024;

export interface Http2CallsOptions {
  /** Called for each call; its replies are whole gRPC frames. */
  readonly open: (replies: ReplyStream) => ProcessStream;
  /** Told of a call that failed here, which is ended with INTERNAL. */
  readonly onError: (error: unknown) => void;
  /** Told of each call that is reset because too many are open. */
  readonly onCrowded: () => void;
}

/** What the calls of one server share. */
interface Shared extends Http2CallsOptions {
  readonly openCalls: OpenCalls<Http2Call>;
  heldBytes: number;
}

/**
 * Serves the calls of a method straight on their HTTP/2 streams. What grpc-js wraps around a stream (interceptors, a Duplex
 * of its own, deadlines, compression, metadata) costs more than the decision and node:http2 together need: without it the
 * sidecar takes about a third less CPU for each.
 * @returns what serves one stream
 */
export function createHttp2Calls(options: Http2CallsOptions): (stream: ServerHttp2Stream) => void {
  const shared: Shared = {
    ...options,
    openCalls: new OpenCalls(MAX_OPEN_CALLS, options.onCrowded),
    heldBytes: 0,
  };
  return (stream) => {
    const served: ServedStream = stream;
    served[CALL] = new Http2Call(stream, shared);
    // Functions that all streams share: closures would be the larger part of what is allocated here for each.
    stream.on('data', onData);
    stream.on('end', onEnd);
    stream.on('close', onClose);
    stream.on('wantTrailers', onWantTrailers);
    // A stream that is reset has an error, too; all that matters is that it closes.
    stream.on('error', ignore);
  };
}

const CALL = Symbol('call');

/** A stream with the call that it carries. */
interface ServedStream extends ServerHttp2Stream {
  [CALL]?: Http2Call | undefined;
}

function onData(this: ServedStream, chunk: Buffer): void {
  this[CALL]?.receive(chunk);
}

function onEnd(this: ServedStream): void {
  this[CALL]?.halfClose();
}

function onClose(this: ServedStream): void {
  this[CALL]?.close();
  // Node keeps a stream in its session's tables long after it was closed; the call must not be kept with it.
  this[CALL] = undefined;
}

function onWantTrailers(this: ServedStream): void {
  this[CALL]?.sendTrailers();
}

function ignore(): void {}

/** One call, and the way back for its replies. */
class Http2Call implements ReplyStream, OpenCall, MessageSink {
  readonly #stream: ServerHttp2Stream;
  readonly #process: ProcessStream;
  readonly #shared: Shared;
  readonly #place: number;
  readonly #frames = new FrameReader();
  #status = status.OK;
  #isEnded = false;

  constructor(stream: ServerHttp2Stream, shared: Shared) {
    this.#stream = stream;
    this.#shared = shared;
    this.#place = shared.openCalls.add(this);
    this.#process = shared.open(this);
  }

  /** What it holds of an unfinished message. */
  get heldBytes(): number {
    return this.#frames.heldBytes;
  }

  receive(chunk: Buffer): void {
    if (this.#isEnded) return;
    try {
      const fault = this.#read(chunk);
      if (fault !== null) this.#fail(fault === 'compressed' ? status.INTERNAL : status.RESOURCE_EXHAUSTED);
      else if (!this.#isEnded && this.#stream.writableNeedDrain) this.#waitForDrain();
    } catch (error) {
      this.#shared.onError(error);
      this.#fail(status.INTERNAL);
    }
  }

  onMessage(message: Buffer): boolean {
    this.#process.receive(message);
    return !this.#isEnded;
  }

  halfClose(): void {
    this.#process.halfClose();
  }

  close(): void {
    this.#isEnded = true;
    this.#dropHeld();
    this.#shared.openCalls.remove(this, this.#place);
    this.#process.cancel();
  }

  reset(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  write(frame: Buffer): void {
    if (!this.#canSend()) return;
    if (!this.#stream.headersSent) this.#stream.respond(RESPONSE_HEADERS, WITH_TRAILERS);
    this.#stream.write(frame);
  }

  end(): void {
    this.#isEnded = true;
    if (!this.#canSend()) return;
    if (this.#stream.headersSent) this.#stream.end();
    else this.#stream.respond({ ...RESPONSE_HEADERS, ...this.#trailers() }, WITHOUT_BODY);
  }

  sendTrailers(): void {
    this.#stream.sendTrailers(this.#status === status.OK ? OK_TRAILERS : this.#trailers());
  }

  #read(chunk: Buffer): FrameFault | null {
    const heldBefore = this.#frames.heldBytes;
    try {
      return this.#frames.read(chunk, this);
    } finally {
      this.#countHeld(heldBefore);
    }
  }

  #countHeld(before: number): void {
    const shared = this.#shared;
    shared.heldBytes += this.#frames.heldBytes - before;
    if (shared.heldBytes > MAX_HELD_IN_ALL_BYTES) shared.openCalls.max((call) => call.heldBytes)?.exhaust();
  }

  #dropHeld(): void {
    this.#shared.heldBytes -= this.#frames.heldBytes;
    this.#frames.drop();
  }

  /** It holds more than any other, and too much is held in all. */
  exhaust(): void {
    this.#fail(status.RESOURCE_EXHAUSTED);
  }

  /** Backpressure: no more is read from a client that does not read its replies, so that they do not pile up here. */
  #waitForDrain(): void {
    this.#stream.pause();
    this.#stream.once('drain', () => this.#stream.resume());
  }

  /** What is still to come of a call that went wrong is not read: the stream is closed when it has its status. */
  #fail(code: status): void {
    this.#dropHeld();
    this.#status = code;
    // Not at once, for a reset overtakes the status that waits to be sent.
    this.#stream.once('finish', () => setImmediate(() => this.#stream.close()));
    this.end();
    this.#process.cancel();
  }

  /** A stream that was reset throws when it is written to. */
  #canSend(): boolean {
    return !this.#stream.destroyed && !this.#stream.closed;
  }

  #trailers(): { 'grpc-status': string } {
    return { 'grpc-status': String(this.#status) };
  }
}

const OK_TRAILERS = { 'grpc-status': '0' };
