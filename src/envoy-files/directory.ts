import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { isWatchedFile } from '../envoy-config/watched-files.ts';

/** The texts of the files that Envoy watches there, by name; none where there is no such directory. */
export async function readWatchedFiles(directory: string): Promise<ReadonlyMap<string, string>> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isCode(error, 'ENOENT')) return [];
    throw error;
  });
  const texts = names.filter(isWatchedFile).map(async (name) => {
    const text = await readRegular(`${directory}/${name}`);
    return text === null ? [] : [[name, text] as const];
  });
  return new Map((await Promise.all(texts)).flat());
}

/** Null for what is no file, such as a pipe, which would be waited for without end: it is replaced where a file has its name. */
async function readRegular(path: string): Promise<string | null> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return (await file.stat()).isFile() ? await file.readFile('utf8') : null;
  } finally {
    await file.close();
  }
}

/** Makes the directory, but none above it, which would be somebody's mistake. */
export async function makeDirectory(directory: string): Promise<void> {
  await mkdir(directory).catch((error: unknown) => {
    if (!isCode(error, 'EEXIST')) throw error;
  });
}

/** Who writes touches the lock again and again: that of one that was killed stays as it is. */
const TOUCH_MS = 3_000;
const MAX_UNTOUCHED_MS = 15_000;

const TRY_AGAIN_MS = 50;

/**
 * Writes there while nobody else does, and makes the directory first.
 * @param signal ends the wait, with an AbortError
 */
export async function withLock<T>(directory: string, write: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  await makeDirectory(directory);
  const path = `${directory}/.lock`;
  const token = randomBytes(8).toString('hex');
  await lock(path, token, signal);
  const touching = setInterval(() => void touch(path), TOUCH_MS);
  try {
    return await write();
  } finally {
    clearInterval(touching);
    // Another's, where this process stood still for so long that it was taken over.
    if ((await readFile(path, 'utf8').catch(() => '')) === token) await rm(path, { force: true });
  }
}

async function lock(path: string, token: string, signal: AbortSignal | undefined): Promise<void> {
  let [seen, sinceMs] = ['', performance.now()];
  while (!(await create(path, token))) {
    const there = await lstat(path).catch(() => null);
    const now = there === null ? '' : `${there.ino} ${there.mtimeMs}`;
    if (now !== seen) [seen, sinceMs] = [now, performance.now()];
    if (there?.isFile() === false) throw new Error(`${path} is not a regular file, so it is nobody's lock: remove it`);
    if (performance.now() - sinceMs > MAX_UNTOUCHED_MS) await takeAway(path, token);
    else await sleep(TRY_AGAIN_MS, undefined, { signal });
  }
}

async function create(path: string, token: string): Promise<boolean> {
  try {
    await writeFile(path, token, { flag: 'wx', mode: 0o644 });
    return true;
  } catch (error) {
    if (!isCode(error, 'EEXIST')) throw error;
    return false;
  }
}

/** By a rename, which only one of several can do. */
async function takeAway(path: string, token: string): Promise<void> {
  await rename(path, `${path}.${token}`).catch(() => {});
  await rm(`${path}.${token}`, { force: true });
}

async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now).catch(() => {});
}

/** A running Envoy sees the file by the rename, and never half of it. */
export async function replaceFile(path: string, text: string): Promise<void> {
  // Exclusively and under a name that nobody can guess: a link that waits there would be written through.
  const temporary = `${path}.${randomBytes(8).toString('hex')}.new`;
  const file = await open(temporary, 'wx', 0o644);
  try {
    await fill(file, text);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function fill(file: FileHandle, text: string): Promise<void> {
  try {
    await file.writeFile(text);
    // Whatever the umask: there is no secret in it, and Envoy may run as another user.
    await file.chmod(0o644);
  } finally {
    await file.close();
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
