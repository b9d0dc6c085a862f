import type { Config } from './config.ts';
import { ConfigError } from './config-error.ts';
import type { LoadAnswer } from './load-worker.ts';
import { runInWorker } from './run-in-worker.ts';

/** More than the slowest file of the largest size takes on a machine with something else to do. */
const TIMEOUT_MS = 10_000;

/** Beside this file once it is built. */
const WORKER = new URL('./load-worker.js', import.meta.url);

export interface LoadInWorkerOptions {
  /** Ends the reading. */
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly worker?: URL;
}

/**
 * Reads and checks a config file as `loadConfig` does, in a thread of its own, so that this one goes on whatever the
 * file holds.
 * @throws ConfigError that names the mistakes with their lines
 * @throws Error for a reading that takes too long or too much memory, or that can't begin
 */
export async function loadConfigInWorker(file: string, options: LoadInWorkerOptions = {}): Promise<Config> {
  const { signal, timeoutMs = TIMEOUT_MS, worker = WORKER } = options;
  const answer = await runInWorker<LoadAnswer>({ worker, data: file, what: 'reading the config', timeoutMs, signal });
  if ('config' in answer) return answer.config;
  // It may be that of the overlay.
  throw new ConfigError(answer.file, answer.problems, answer.more);
}
