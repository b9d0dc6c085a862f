import { parentPort, workerData } from 'node:worker_threads';
import type { Config } from '../config/config.ts';
import { ConfigError, type ConfigProblem } from '../config/config-error.ts';
import { examineOverlay } from '../doctor/examine-overlay.ts';
import { readWatchedFiles } from '../envoy-files/directory.ts';
import { type PlannedFiles, planFiles } from '../envoy-files/plan.ts';

/** What this file's thread is told. */
export interface PlanQuestion {
  readonly config: Config;
  readonly directory: string;
}

/** What {@link planInWorker} gets from it. */
export type PlanAnswer =
  | PlannedFiles
  | { readonly file: string; readonly problems: readonly ConfigProblem[]; readonly more: number };

async function answer({ config, directory }: PlanQuestion): Promise<PlanAnswer> {
  try {
    refuseBrokenDecision(config);
    const disk = await readWatchedFiles(directory);
    return { plan: planFiles(config, directory, disk), disk };
  } catch (error) {
    if (error instanceof ConfigError) return { file: error.file, problems: error.problems, more: error.more };
    throw error;
  }
}

/** What `check` fails for and `envoy` does not print must not reach Envoy by an edit, either. */
function refuseBrokenDecision(config: Config): void {
  const { overlay } = config.envoy;
  const wrong = examineOverlay(config, Date.now()).filter(({ mark }) => mark === 'wrong');
  if (overlay === null || wrong.length === 0) return;
  const problems = wrong.map(({ text }) => ({ line: null, message: `breaks what the decision needs: ${text}` }));
  throw new ConfigError(overlay.file, problems);
}

/** Nobody else starts this thread. */
const question: PlanQuestion = workerData;
parentPort?.postMessage(await answer(question));
