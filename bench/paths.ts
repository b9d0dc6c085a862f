import { fileURLToPath } from 'node:url';
import { CLI } from '../lab/site-processes.ts';

export const ROOT = fileURLToPath(new URL('..', `file://${CLI}`));

/** The sources of the benchmarks: configs and scripts are taken from there, the compiled code is in build/. */
export const PARTS = `${ROOT}bench`;

/** What is built or measured along the way; not part of the repository. */
export const BUILD = `${ROOT}build`;

export { CLI };
