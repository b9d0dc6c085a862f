import { parentPort, workerData } from 'node:worker_threads';
import type { Config } from './config.ts';
import { ConfigError, type ConfigProblem } from './config-error.ts';
import { loadConfig } from './load.ts';

/** What {@link loadConfigInWorker} gets from this file's thread. */
export type LoadAnswer =
  | { readonly config: Config }
  | { readonly file: string; readonly problems: readonly ConfigProblem[]; readonly more: number };

async function load(file: string): Promise<LoadAnswer> {
  try {
    return { config: await loadConfig(file) };
  } catch (error) {
    if (error instanceof ConfigError) return { file: error.file, problems: error.problems, more: error.more };
    throw error;
  }
}

parentPort?.postMessage(await load(String(workerData)));
