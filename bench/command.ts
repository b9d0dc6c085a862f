import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommanderError } from 'commander';
import { stopAllProcesses } from '../lab/managed-process.ts';
import { MissingTool } from './tools.ts';

const stop = new AbortController();

/**
 * Runs a command of the benchmarks until it or a signal ends it, and ends this process with its exit code. Nothing that it
 * started outlives it.
 * @param main gets a directory for its files, removed at the end
 */
export async function runCommand(name: string, main: (directory: string) => Promise<number>): Promise<never> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-bench-'));
  process.exit(await exitCodeOf(name, main, directory));
}

export function say(line: string): void {
  if (!stop.signal.aborted) process.stderr.write(`${new Date().toTimeString().slice(0, 8)} ${line}\n`);
}

async function exitCodeOf(
  name: string,
  main: (directory: string) => Promise<number>,
  directory: string,
): Promise<number> {
  try {
    return await Promise.race([main(directory), aborted()]);
  } catch (error) {
    // Commander has said what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (stop.signal.aborted) return 130;
    process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    return error instanceof MissingTool ? 2 : 1;
  } finally {
    await stopAllProcesses();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Rejects at Ctrl-C: what still runs then is ended, whatever it was about to do. */
async function aborted(): Promise<never> {
  return await new Promise((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(new Error('stopped')));
  });
}
