/** As gRPC has it: a byte that says whether the message is compressed, and its length in four bytes, big-endian. */
export const FRAME_PREFIX_BYTES = 5;

/** Envoy's messages are as large as a request's headers: 96 KiB as rendered. */
const MAX_MESSAGE_BYTES = 1024 * 1024;

/** Of one that has come in pieces of 16 KiB, as HTTP/2 cuts them, half of it is never reached. */
const MAX_HELD_BYTES = 2 * MAX_MESSAGE_BYTES;

/** What it takes to keep a piece of a message, however short it is. */
const BYTES_FOR_EACH_PIECE = 200;

/** A message as gRPC puts it on an HTTP/2 stream (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). */
export function grpcFrame(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(FRAME_PREFIX_BYTES + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, FRAME_PREFIX_BYTES);
  return frame;
}

/** Takes the messages of a stream, one after the other. */
export interface MessageSink {
  /** @returns whether it wants the next */
  onMessage(message: Buffer): boolean;
}

/** `compressed`: though no compression was agreed on; `too long`: it says so, or its pieces take too much to keep. */
export type FrameFault = 'compressed' | 'too long';

/** Finds the messages in the bytes of one stream, however those are cut. What is kept of an unfinished message is bounded. */
export class FrameReader {
  /** The beginning of a message whose end has not come yet. */
  #pieces: Buffer[] | null = null;
  #pieceBytes = 0;

  /** What the pieces of an unfinished message take. */
  get heldBytes(): number {
    return this.#pieces === null ? 0 : this.#pieceBytes + this.#pieces.length * BYTES_FOR_EACH_PIECE;
  }

  /** Hands over each message that is whole by now, which is nearly always just one. @returns why no more can be read */
  read(chunk: Buffer, sink: MessageSink): FrameFault | null {
    let bytes = chunk;
    if (this.#pieces !== null) {
      this.#keep(this.#pieces, chunk);
      if (this.heldBytes > MAX_HELD_BYTES) return 'too long';
      if (!this.#isWhole(this.#pieces)) return null;
      bytes = Buffer.concat(this.#pieces, this.#pieceBytes);
      this.drop();
    }
    let start = 0;
    while (bytes.length - start >= FRAME_PREFIX_BYTES) {
      if (bytes[start] !== 0) return 'compressed';
      const length = bytes.readUInt32BE(start + 1);
      if (length > MAX_MESSAGE_BYTES) return 'too long';
      const messageStart = start + FRAME_PREFIX_BYTES;
      const end = messageStart + length;
      if (end > bytes.length) break;
      if (!sink.onMessage(bytes.subarray(messageStart, end))) return null;
      start = end;
    }
    if (start < bytes.length) {
      this.#pieces = [];
      this.#keep(this.#pieces, bytes.subarray(start));
    }
    return null;
  }

  /** Nothing is kept any more. */
  drop(): void {
    this.#pieces = null;
    this.#pieceBytes = 0;
  }

  #keep(pieces: Buffer[], piece: Buffer): void {
    // A copy, for the piece is a part of what came from the socket at once, all of which it would hold.
    pieces.push(Buffer.copyBytesFrom(piece));
    this.#pieceBytes += piece.length;
  }

  /** Joined once, when it is whole: each time anew would copy a long message again and again. */
  #isWhole([first]: readonly Buffer[]): boolean {
    if (first === undefined || first.length < FRAME_PREFIX_BYTES) return true;
    return this.#pieceBytes >= FRAME_PREFIX_BYTES + first.readUInt32BE(1);
  }
}
