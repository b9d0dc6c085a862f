import { execFile } from 'node:child_process';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { CLI } from '../../lab/site-processes.ts';
import { HOSTILE_CONFIGS } from '../support/hostile-configs.ts';
import { MINIMAL } from '../unit/config/good-configs.ts';
import { linesOf, runCli, STACK_LINE } from './cli-process.ts';
import { temporaryDirectory, writeSiteFile } from './site.ts';

const execute = promisify(execFile);

/** Twenty mistakes, and that there are more. */
const MOST_LINES = 21;
const MOST_BYTES = 21 * 800;

test.each(Object.entries(HOSTILE_CONFIGS))('check refuses %s, soon and in a few lines', async (_, text) => {
  // Killed after 15 s, which gives no code.
  const { code, stdout, stderr } = await runCli(['check', '--config', await writeSiteFile(text)]);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).not.toMatch(STACK_LINE);
  expect(linesOf(stderr).length).toBeLessThanOrEqual(MOST_LINES);
  expect(stderr.length).toBeLessThan(MOST_BYTES);
});

test('of many mistakes the first are told, and how many more there are', async () => {
  const { stderr } = await runCli([
    'check',
    '--config',
    await writeSiteFile(HOSTILE_CONFIGS['10,000 unknown keys'] ?? ''),
  ]);
  const lines = linesOf(stderr);
  expect(lines).toHaveLength(MOST_LINES);
  expect(lines[0]).toMatch(/site\.yaml:\d+: k0: unknown key/);
  expect(lines.at(-1)).toBe('and 9980 more errors');
});

test('a file of 2.7 MB is refused by its size, and one that never ends as well', async () => {
  const file = await writeSiteFile(`${MINIMAL}${'# a comment\n'.repeat(225_000)}`);
  expect((await runCli(['check', '--config', file])).stderr).toBe(
    `${file}: is too large: a config file has at most 512 KiB, and this is 2.6 MiB\n`,
  );
  const { code, stderr } = await runCli(['check', '--config', '/dev/zero']);
  expect([code, stderr]).toEqual([2, expect.stringContaining('at most 512 KiB, and this is more than that')]);
});

test('a pipe is read where somebody writes to it, and waited for no longer than some seconds', async () => {
  const pipe = join(await temporaryDirectory(), 'pipe');
  await execute('mkfifo', [pipe]);
  expect((await runCli(['check', '--config', pipe])).code).toBe(2);

  const holder = await open(pipe, 'r+');
  onTestFinished(() => holder.close());
  expect((await runCli(['check', '--config', pipe])).stderr).toBe(`${pipe}: cannot be read: nothing came for 5 s\n`);

  const line = '"$0" "$1" check --config <(sleep 0.3; cat "$2")';
  const { stdout } = await execute('bash', ['-c', line, process.execPath, CLI, await writeSiteFile(MINIMAL)]);
  expect(stdout).toContain('is fine.');
});
