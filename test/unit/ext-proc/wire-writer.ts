/** Protobuf by hand (https://protobuf.dev/programming-guides/encoding/), so that a test can write what no encoder would. */

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

/** @param minBytes more than needed makes the varint over-long: padded with zero bits, which say nothing */
export function varint(value: number | bigint, minBytes = 1): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  do {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  } while (rest > 0n || bytes.length < minBytes);
  bytes.push((bytes.pop() ?? 0) & 0x7f);
  return Buffer.from(bytes);
}

export interface BytesFieldOptions {
  /** The length to claim instead of the true one. */
  readonly length?: number | bigint;
  /** See {@link varint}; for the tag and the length alike. */
  readonly minBytes?: number;
}

/** A field of bytes, text or a message. */
export function bytesField(field: number, content: Uint8Array | string, options: BytesFieldOptions = {}): Buffer {
  const bytes = Buffer.from(content);
  const length = varint(options.length ?? bytes.length, options.minBytes);
  return Buffer.concat([tag(field, LENGTH_DELIMITED, options.minBytes), length, bytes]);
}

export function varintField(field: number, value: number | bigint): Buffer {
  return Buffer.concat([tag(field, VARINT), varint(value)]);
}

/** @param content 4 or 8 bytes */
export function fixedField(field: number, content: Uint8Array): Buffer {
  return Buffer.concat([tag(field, content.length === 8 ? FIXED64 : FIXED32), content]);
}

export function tag(field: number, wireType: number, minBytes?: number): Buffer {
  return varint(BigInt(field) * 8n + BigInt(wireType), minBytes);
}
