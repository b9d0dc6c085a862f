import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { CLI } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { temporaryDirectory } from './site.ts';

test.each<NodeJS.Signals>(['SIGTERM', 'SIGINT', 'SIGHUP'])('%s ends a command at once that is busy', async (signal) => {
  const pipe = join(await temporaryDirectory(), 'site.yaml');
  await promisify(execFile)('mkfifo', [pipe]);
  // Something that may write and does not: for five seconds it is waited for.
  const writer = await open(pipe, 'r+');
  onTestFinished(() => writer.close());
  const check = spawn(process.execPath, [CLI, 'check', '--config', pipe], { stdio: 'ignore' });
  onTestFinished(() => void check.kill('SIGKILL'));
  const ended = once(check, 'exit');
  const files = `/proc/${check.pid}/fd`;
  const isRead = async () => {
    const open = (await readdir(files)).map((name) => readlink(join(files, name)).catch(() => ''));
    return (await Promise.all(open)).includes(pipe);
  };
  await waitUntil(isRead, { what: 'the config file to be read' });
  check.kill(signal);
  expect(await ended).toEqual([null, signal]);
});
