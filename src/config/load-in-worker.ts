import { Worker } from 'node:worker_threads';
import type { Config } from './config.ts';
import { ConfigError } from './config-error.ts';
import type { LoadAnswer } from './load-worker.ts';

/** More than the slowest file of the largest size takes on a machine with something else to do. */
const TIMEOUT_MS = 10_000;

/** Ten times what a config of thousands of servers takes. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 16 };

/** Beside this file once it is built: a worker starts from JavaScript. */
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
  const { signal, timeoutMs = TIMEOUT_MS } = options;
  const worker = start(options.worker ?? WORKER, file);
  let timer: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  try {
    const answer = await new Promise<LoadAnswer>((resolve, reject) => {
      const fail = (why: string, cause?: Error) => reject(new Error(`${why}: the old config stays`, { cause }));
      worker.once('message', resolve);
      worker.once('error', (error) => fail(`reading the config failed: ${error.message}`, error));
      worker.once('exit', (code) => fail(`reading the config ended with code ${code}`));
      timer = setTimeout(() => fail(`reading the config took longer than ${timeoutMs / 1_000} s`), timeoutMs);
      onAbort = () => fail('reading the config was aborted');
      signal?.addEventListener('abort', onAbort);
      if (signal?.aborted === true) onAbort();
    });
    if ('config' in answer) return answer.config;
    throw new ConfigError(file, answer.problems, answer.more);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    await worker.terminate();
  }
}

function start(worker: URL, file: string): Worker {
  try {
    return new Worker(worker, { workerData: file, resourceLimits: RESOURCE_LIMITS, name: 'load-config' });
  } catch (error) {
    const why =
      error instanceof Error && 'code' in error && error.code === 'ERR_ACCESS_DENIED'
        ? "Node's permission model lets no thread be started: add --allow-worker"
        : String(error);
    throw new Error(`the config can't be read: ${why}: the old config stays`, { cause: error });
  }
}
