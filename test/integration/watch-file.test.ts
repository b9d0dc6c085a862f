import { writeFileSync } from 'node:fs';
import { mkdir, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { type WatchFileOptions, watchFile } from '../../src/listener/watch-file.ts';
import { temporaryDirectory } from './site.ts';

/** Shorter than a poll, so that a test that waits this long for a change sees that it was not a poll that found it. */
const SOON_MS = 1_500;

interface Watched {
  readonly file: string;
  readonly directory: string;
  /** How often the file was said to have changed. */
  readonly changes: () => number;
  /** Why only polling is left, as often as it was said. */
  readonly pollingOnly: readonly string[];
}

/** Watches a file with the content `0` for the running test. */
async function watched(
  options: Partial<WatchFileOptions> = {},
  prepare?: (directory: string) => Promise<void>,
): Promise<Watched> {
  const directory = await temporaryDirectory();
  const file = join(directory, 'site.yaml');
  if (prepare === undefined) writeFileSync(file, '0');
  else await prepare(directory);
  let changes = 0;
  const pollingOnly: string[] = [];
  const watch = await watchFile(file, {
    onChange: () => changes++,
    onPollingOnly: (why) => pollingOnly.push(why),
    settleMs: 30,
    ...options,
  });
  onTestFinished(() => watch.close());
  return { file, directory, changes: () => changes, pollingOnly };
}

async function untilChanged({ changes }: Watched, times: number, timeoutMs = SOON_MS): Promise<void> {
  await waitUntil(() => changes() === times, { what: `change ${times}`, timeoutMs, intervalMs: 5 });
}

/** Long enough for a change that there should not be. */
async function expectNoMoreThan({ changes }: Watched, times: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(changes()).toBe(times);
}

test('a file that is written to is seen', async () => {
  const it = await watched();
  writeFileSync(it.file, '1');
  await untilChanged(it, 1);
  writeFileSync(it.file, '22');
  await untilChanged(it, 2);
});

test('a file that another one takes the place of is seen, each time', async () => {
  const it = await watched();
  for (let time = 1; time <= 3; time++) {
    writeFileSync(join(it.directory, '.site.yaml.swp'), String(time));
    await rename(join(it.directory, '.site.yaml.swp'), it.file);
    await untilChanged(it, time);
  }
});

test('a ConfigMap is seen whose ..data leads elsewhere, each time', async () => {
  /** As the kubelet does it. */
  async function publish(directory: string, version: number): Promise<void> {
    await mkdir(join(directory, `..${version}`));
    writeFileSync(join(directory, `..${version}`, 'site.yaml'), String(version));
    await symlink(`..${version}`, join(directory, '..data_tmp'));
    await rename(join(directory, '..data_tmp'), join(directory, '..data'));
    if (version > 0) await rm(join(directory, `..${version - 1}`), { recursive: true });
  }
  const it = await watched({}, async (directory) => {
    await publish(directory, 0);
    await symlink('..data/site.yaml', join(directory, 'site.yaml'));
  });
  for (let version = 1; version <= 3; version++) {
    await publish(it.directory, version);
    await untilChanged(it, version);
  }
});

test('a file elsewhere is seen that a link leads to, and the one that it leads to afterwards', async () => {
  const elsewhere = [await temporaryDirectory(), await temporaryDirectory()] as const;
  const targets = elsewhere.map((directory) => join(directory, 'target.yaml'));
  const [first = '', second = ''] = targets;
  for (const target of targets) writeFileSync(target, '0');
  const it = await watched({}, (directory) => symlink(first, join(directory, 'site.yaml')));
  writeFileSync(first, '1');
  await untilChanged(it, 1);
  await symlink(second, join(it.directory, 'link'));
  await rename(join(it.directory, 'link'), it.file);
  await untilChanged(it, 2);
  writeFileSync(second, '3');
  await untilChanged(it, 3);
});

test('what is written in pieces is one change, when it is complete', async () => {
  const it = await watched({ settleMs: 150 });
  for (const text of ['', 'a', 'ab', 'abc']) {
    writeFileSync(it.file, text);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  await untilChanged(it, 1);
  await expectNoMoreThan(it, 1);
});

test('what ends as it was before is no change', async () => {
  const it = await watched({ settleMs: 150 });
  writeFileSync(it.file, '');
  writeFileSync(it.file, '0');
  await expectNoMoreThan(it, 0);
});

test('what else happens in the directory is no change', async () => {
  const it = await watched();
  for (let time = 0; time < 20; time++) writeFileSync(join(it.directory, 'other.yaml'), String(time));
  await rm(join(it.directory, 'other.yaml'));
  await expectNoMoreThan(it, 0);
});

test('a file that is gone is a change, and so is its return', async () => {
  const it = await watched();
  await rm(it.file);
  await untilChanged(it, 1);
  writeFileSync(it.file, '0');
  await untilChanged(it, 2);
});

test('a file that was not there at first is seen', async () => {
  const it = await watched({}, async () => {});
  writeFileSync(it.file, '1');
  await untilChanged(it, 1);
});

test('a directory that cannot be watched is said once, and the file is polled', async () => {
  const it = await watched({
    pollMs: 50,
    watchDirectory: () => {
      throw new Error('ENOSPC: System limit for number of file watchers reached');
    },
  });
  expect(it.pollingOnly).toEqual([
    `${it.directory} can't be watched: ENOSPC: System limit for number of file watchers reached`,
  ]);
  writeFileSync(it.file, '1');
  await untilChanged(it, 1);
  await rename(it.file, join(it.directory, 'away'));
  await untilChanged(it, 2);
  expect(it.pollingOnly).toHaveLength(1);
});

test('a watch that breaks off later is said, and the file is polled', async () => {
  let reset: (error: Error) => void = () => {};
  const it = await watched({
    pollMs: 50,
    watchDirectory: () => ({ on: (_, listener) => (reset = listener), close: () => {} }),
  });
  reset(new Error('EIO'));
  expect(it.pollingOnly).toEqual([`${it.directory} can't be watched: EIO`]);
  writeFileSync(it.file, '1');
  await untilChanged(it, 1);
});

test('a file system that says nothing of a change is polled as well', async () => {
  const it = await watched({ pollMs: 50, watchDirectory: () => ({ on: () => {}, close: () => {} }) });
  writeFileSync(it.file, '1');
  await untilChanged(it, 1);
  expect(it.pollingOnly).toEqual([]);
});

test('nothing is said after the end', async () => {
  const directory = await temporaryDirectory();
  const file = join(directory, 'site.yaml');
  let changes = 0;
  const watch = await watchFile(file, { onChange: () => changes++, onPollingOnly: () => {}, settleMs: 30, pollMs: 20 });
  writeFileSync(file, '1');
  watch.close();
  writeFileSync(file, '2');
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(changes).toBe(0);
});
