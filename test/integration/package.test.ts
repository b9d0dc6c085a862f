import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { npmPack } from '../support/npm-pack.ts';
import { eastFile, startAdmin, writeSiteFile } from './site.ts';

/** What `npm pack` makes, installed where there is nothing else. */

const run = promisify(execFile);

let directory: string;
let command: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-package-'));
  const tarball = await npmPack(directory);
  await writeFile(join(directory, 'package.json'), '{ "private": true }');
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  await run('npm', ['install', ...options, tarball], { cwd: directory });
  command = join(directory, 'node_modules/.bin/site-persistence');
}, 120_000);
afterAll(async () => await rm(directory, { recursive: true, force: true }));

test('is built before it is packed', async () => {
  expect(JSON.parse(await readFile('package.json', 'utf8'))).toMatchObject({
    scripts: { prepack: 'npm run --silent build' },
  });
});

test('says its version, checks a config file and prints the Envoy config', async () => {
  const version = await run(command, ['--version']);
  expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  const check = await run(command, ['check', '--config', 'envoy/east.yaml']);
  expect(check.stdout).toContain('envoy/east.yaml is fine.');
  const envoy = await run(command, ['envoy', '--config', 'envoy/east.yaml']);
  expect(envoy.stdout).toBe(await readFile('envoy/east.envoy.yaml', 'utf8'));
});

test('has what its README and docs link to', async () => {
  const root = join(directory, 'node_modules/site-persistence');
  const pages = ['README.md', ...(await readdir(join(root, 'docs'))).map((name) => `docs/${name}`)];
  const missing: string[] = [];
  for (const page of pages.filter((name) => name.endsWith('.md'))) {
    for (const [, link = ''] of (await readFile(join(root, page), 'utf8')).matchAll(/\]\(([^)#\s]+)/g)) {
      if (!/^(https?|mailto):/.test(link) && !existsSync(join(root, dirname(page), link)))
        missing.push(`${page}: ${link}`);
    }
  }
  expect(missing).toEqual([]);
});

test('serves, with its status page', async () => {
  const file = await eastFile(await startAdmin());
  const serve = new ManagedProcess({
    name: 'packed serve',
    command,
    args: ['serve', '--config', await writeSiteFile(file)],
  });
  onTestFinished(async () => void (await serve.stop('SIGKILL')));
  await serve.waitForLine(/deciding on/);
  const page = await fetch(`http://${file.ops_listen}/`);
  expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
});
