import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long a pipe may say nothing, and how often it is looked at meanwhile. */
const SILENCE_MS = 5_000;
const RETRY_MS = 10;

/** The beginning of a file. */
export interface FileStart {
  readonly bytes: Buffer;
  /** Of the whole file; null where that is more than was read, but not known: a device or a pipe. */
  readonly size: number | null;
}

/**
 * Reads a file, and no more than so many bytes of it. It may be a pipe, or something that never ends or never begins.
 * @throws what `node:fs` throws; an Error for a pipe of which nothing comes
 */
export async function readAtMost(path: string, maxBytes: number): Promise<FileStart> {
  // Without O_NONBLOCK to open a pipe that nobody writes to would never return, nor let the process end.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const { size } = await file.stat();
    // One byte more shows that there is more, and of most files that is the whole.
    const bytes = await fill(file, Buffer.allocUnsafe(Math.min(maxBytes, Math.max(size, 65_535)) + 1), maxBytes);
    const isWhole = bytes.length <= maxBytes;
    return { bytes: bytes.subarray(0, maxBytes), size: isWhole ? bytes.length : size > maxBytes ? size : null };
  } finally {
    await file.close();
  }
}

async function fill(file: FileHandle, start: Buffer, maxBytes: number): Promise<Buffer> {
  let buffer = start;
  let length = 0;
  while (length <= maxBytes) {
    if (length === buffer.length) buffer = Buffer.concat([buffer], Math.min(2 * length, maxBytes + 1));
    const count = await readSome(file, buffer.subarray(length));
    if (count === 0) break;
    length += count;
  }
  return buffer.subarray(0, length);
}

async function readSome(file: FileHandle, into: Buffer): Promise<number> {
  const giveUpAtMs = performance.now() + SILENCE_MS;
  for (;;) {
    try {
      return (await file.read(into, 0, into.length, null)).bytesRead;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error;
      if (performance.now() > giveUpAtMs) throw new Error(`nothing came for ${SILENCE_MS / 1_000} s`, { cause: error });
      await sleep(RETRY_MS);
    }
  }
}
