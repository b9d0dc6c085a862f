import { spawn } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { stringify } from 'yaml';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { CLI } from '../../lab/site-processes.ts';
import { defaultConfigFile } from '../../src/config/default-file.ts';
import { freePorts } from '../support/free-ports.ts';
import { linesOf, runCli, startServe } from './cli-process.ts';
import { eastFile, parseLogLine, QUICK_HEALTH, startAdmin, temporaryDirectory, writeSiteFile } from './site.ts';

function messagesOf(serve: ManagedProcess): string[] {
  return serve.lines.map((line) => parseLogLine(line).message);
}

describe('reload', () => {
  test('finds every sidecar of the file, wherever its ops listener is and however the file was named', async () => {
    const file = await eastFile(await startAdmin());
    const path = await writeSiteFile(file);
    const directory = dirname(path);
    const [second] = await freePorts(1);
    const socket = `unix:${join(directory, 'ops.sock')}`;
    const first = await startServe(path);
    // By a name that only means something where it is run: the default.
    const other = new ManagedProcess({
      name: 'second',
      command: 'sh',
      args: [
        '-c',
        `cd ${directory} && exec ${process.execPath} ${CLI} serve --listen 127.0.0.1:${second} --ops-listen=${socket}`,
      ],
    });
    onTestFinished(async () => void (await other.stop('SIGKILL')));
    await other.waitForLine(/deciding on/);
    await startServe(await writeSiteFile(await eastFile(await startAdmin())));
    await mkdir(join(directory, 'links'));
    await symlink(path, join(directory, 'links/site.yaml'));
    await writeFile(path, stringify({ ...file, health: { ...QUICK_HEALTH, hold_up: '9s' } }));
    const { code, stdout, stderr } = await runCli(['reload', '--config', join(directory, 'links/site.yaml')]);
    expect([code, stderr]).toEqual([0, '']);
    expect(linesOf(stdout).toSorted()).toEqual(
      [
        `${file.ops_listen}: config reloaded: health.hold_up changed`,
        `${socket}: config reloaded: health.hold_up changed`,
      ].toSorted(),
    );
    expect(messagesOf(first)).toContain('config reloaded: health.hold_up changed');
    const one = await runCli(['reload', '--config', path, '--ops-listen', socket]);
    expect(one.stdout).toBe(`${socket}: config reloaded: nothing changed\n`);
  });

  test('a bad file is said at once, and no sidecar is asked', async () => {
    const path = await writeSiteFile(await eastFile(await startAdmin()));
    const serve = await startServe(path);
    await writeFile(path, 'site: east\nbogus: 1\n');
    const { code, stdout, stderr } = await runCli(['reload', '--config', path]);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/site\.yaml:2: bogus: unknown key/);
    expect(messagesOf(serve).join('\n')).not.toContain('reject');
  });

  test('what a sidecar rejects is an error', async () => {
    const file = await eastFile(await startAdmin());
    const path = await writeSiteFile(file);
    await startServe(path);
    const overlay = join(dirname(path), 'overlay.yaml');
    // Good YAML that only a renderer finds wrong.
    await writeFile(overlay, 'static_resources: { clusters: 5 }\n');
    const servers = ['127.0.0.1:1'];
    const [edge] = await freePorts(1);
    await writeFile(
      path,
      stringify({
        ...file,
        local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI', servers },
        remote_pools: [{ site: 'west', cluster: 'remote_pool', cookie: 'DDVHSLLQ', servers }],
        envoy: {
          ...Object(file.envoy),
          listen: `127.0.0.1:${edge}`,
          config_dir: join(dirname(path), 'envoy'),
          overlay: 'overlay.yaml',
        },
      }),
    );
    const { code, stdout, stderr } = await runCli(['reload', '--config', path]);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(`${file.ops_listen}: ${overlay}:1: static_resources.clusters: `);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test('a sidecar whose ops listener the file no longer names is sent SIGHUP', async () => {
    const file = await eastFile(await startAdmin());
    const path = await writeSiteFile(file);
    const serve = await startServe(path);
    const [other] = await freePorts(1);
    await writeFile(path, stringify({ ...file, ops_listen: `127.0.0.1:${other}`, both_cookies: 'local' }));
    const { code, stdout } = await runCli(['reload', '--config', path]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^process \d+: its ops listener does not answer .*: sent SIGHUP; its log says/);
    await serve.waitForLine(/config reloaded: ops_listen, both_cookies changed/);
  });

  test('with no sidecar it says where it looked', async () => {
    const file = await eastFile(await startAdmin());
    const { code, stderr } = await runCli(['reload', '--config', await writeSiteFile(file)]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^127\.0\.0\.1:\d+: no sidecar answers there \(ops_listen\): .*ECONNREFUSED/),
    ]);
  });

  test('others are answered meanwhile', async () => {
    const file = await eastFile(await startAdmin());
    const path = await writeSiteFile(file);
    await startServe(path);
    const fifo = join(dirname(path), 'fifo');
    await new Promise((resolve) => spawn('mkfifo', [fifo]).once('exit', resolve));
    await writeFile(path, stringify({ ...file, envoy: { ...Object(file.envoy), overlay: 'fifo' } }));
    const reloading = fetch(`http://${file.ops_listen}/reload`, { method: 'POST' });
    const live = await fetch(`http://${file.ops_listen}/livez`);
    expect(await live.text()).toBe('ok\n');
    const { status } = await reloading;
    expect(status).toBe(422);
  });
});

describe('status --ready --wait', () => {
  test('waits for a sidecar that is not there yet', async () => {
    const path = await writeSiteFile(await eastFile(await startAdmin()));
    const waiting = runCli(['status', '--ready', '--wait', '25s', '--config', path]);
    await startServe(path);
    expect(await waiting).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ready: /), stderr: '' });
  });

  test('says at the end why it is not ready', async () => {
    const file = await eastFile(await startAdmin());
    const { code, stderr } = await runCli([
      'status',
      '--ready',
      '--wait',
      '300ms',
      '--config',
      await writeSiteFile(file),
    ]);
    expect([code, stderr]).toEqual([1, expect.stringContaining('no sidecar answers at')]);
  });

  test.each([
    [['--wait', '5s'], '--wait: is for --ready: add it\n'],
    [['--ready', '--wait', 'soon'], '--wait: "soon" is not a duration'],
  ])('%j is wrong use', async (args, message) => {
    const { code, stderr } = await runCli(['status', ...args, '--config', 'envoy/east.yaml']);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  });
});

test('without --config site.yaml where the command is run comes before that of the system', async () => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, 'site.yaml'), '');
  expect(defaultConfigFile(directory)).toBe('site.yaml');
  const { stdout } = await runCli(['check', '--help']);
  expect(stdout.replace(/\s+/g, ' ')).toContain('(default: site.yaml, then /etc/site-persistence/site.yaml)');
});
