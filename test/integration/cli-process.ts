import { spawn } from 'node:child_process';
import { onTestFinished } from 'vitest';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { CLI } from '../../lab/site-processes.ts';

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a test run may have in its environment must not decide what the program does. */
const ENV = { LOG_LEVEL: '', NO_COLOR: '1', FORCE_COLOR: '0' };

/** Runs the built program to its end. */
export async function runCli(
  args: readonly string[],
  { env = {}, cwd }: { env?: Readonly<Record<string, string>>; cwd?: string } = {},
): Promise<CliResult> {
  const child = spawn(process.execPath, [CLI, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...ENV, ...env },
    ...(cwd === undefined ? {} : { cwd }),
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (part: Buffer) => {
    output.stdout += part.toString();
  });
  child.stderr.on('data', (part: Buffer) => {
    output.stderr += part.toString();
  });
  const stuck = setTimeout(() => child.kill('SIGKILL'), 90_000);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(stuck);
  return { code, ...output };
}

/** Starts `serve` for the running test, and waits until it takes calls unless it logs too little to tell. */
export async function startServe(
  configFile: string,
  {
    args = [],
    env = {},
    nodeArgs = [],
  }: {
    args?: readonly string[];
    env?: Readonly<Record<string, string>>;
    nodeArgs?: readonly string[];
  } = {},
): Promise<ManagedProcess> {
  const serve = new ManagedProcess({
    name: 'serve',
    command: process.execPath,
    args: [...nodeArgs, CLI, 'serve', '--config', configFile, ...args],
    env: { ...ENV, ...env },
  });
  onTestFinished(async () => void (await serve.stop('SIGKILL')));
  if (['', 'info', 'debug'].includes(env.LOG_LEVEL ?? '')) await serve.waitForLine(/deciding on/);
  return serve;
}

/** The lines of an output, without the empty one behind the last line break. */
export function linesOf(text: string): string[] {
  return text.replace(/\n$/, '').split('\n');
}

/** A line of a JavaScript stack trace. */
export const STACK_LINE = /^\s+at /m;
