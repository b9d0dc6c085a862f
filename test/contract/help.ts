import { PassThrough } from 'node:stream';
import { expect } from 'vitest';
import { EXIT_OK, runCli } from '../../src/cli/run.ts';

/** What `site-persistence COMMAND --help` prints. */
export async function help(...command: string[]): Promise<string> {
  const stdout = new PassThrough();
  const exitCode = await runCli([...command, '--help'], {
    stdout,
    stderr: new PassThrough(),
    env: {},
    signal: new AbortController().signal,
    hangups: new EventTarget(),
  });
  expect(exitCode).toBe(EXIT_OK);
  return String(stdout.read());
}

/** The names of the commands that the program's help lists, without `help` itself. */
export async function commands(): Promise<string[]> {
  return [...(await help()).matchAll(/^ {2}([a-z]+) (?:\[options\]|<)/gm)]
    .map(([, command = '']) => command)
    .filter((command) => command !== 'help');
}

/** The long options in a text of help. */
export function flagsIn(text: string): string[] {
  return [...text.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+)/gm)].map(([, flag = '']) => flag);
}
