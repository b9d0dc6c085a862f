/** Protobuf's wire types (https://protobuf.dev/programming-guides/encoding/); groups (3, 4) are long gone from proto3. */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

const MAX_VARINT_BYTES = 10;
const MAX_FIELD_NUMBER = 0x1fffffff;

/**
 * Walks over the fields of one protobuf message in place. Never throws and never reads past the end: a truncated or
 * lying message sets {@link malformed}, and every later call says that there is nothing left.
 *
 * ```ts
 * while (reader.nextField(end)) {
 *   if (reader.isBytes(2)) { … reader.valueStart, reader.valueEnd … }
 * }
 * ```
 * After {@link nextField} the position is behind the field, so what a caller does not look at costs nothing. To walk a
 * nested message, {@link enter} it and go on with its end; it leaves the position where the outer walk continues.
 */
export class WireReader {
  readonly bytes: Uint8Array;
  malformed = false;
  /** The last field's bytes, where {@link isBytes} holds for it. */
  valueStart = 0;
  valueEnd = 0;
  #position = 0;
  #field = 0;
  #wireType = VARINT;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Steps over the next field of the message that ends at `end`; false at its end or where it is malformed. */
  nextField(end: number): boolean {
    if (this.malformed || this.#position >= end) return false;
    const tag = this.#varint(end);
    this.#wireType = tag & 7;
    this.#field = Math.floor(tag / 8);
    if (this.malformed || this.#field === 0 || this.#field > MAX_FIELD_NUMBER) return this.#fail();
    switch (this.#wireType) {
      case LENGTH_DELIMITED: {
        const length = this.#varint(end);
        return this.#step(length, end);
      }
      case VARINT:
        this.#varint(end);
        return !this.malformed;
      case FIXED64:
        return this.#step(8, end);
      case FIXED32:
        return this.#step(4, end);
      default:
        return this.#fail();
    }
  }

  /** Whether the field just passed has this number and is bytes, text or a message. */
  isBytes(field: number): boolean {
    return this.#field === field && this.#wireType === LENGTH_DELIMITED;
  }

  /** The field number just passed. */
  get field(): number {
    return this.#field;
  }

  /** Goes back to the start of the nested message just passed; returns its end. */
  enter(): number {
    this.#position = this.valueStart;
    return this.valueEnd;
  }

  /** Goes on from here: from where a message was entered, or from its end. */
  seek(position: number): void {
    this.#position = position;
  }

  #step(length: number, end: number): boolean {
    if (this.malformed || length > end - this.#position) return this.#fail();
    this.valueStart = this.#position;
    this.valueEnd = this.#position + length;
    this.#position = this.valueEnd;
    return true;
  }

  /** Exact up to 2^53, which is far past any length that can be true. */
  #varint(end: number): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < MAX_VARINT_BYTES && this.#position < end; count++) {
      const byte = this.bytes[this.#position++] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    this.malformed = true;
    return 0;
  }

  #fail(): false {
    this.malformed = true;
    return false;
  }
}
