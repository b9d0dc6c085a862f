import { isUtf8 } from 'node:buffer';

/**
 * The text of a file as editors and consoles save it: UTF-8 or UTF-16, with or without a byte order mark, else Latin-1;
 * null where it is no text.
 */
export function decodeText(bytes: Buffer): string | null {
  const text = new TextDecoder(encodingOf(bytes)).decode(bytes);
  return text.includes('\0') ? null : text;
}

/** TextDecoder itself drops the byte order mark. */
function encodingOf(bytes: Buffer): string {
  const [first, second] = bytes;
  if ((first === 0xff && second === 0xfe) || (first !== 0 && second === 0)) return 'utf-16le';
  if ((first === 0xfe && second === 0xff) || (first === 0 && second !== 0)) return 'utf-16be';
  return isUtf8(bytes) ? 'utf-8' : 'latin1';
}
