import type { Config } from '../config/config.ts';
import { ConfigError } from '../config/config-error.ts';
import { runInWorker } from '../config/run-in-worker.ts';
import type { PlannedFiles } from '../envoy-files/plan.ts';
import type { PlanAnswer, PlanQuestion } from './plan-worker.ts';

/** Hundreds of applications, on a machine with something else to do. */
const TIMEOUT_MS = 30_000;

/** Beside this file once it is built. */
const WORKER = new URL('./plan-worker.js', import.meta.url);

/**
 * Plans in a thread of its own, for rendering hundreds of applications would hold up decisions.
 * @throws ConfigError where the overlay does not fit, or breaks what the decision needs
 * @throws Error where the directory can't be read
 */
export async function planInWorker(config: Config, directory: string, signal: AbortSignal): Promise<PlannedFiles> {
  const data: PlanQuestion = { config, directory };
  const what = 'rendering what Envoy watches';
  const answer = await runInWorker<PlanAnswer>({ worker: WORKER, data, what, timeoutMs: TIMEOUT_MS, signal });
  if ('plan' in answer) return answer;
  throw new ConfigError(answer.file, answer.problems, answer.more);
}
