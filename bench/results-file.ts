import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describeMachine } from './tools.ts';

/** What the figures of a results file are of. */
export interface RunFacts {
  readonly date: string;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, unknown>>;
}

export function factsOfRun(versions: RunFacts['versions'], options: RunFacts['options']): RunFacts {
  return { date: new Date().toISOString(), machine: describeMachine(), versions, options };
}

export async function writeResultsFile(file: string, results: RunFacts): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify(results, null, 2)}\n`);
}
