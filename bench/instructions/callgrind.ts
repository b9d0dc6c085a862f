import { execFile } from 'node:child_process';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The name of a dump is this, its number and that of a thread: `instructions.3-06`. */
const DUMP = 'instructions';

/**
 * What runs a program so that its instructions can be counted; not yet while it starts, which would take four times as long.
 * Threads are told apart: in Envoy's first one are health checks and polls, which come by time and not by request.
 */
export function underCallgrind(directory: string): string[] {
  return [
    ...['valgrind', '--tool=callgrind', '--instr-atstart=no', '--separate-threads=yes', '--dump-line=no'],
    ...[`--callgrind-out-file=${join(directory, DUMP)}`, `--vgdb-prefix=${vgdbPrefix(directory)}`],
  ];
}

/** From now on instructions are counted. */
export async function startCounting(pid: number, directory: string): Promise<void> {
  await control(pid, directory, '--instr=on');
}

/** The instructions of all threads but the first while `work` is done. */
export async function countInstructions(pid: number, directory: string, work: () => Promise<void>): Promise<number> {
  await control(pid, directory, '--zero');
  await work();
  await control(pid, directory, '--dump');
  const dumps = (await readdir(directory)).filter((name) => /^instructions\.\d+-\d+$/.test(name));
  const ofRequests = dumps.filter((name) => !name.endsWith('-01'));
  const texts = await Promise.all(ofRequests.map((name) => readFile(join(directory, name), 'latin1')));
  await Promise.all(dumps.map((name) => rm(join(directory, name))));
  if (texts.length === 0) throw new Error('callgrind wrote no dump');
  // A thread that did nothing has no totals.
  return texts.reduce((sum, text) => sum + Number(/^totals: (\d+)$/m.exec(text)?.[1] ?? 0), 0);
}

async function control(pid: number, directory: string, command: string): Promise<void> {
  await run('callgrind_control', [`--vgdb-prefix=${vgdbPrefix(directory)}`, command, String(pid)]);
}

/** Several are counted at the same time. */
function vgdbPrefix(directory: string): string {
  return join(directory, 'vgdb');
}
