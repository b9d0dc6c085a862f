import { watch } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readAtMost } from '../config/read-at-most.ts';

/** What is still being written is not looked at: the content must be the same for so long. */
const SETTLE_MS = 100;

/**
 * The file is looked at now and then whatever the kernel says: on some file systems it says nothing, and where it can't
 * watch this is all there is.
 */
const POLL_MS = 2_000;

/** Of a file no more is looked at: it may have become anything. */
const MAX_BYTES = 1024 * 1024;

export interface WatchFileOptions {
  /** Called when the file has become another one: other bytes, gone, or there again. */
  readonly onChange: () => void;
  /** Called once, when a directory can't be watched and changes are only seen by polling. */
  readonly onPollingOnly: (why: string) => void;
  readonly settleMs?: number;
  readonly pollMs?: number;
  /** `fs.watch`, or what a test has in its place. */
  readonly watchDirectory?: (directory: string, onEvent: () => void) => DirectoryWatcher;
}

export interface DirectoryWatcher {
  on(event: 'error', listener: (error: Error) => void): unknown;
  close(): void;
}

export interface FileWatch {
  close(): void;
}

/**
 * Watches a file by its directory, for editors and Kubernetes put another file in its place instead of writing to it.
 * Where it is a symbolic link the directory of what it leads to is watched as well. What the file is when this returns
 * is what later changes are told from: a reader that reads it afterwards misses none.
 */
export async function watchFile(file: string, options: WatchFileOptions): Promise<FileWatch> {
  const { onChange, onPollingOnly, settleMs = SETTLE_MS, pollMs = POLL_MS } = options;
  const watchDirectory =
    options.watchDirectory ?? ((directory, onEvent) => watch(directory, { persistent: false }, onEvent));
  const watchers = new Map<string, DirectoryWatcher>();
  const closing = new AbortController();
  let isPollingOnly = false;
  let reported = await read();
  let isChecking = false;
  let isCheckDue = false;

  /** Null where there is nothing to read. */
  async function read(): Promise<Buffer | null> {
    return await readAtMost(file, MAX_BYTES).then(
      ({ bytes }) => bytes,
      () => null,
    );
  }

  async function check(): Promise<void> {
    isCheckDue = true;
    if (isChecking) return;
    isChecking = true;
    while (isCheckDue && !closing.signal.aborted) {
      isCheckDue = false;
      await checkOnce();
    }
    isChecking = false;
  }

  async function checkOnce(): Promise<void> {
    let content = await read();
    if (isSame(content, reported)) return;
    for (let isSettled = false; !isSettled; ) {
      await sleep(settleMs, undefined, { signal: closing.signal }).catch(() => {});
      if (closing.signal.aborted) return;
      const now = await read();
      isSettled = isSame(now, content);
      content = now;
    }
    if (isSame(content, reported)) return;
    reported = content;
    // The link may lead elsewhere now.
    await watchDirectories();
    if (!closing.signal.aborted) onChange();
  }

  async function watchDirectories(): Promise<void> {
    const path = resolve(file);
    const target = await realpath(path).catch(() => path);
    if (closing.signal.aborted) return;
    const wanted = new Set([dirname(path), dirname(target)]);
    for (const [directory, watcher] of watchers) {
      if (wanted.has(directory)) continue;
      watcher.close();
      watchers.delete(directory);
    }
    for (const directory of wanted) if (!watchers.has(directory)) addWatcher(directory);
  }

  function addWatcher(directory: string): void {
    try {
      const watcher = watchDirectory(directory, () => void check());
      watcher.on('error', (error) => {
        watchers.delete(directory);
        watcher.close();
        noteFailure(directory, error);
      });
      watchers.set(directory, watcher);
    } catch (error) {
      noteFailure(directory, error);
    }
  }

  function noteFailure(directory: string, error: unknown): void {
    if (isPollingOnly) return;
    isPollingOnly = true;
    onPollingOnly(`${directory} can't be watched: ${error instanceof Error ? error.message : String(error)}`);
  }

  await watchDirectories();
  const poll = setInterval(() => void check(), pollMs);
  poll.unref();
  // What changed before the directories were watched.
  void check();
  return {
    close() {
      closing.abort();
      clearInterval(poll);
      for (const watcher of watchers.values()) watcher.close();
    },
  };
}

function isSame(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}
