import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FRAME_PREFIX_BYTES, FrameReader, grpcFrame } from '../../../src/ext-proc/grpc-frames.ts';

const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });

/** Bytes cut wherever, into pieces that may be empty. */
function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [0, ...at.map((place) => place % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

function reading(maxMessages = Number.POSITIVE_INFINITY) {
  const reader = new FrameReader();
  const seen: Buffer[] = [];
  const sink = {
    onMessage(message: Buffer) {
      seen.push(Buffer.from(message));
      return seen.length < maxMessages;
    },
  };
  return { reader, seen, read: (chunk: Buffer) => reader.read(chunk, sink) };
}

describe('messages are found', () => {
  test('however the bytes are cut, and nothing is held after the last', () => {
    fc.assert(
      fc.property(messages, fc.array(fc.nat(), { maxLength: 40 }), (sent, at) => {
        const { reader, seen, read } = reading();
        for (const chunk of cut(Buffer.concat(sent.map(grpcFrame)), at)) expect(read(chunk)).toBeNull();
        expect(seen.map((message) => [...message])).toEqual(sent.map((message) => [...message]));
        expect(reader.heldBytes).toBe(0);
      }),
    );
  });

  test('as long as they are wanted', () => {
    const { seen, read } = reading(2);
    expect(read(Buffer.concat([1, 2, 3].map((byte) => grpcFrame(Buffer.from([byte])))))).toBeNull();
    expect(seen.map((message) => message[0])).toEqual([1, 2]);
  });
});

describe('reading ends', () => {
  test('at a compressed message', () => {
    expect(reading().read(Buffer.from([1, 0, 0, 0, 0]))).toBe('compressed');
  });

  test('at a length that no message has, at its prefix', () => {
    expect(reading().read(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]))).toBe('too long');
  });

  test('where the pieces of a message take too much to keep, each of one byte', () => {
    const { reader, read } = reading();
    const prefix = Buffer.alloc(FRAME_PREFIX_BYTES);
    prefix.writeUInt32BE(1024 * 1024, 1);
    let fault = read(prefix);
    let pieces = 0;
    for (; fault === null; pieces++) fault = read(Buffer.from([0]));
    expect(fault).toBe('too long');
    expect(pieces).toBeLessThan(20_000);
    reader.drop();
    expect(reader.heldBytes).toBe(0);
  });

  test('never by throwing, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 }), (chunks) => {
        const { read } = reading();
        for (const chunk of chunks) if (read(Buffer.from(chunk)) !== null) return;
      }),
    );
  });
});
