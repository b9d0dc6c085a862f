import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { status } from '@grpc/grpc-js';
import { type OpenCall, OpenCalls } from './open-calls.ts';
import type { ProcessStream, ReplyStream } from './process.ts';

/** As gRPC has it: a byte that says whether the message is compressed, and its length in four bytes, big-endian. */
export const FRAME_PREFIX_BYTES = 5;

/** Envoy's messages are as large as a request's headers: 60 KiB at most by default, but that can be raised. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

const CONTENT_TYPE = 'application/grpc';
const RESPONSE_HEADERS = { ':status': 200, 'content-type': 'application/grpc+proto' };
const WITH_TRAILERS = { waitForTrailers: true, sendDate: false };
const WITHOUT_BODY = { endStream: true, sendDate: false };

/** A message as gRPC puts it on an HTTP/2 stream (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). */
export function grpcFrame(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(FRAME_PREFIX_BYTES + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, FRAME_PREFIX_BYTES);
  return frame;
}

/** Whether a stream is one that {@link createHttp2Calls} serves: plain gRPC. Anything else is for grpc-js to answer. */
export function isPlainCall(headers: IncomingHttpHeaders): boolean {
  const encoding = headers['grpc-encoding'];
  return (
    headers['content-type']?.startsWith(CONTENT_TYPE) === true && (encoding === undefined || encoding === 'identity')
  );
}

/** Envoy has as many calls open as requests wait for their decision, and those whose answer shall expire a cookie. */
const MAX_OPEN_CALLS = 10_000;

/** What has come of messages that are not whole yet, in all. Envoy's come whole, or nearly. */
const MAX_PARTIAL_BYTES = 64 * 1024 * 1024;

/** What it takes to keep a piece of a message, however short it is. */
const BYTES_FOR_EACH_PIECE = 200;

export interface Http2CallsOptions {
  /** Called for each call; its replies are whole gRPC frames. */
  readonly open: (replies: ReplyStream) => ProcessStream;
  /** Told of a call that failed here, which is ended with INTERNAL. */
  readonly onError: (error: unknown) => void;
  /** Told of each call that is broken off because too many are open. */
  readonly onCrowded: () => void;
}

/** What the calls of one server share. */
interface Shared extends Http2CallsOptions {
  readonly openCalls: OpenCalls;
  partialBytes: number;
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
    partialBytes: 0,
  };
  return (stream) => {
    const served: ServedStream = stream;
    served[CALL] = new Http2Call(stream, shared);
    // Functions that all streams share: closures would be the larger part of what is allocated here for each.
    stream.on('data', onData);
    stream.on('end', onEnd);
    stream.on('close', onClose);
    stream.on('wantTrailers', onWantTrailers);
    // A stream that is broken off has an error, too; what matters of it is that it closes.
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
class Http2Call implements ReplyStream, OpenCall {
  readonly #stream: ServerHttp2Stream;
  readonly #process: ProcessStream;
  readonly #shared: Shared;
  readonly #place: number;
  /** The beginning of a message whose end has not come yet. */
  #pieces: Buffer[] | null = null;
  #pieceBytes = 0;
  #status = status.OK;
  #isEnded = false;

  constructor(stream: ServerHttp2Stream, shared: Shared) {
    this.#stream = stream;
    this.#shared = shared;
    this.#place = shared.openCalls.add(this);
    this.#process = shared.open(this);
  }

  receive(chunk: Buffer): void {
    if (this.#isEnded) return;
    try {
      this.#read(this.#pieces === null ? chunk : this.#joined(this.#pieces, chunk));
      if (!this.#isEnded && this.#stream.writableNeedDrain) this.#waitForReader();
    } catch (error) {
      this.#shared.onError(error);
      this.#fail(status.INTERNAL);
    }
  }

  halfClose(): void {
    this.#process.halfClose();
  }

  close(): void {
    this.#isEnded = true;
    this.#dropPieces();
    this.#shared.openCalls.remove(this, this.#place);
    this.#process.cancel();
  }

  breakOff(): void {
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

  /** Hands over each message that is whole, which is nearly always just one, and keeps the beginning of the next. */
  #read(bytes: Buffer): void {
    let start = 0;
    while (bytes.length - start >= FRAME_PREFIX_BYTES) {
      const length = bytes.readUInt32BE(start + 1);
      if (bytes[start] !== 0 || length > MAX_MESSAGE_BYTES) {
        this.#fail(bytes[start] !== 0 ? status.INTERNAL : status.RESOURCE_EXHAUSTED);
        return;
      }
      const messageStart = start + FRAME_PREFIX_BYTES;
      const end = messageStart + length;
      if (end > bytes.length) break;
      this.#process.receive(bytes.subarray(messageStart, end));
      if (this.#isEnded) return;
      start = end;
    }
    if (start < bytes.length) {
      this.#pieces = [];
      this.#keep(bytes.subarray(start));
    }
  }

  #keep(piece: Buffer): void {
    const shared = this.#shared;
    // A copy, for the piece is a part of what came from the socket at once, all of which it would hold.
    this.#pieces?.push(Buffer.copyBytesFrom(piece));
    this.#pieceBytes += piece.length;
    shared.partialBytes += piece.length + BYTES_FOR_EACH_PIECE;
    if (shared.partialBytes > MAX_PARTIAL_BYTES) this.#fail(status.RESOURCE_EXHAUSTED);
  }

  #dropPieces(): void {
    if (this.#pieces === null) return;
    this.#shared.partialBytes -= this.#pieceBytes + this.#pieces.length * BYTES_FOR_EACH_PIECE;
    this.#pieceBytes = 0;
    this.#pieces = null;
  }

  /** All that has come since the last whole message, if the next one is whole by now; or nothing to read yet. */
  #joined(pieces: readonly Buffer[], chunk: Buffer): Buffer {
    this.#keep(chunk);
    const [first] = pieces;
    if (first !== undefined && first.length >= FRAME_PREFIX_BYTES) {
      // Joined once, when it is whole: each time anew would copy a long message again and again.
      if (this.#pieceBytes < FRAME_PREFIX_BYTES + first.readUInt32BE(1)) return NOTHING;
    }
    const joined = Buffer.concat(pieces, this.#pieceBytes);
    this.#dropPieces();
    return joined;
  }

  /** Who does not read the replies is not heard further, so that they do not pile up here. */
  #waitForReader(): void {
    this.#stream.pause();
    this.#stream.once('drain', () => this.#stream.resume());
  }

  /** What is still to come of a call that went wrong is not read: the stream is closed when it has its status. */
  #fail(code: status): void {
    this.#dropPieces();
    this.#status = code;
    // Not at once, for a reset overtakes the status that waits to be sent.
    this.#stream.once('finish', () => setImmediate(() => this.#stream.close()));
    this.end();
    this.#process.cancel();
  }

  /** A stream that has been broken off takes nothing more, and says so by throwing. */
  #canSend(): boolean {
    return !this.#stream.destroyed && !this.#stream.closed;
  }

  #trailers(): { 'grpc-status': string } {
    return { 'grpc-status': String(this.#status) };
  }
}

const OK_TRAILERS = { 'grpc-status': '0' };
const NOTHING = Buffer.alloc(0);
