import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { stringify } from 'yaml';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { CLI } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { parseAddress } from '../../src/config/address.ts';
import { describeAdmin } from '../../src/envoy-admin/admin-client.ts';
import { siteStateSchema } from '../../src/ops/state.ts';
import type { FakeAdmin } from '../support/fake-admin.ts';
import { freePorts } from '../support/free-ports.ts';
import { linesOf, runCli, startServe } from './cli-process.ts';
import { ExtProcClient, requestHeaders, responseHeaders } from './ext-proc-client.ts';
import {
  EAST_COOKIE,
  eastFile,
  type LogLine,
  parseLogLine,
  QUICK_HEALTH,
  type SiteFile,
  startAdmin,
  temporaryDirectory,
  WEST_COOKIE,
  writeSiteFile,
} from './site.ts';

const west = { cookie: `${WEST_COOKIE}=1` };
const both = { cookie: `${EAST_COOKIE}=1; ${WEST_COOKIE}=2` };

/** A sidecar process for the running test, whose config file can be written anew. */
class Serving {
  readonly serve: ManagedProcess;
  readonly admin: FakeAdmin;
  readonly file: SiteFile;
  readonly path: string;

  private constructor(serve: ManagedProcess, admin: FakeAdmin, file: SiteFile, path: string) {
    this.serve = serve;
    this.admin = admin;
    this.file = file;
    this.path = path;
  }

  static async start(changes: SiteFile = {}, args: readonly string[] = []): Promise<Serving> {
    const admin = await startAdmin();
    const file = await eastFile(admin, changes);
    const path = await writeSiteFile(file);
    return new Serving(await startServe(path, { args }), admin, file, path);
  }

  get log(): LogLine[] {
    return this.logSince(0);
  }

  logSince(line: number): LogLine[] {
    return this.serve.lines.slice(line).map(parseLogLine);
  }

  client(listen = String(this.file.listen)): ExtProcClient {
    const client = new ExtProcClient(parseAddress(listen));
    onTestFinished(() => client.close());
    return client;
  }

  async state() {
    return siteStateSchema.parse(await (await fetch(`http://${this.file.ops_listen}/api/state`)).json());
  }

  async write(changes: SiteFile): Promise<void> {
    // In one go: between two steps the file would be empty, and seen so.
    writeFileSync(this.path, stringify({ ...this.file, ...changes }));
  }

  /** Waits until so many reloads were done or refused since `from`. @returns what is logged since, as `level message` */
  async reloads(count: number, from: number): Promise<string[]> {
    const lines = () => this.logSince(from).map(({ level, message }) => `${level} ${message}`);
    const ended = () => {
      const ends = lines().filter((line) => line.includes('config reloaded'));
      const refusals = lines().filter((line) => line.includes('file rejected'));
      const errors = refusals.map((line) => Number(/(\d+) error/.exec(line)?.[1]));
      const hasAllErrors =
        lines().filter((line) => /(site\.yaml|cookie\.key)(:\d+)?: /.test(line)).length ===
        errors.reduce((a, b) => a + b, 0);
      return hasAllErrors && ends.length + refusals.length >= count;
    };
    await waitUntil(ended, { what: `${count} reloads`, intervalMs: 5 });
    return lines();
  }

  /** Sends SIGHUP and waits for its reload. @returns what is logged of it first */
  async reload(changes?: SiteFile): Promise<string[]> {
    if (changes !== undefined) await this.write(changes);
    const from = this.serve.lines.length;
    this.serve.signal('SIGHUP');
    return await this.reloads(1, from);
  }
}

describe('SIGHUP', () => {
  test('puts the changed config in force for each call that begins after it, and says what changed', async () => {
    const serving = await Serving.start();
    const client = serving.client();
    expect((await client.decide(both)).decision).toBe('forward');
    const lines = await serving.reload({ both_cookies: 'local', status_uri: '/up' });
    expect(lines[0]).toBe('info config reloaded: status_uri, both_cookies changed');
    expect(serving.log.find(({ message }) => message.startsWith('config reloaded'))?.fields.changed).toEqual([
      'status_uri',
      'both_cookies',
    ]);
    expect((await client.decide(both)).decision).toBe('local');
    expect((await client.decide({ ':path': '/up' })).decision).toBe('status');
    expect((await client.decide({ ':path': '/local_pool_status' })).decision).toBe('local');
    await serving.serve.waitForLine(/Envoy's own config must change/);
  });

  test('with nothing changed says so', async () => {
    const serving = await Serving.start();
    expect(await serving.reload()).toEqual(['info config reloaded: nothing changed']);
    expect(await serving.reload()).toEqual(['info config reloaded: nothing changed']);
  });

  test('is counted, and among the last changes', async () => {
    const serving = await Serving.start();
    await serving.reload({ health: { hold_up: '9s' } });
    const isInForce = async () => {
      const metrics = await (await fetch(`http://${serving.file.ops_listen}/metrics`)).text();
      return /^site_persistence_config_last_reload_successful (\d)$/m.exec(metrics)?.[1];
    };
    expect(await isInForce()).toBe('1');
    await serving.reload({ both_cookies: 'both' });
    // The metrics are made once a second.
    await waitUntil(async () => (await isInForce()) === '0', {
      what: 'the metrics to say that the file is not in force',
    });
    await serving.reload({ health: { hold_up: '9s' } });
    await waitUntil(async () => (await isInForce()) === '1', { what: 'the metrics to say that it is' });
    expect((await serving.state()).changes.slice(0, 3).map(({ level, message }) => `${level} ${message}`)).toEqual([
      'info config reloaded: nothing changed',
      'error config file rejected, the old config stays: 1 error',
      expect.stringMatching(/^info config reloaded: .*health\.hold_up changed$/),
    ]);
    const metrics = await (await fetch(`http://${serving.file.ops_listen}/metrics`)).text();
    expect(metrics).toContain('site_persistence_config_reloads_total{result="ok"} 2');
    expect(metrics).toContain('site_persistence_config_reloads_total{result="rejected"} 1');
  });

  test('with a bad file says what check says of it, and the old config stays', async () => {
    const serving = await Serving.start();
    await serving.write({ on_owner_down: 'sometimes', health: { hold_up: 5 } });
    const { code, stderr } = await runCli(['check', '--config', serving.path]);
    expect(code).toBe(2);
    expect(await serving.reload()).toEqual([
      'error config file rejected, the old config stays: 2 errors',
      ...linesOf(stderr).map((line) => `error ${line}`),
    ]);
    expect(stderr).toMatch(/site\.yaml:\d+: on_owner_down: "sometimes" must be one of/);
    expect((await serving.client().decide(both)).decision).toBe('forward');

    expect((await serving.reload({ both_cookies: 'local' }))[0]).toBe('info config reloaded: both_cookies changed');
    expect((await serving.client().decide(both)).decision).toBe('local');
  });

  test('with a file that is gone says so, and the old config stays', async () => {
    const serving = await Serving.start();
    await rename(serving.path, `${serving.path}.away`);
    expect(await serving.reload()).toEqual([
      'error config file rejected, the old config stays: 1 error',
      `error ${serving.path}: no such file: name the config file with --config FILE`,
    ]);
    expect((await serving.client().decide(west)).decision).toBe('forward');
  });

  test('lets a call that began before it end by the config it began with', async () => {
    const serving = await Serving.start();
    const call = serving.client().open();
    call.send(requestHeaders({ 'x-site-hop': 'west', ...west }));
    expect((await call.reply(0)).wantsResponseHeaders).toBe(true);
    await serving.reload({
      remote_pools: [{ site: 'north', cluster: 'remote_pool', cookie: 'NORTH' }],
      on_owner_down: 'keep',
    });
    call.send(responseHeaders({ ':status': '200', 'x-envoy-upstream-service-time': '1' }));
    const [expired] = (await call.reply(1)).setHeaders;
    expect(expired?.value).toMatch(new RegExp(`^${WEST_COOKIE}=; Path=/app`));
    expect((await call.ended).code).toBe(status.OK);
  });

  test('again and again under load loses no call, and no decision is unknown', async () => {
    const serving = await Serving.start();
    const changes: SiteFile[] = [
      { both_cookies: 'local' },
      { health: { ...QUICK_HEALTH, poll_interval: '30ms', hold_up: '10s' } },
      { local_pool: { cluster: 'local_pool', cookie: EAST_COOKIE, min_up: 2 } },
      { on_owner_down: 'keep', remote_pools: [...[serving.file.remote_pools].flat()].reverse() },
      {},
    ];
    let isStopping = false;
    const decisions = new Map<string, number>();
    const clients = Array.from({ length: 8 }, async () => {
      const client = serving.client();
      while (!isStopping) {
        const { decision = 'none' } = await client.decide(both);
        decisions.set(decision, (decisions.get(decision) ?? 0) + 1);
      }
    });
    for (let time = 0; time < 15; time++) await serving.reload(changes[time % changes.length]);
    isStopping = true;
    await Promise.all(clients);
    expect([...decisions.keys()].sort()).toEqual(['forward', 'local']);
    expect(Math.min(...decisions.values())).toBeGreaterThan(10);
  });

  test('twice at once reloads what is there at the end', async () => {
    const serving = await Serving.start();
    const from = serving.serve.lines.length;
    await serving.write({ both_cookies: 'local' });
    for (let time = 0; time < 5; time++) serving.serve.signal('SIGHUP');
    await serving.write({ both_cookies: 'local', on_owner_down: 'keep' });
    serving.serve.signal('SIGHUP');
    await waitUntil(async () => (await serving.client().decide(both)).decision === 'local', { what: 'the change' });
    await serving.reload();
    const reloads = serving.logSince(from).filter(({ message }) => message.startsWith('config reloaded: '));
    expect(reloads.at(-1)?.message).toBe('config reloaded: nothing changed');
    expect(reloads.length).toBeLessThanOrEqual(7);
  });

  test('names a changed address, which takes a restart, and puts the rest in force', async () => {
    const serving = await Serving.start();
    const [listen, ops] = await freePorts(2);
    const lines = await serving.reload({
      listen: `127.0.0.1:${listen}`,
      ops_listen: `127.0.0.1:${ops}`,
      both_cookies: 'local',
    });
    expect(lines[0]).toMatch(/^info config reloaded: listen, ops_listen, envoy.sidecars, both_cookies changed/);
    await serving.serve.waitForLine(
      new RegExp(`\\bops_listen is now 127.0.0.1:${ops} in the config: restart to apply it`),
    );
    expect(serving.log.map(({ level, message }) => `${level} ${message}`)).toContain(
      `warn listen is now 127.0.0.1:${listen} in the config: restart to apply it, until then it stays ${serving.file.listen}`,
    );
    expect((await serving.client().decide(both)).decision).toBe('local');
    expect((await serving.state()).site).toBe('east');
  });

  test('leaves --listen and --ops-listen in force, whatever the file says', async () => {
    const [listen, ops, other] = await freePorts(3);
    const args = ['--listen', `127.0.0.1:${listen}`, '--ops-listen', `127.0.0.1:${ops}`];
    const serving = await Serving.start({}, args);
    const lines = await serving.reload({ ops_listen: `127.0.0.1:${other}`, both_cookies: 'local' });
    expect(lines[0]).toBe('info config reloaded: both_cookies changed');
    expect((await serving.client(`127.0.0.1:${listen}`).decide(both)).decision).toBe('local');
    expect(serving.log.some(({ message }) => message.includes('restart'))).toBe(false);
  });

  test('leaves a drain as it is', async () => {
    const serving = await Serving.start();
    await fetch(`http://${serving.file.ops_listen}/drain?for=30m`, { method: 'POST' });
    const before = await serving.state();
    await serving.reload({ site: 'orient', health: { ...QUICK_HEALTH, hold_up: '5s' } });
    const after = await serving.state();
    expect(after).toMatchObject({
      site: 'orient',
      draining: true,
      draining_since: before.draining_since,
      draining_until: before.draining_until,
    });
    expect((await serving.client().decide({ ':path': '/local_pool_status' })).status).toBe(503);
    await fetch(`http://${serving.file.ops_listen}/undrain`, { method: 'POST' });
    await serving.serve.waitForLine(/site orient is no longer draining/);
  });

  test('before the sidecar serves does not end it', async () => {
    const admin = await startAdmin();
    const file = stringify(await eastFile(admin));
    const fifo = join(await temporaryDirectory(), 'site.yaml');
    await promisify(execFile)('mkfifo', [fifo]);
    const serve = new ManagedProcess({
      name: 'serve',
      command: process.execPath,
      args: [CLI, 'serve', '--config', fifo],
    });
    onTestFinished(async () => void (await serve.stop('SIGKILL')));
    // The first signal as soon as there is a handler for it, then some in each stage of the start.
    await waitUntil(async () => await catchesHangup(serve), { what: 'a handler of SIGHUP', intervalMs: 1 });
    serve.signal('SIGHUP');
    const written = writeFile(fifo, file);
    await waitUntil(
      () => {
        serve.signal('SIGHUP');
        return admin.requests.length > 0 || serve.hasEnded;
      },
      { what: 'the first poll', intervalMs: 20 },
    );
    await written;
    await serve.waitForLine(/deciding on/);
    // Whatever was asked for before it served is done then.
    await writeFile(fifo, file);
    await serve.waitForLine(/config reloaded: nothing changed/);
  });

  test('during a stop does nothing', async () => {
    const serving = await Serving.start();
    const call = serving.client().open();
    call.send(requestHeaders({ 'x-site-hop': 'west', ...west }));
    await call.reply(0);
    serving.serve.signal('SIGTERM');
    await serving.serve.waitForLine(/stopping/);
    await serving.write({ both_cookies: 'local' });
    serving.serve.signal('SIGHUP');
    call.send(responseHeaders({ ':status': '200' }));
    expect((await serving.serve.ended).code).toBe(0);
    expect(serving.log.some(({ message }) => message.includes('reloaded'))).toBe(false);
  });

  test('is followed by a stop that is quick, though the new Envoy does not answer', async () => {
    const serving = await Serving.start();
    const silent = await startAdmin();
    silent.mood = 'silent';
    await serving.write({ envoy: { admin: `http://127.0.0.1:${portOf(silent)}` } });
    serving.serve.signal('SIGHUP');
    await waitUntil(() => silent.inFlight === 1, { what: 'the first poll of the new Envoy' });
    const from = performance.now();
    serving.serve.signal('SIGTERM');
    expect((await serving.serve.ended).code).toBe(0);
    expect(performance.now() - from).toBeLessThan(3_000);
    expect(serving.log.some(({ message }) => message.includes('reloaded'))).toBe(false);
  });
});

function portOf({ address }: FakeAdmin): number {
  return address.kind === 'tcp' ? address.port : 0;
}

/** Whether the process has a handler of SIGHUP, see proc(5). */
async function catchesHangup({ pid }: ManagedProcess): Promise<boolean> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(text)?.[1] ?? '0';
  return (BigInt(`0x${caught}`) & 1n) === 1n;
}

describe('health across a reload', () => {
  test('stays known with other pools, until the new ones are: calls are decided all the time', async () => {
    const serving = await Serving.start();
    serving.admin.setPool('north_pool', ['up']);
    serving.admin.mood = 'slow';
    serving.admin.slowMs = 150;
    let isStopping = false;
    const decisions = new Set<string | undefined>();
    const client = serving.client();
    const asking = (async () => {
      while (!isStopping) decisions.add((await client.decide({ cookie: 'NORTH=1' })).decision);
    })();
    const north = { site: 'north', cluster: 'north_pool', cookie: 'NORTH' };
    const lines = await serving.reload({ remote_pools: [...[serving.file.remote_pools].flat(), north] });
    isStopping = true;
    await asking;
    expect((await client.decide({ cookie: 'NORTH=1' })).decision).toBe('forward');
    expect([...decisions].filter((decision) => decision !== 'forward')).toEqual(['local']);
    expect(lines).toContain('info config reloaded: remote_pools changed');
    expect(lines).toContain('info pool north_pool (north) is up: 1 of 1 servers up');
    // What has not changed is not said again.
    expect(lines.filter((line) => line.includes('pool local_pool'))).toEqual([]);
  });

  test('a pool that is up stays up with a hold_up, and one that is held back is held on', async () => {
    const serving = await Serving.start({ health: { ...QUICK_HEALTH, hold_up: '60s' } });
    serving.admin.setPool('remote_pool', ['failed health check']);
    await serving.serve.waitForLine(/remote_pool \(west\) is down: 0 of 1/);
    serving.admin.setPool('remote_pool', ['up']);
    await serving.serve.waitForLine(/remote_pool \(west\) is down: 1 of 1 servers up, held back/);
    await serving.reload({ health: { ...QUICK_HEALTH, hold_up: '50s' } });
    const polls = serving.admin.requests.length;
    await waitUntil(() => serving.admin.requests.length > polls + 3, { what: 'a few polls' });
    expect((await serving.state()).pools.map(({ up, held_up }) => [up, held_up])).toEqual([
      [true, false],
      [false, true],
    ]);
    await serving.reload({ health: { ...QUICK_HEALTH, hold_up: '0s' } });
    expect((await serving.state()).pools.map(({ up }) => up)).toEqual([true, true]);
    await serving.reload({ health: { ...QUICK_HEALTH, hold_up: '60s' } });
    expect((await serving.state()).pools.map(({ up }) => up)).toEqual([true, true]);
  });

  test('says of a pool that comes or goes with min_up alone', async () => {
    const serving = await Serving.start();
    const localPool = (min_up: number) => ({ cluster: 'local_pool', cookie: EAST_COOKIE, min_up });
    const lines = await serving.reload({ local_pool: localPool(3) });
    expect(lines).toContain('warn pool local_pool (east) is down: 2 of 2 servers up, min_up 3');
    expect((await serving.client().decide({})).decision).toBe('failover');
    expect(await serving.reload({ local_pool: localPool(2) })).toContain(
      'info pool local_pool (east) is up: 2 of 2 servers up, min_up 2',
    );
    expect((await serving.client().decide({})).decision).toBe('local');
  });

  test('is known of an Envoy that hangs, for as long as it was', async () => {
    const serving = await Serving.start();
    serving.admin.mood = 'silent';
    await serving.reload({ health: { poll_interval: '50ms', stale_after: '4s' } });
    expect((await serving.state()).health_known).toBe(true);
  });

  test('is that of another Envoy where the admin address changed', async () => {
    const serving = await Serving.start();
    const other = await startAdmin();
    other.setPool('local_pool', ['failed health check', 'failed health check']);
    await serving.reload({ envoy: { admin: `http://127.0.0.1:${portOf(other)}` } });
    expect((await serving.client().decide({})).decision).toBe('failover');
    const polls = serving.admin.requests.length;
    await other.waitForRequests(5);
    expect(serving.admin.requests.length).toBe(polls);
  });

  test('is asked for once where nothing of it changed', async () => {
    const serving = await Serving.start({ health: { poll_interval: '200ms', stale_after: '4s' } });
    for (let time = 0; time < 4; time++) await serving.reload({ both_cookies: time % 2 === 0 ? 'local' : 'remote' });
    await serving.admin.waitForRequests(6);
    expect(serving.admin.maxInFlight).toBe(1);
  });
});

describe('the fast path across a reload', () => {
  const key = 'site_persistence.default.east';
  const asking = (serving: Serving) => ({ ...Object(serving.file.envoy), fast_path: false });

  test('is switched off and on with its key of the config, at once', async () => {
    const serving = await Serving.start();
    await waitUntil(() => serving.admin.runtime.get(key) === '100', { what: 'the fast path to be on' });
    expect((await serving.state()).fast_path).toBe('on');
    await serving.reload({ envoy: asking(serving) });
    await waitUntil(() => serving.admin.runtime.get(key) === '0', { what: 'the fast path to be off' });
    expect((await serving.state()).fast_path).toBe('unused');
    await serving.reload({});
    await waitUntil(() => serving.admin.runtime.get(key) === '100', { what: 'the fast path to be on again' });
  });

  test('stays on where nothing of it changed', async () => {
    const serving = await Serving.start();
    await waitUntil(() => serving.admin.runtime.get(key) === '100', { what: 'the fast path to be on' });
    const sets = () => serving.admin.requests.filter((request) => request.startsWith('/runtime_modify')).length;
    const before = sets();
    await serving.reload({ health: { ...QUICK_HEALTH, hold_up: '5s' } });
    await serving.admin.waitForRequests(5);
    expect([sets(), serving.admin.runtime.get(key)]).toEqual([before, '100']);
  });
});

describe('serve --watch', () => {
  test('reloads a file that is written to, and one that another takes the place of', async () => {
    const serving = await Serving.start({}, ['--watch']);
    const from = serving.serve.lines.length;
    await serving.write({ both_cookies: 'local' });
    expect((await serving.reloads(1, from))[0]).toBe('info config reloaded: both_cookies changed');
    await writeFile(`${serving.path}.new`, stringify({ ...serving.file, on_owner_down: 'keep' }));
    await rename(`${serving.path}.new`, serving.path);
    expect(await serving.reloads(2, from)).toContain('info config reloaded: on_owner_down, both_cookies changed');
    expect((await serving.client().decide(both)).decision).toBe('forward');
  });

  test('reloads a ConfigMap when its ..data leads elsewhere', async () => {
    const serving = await Serving.start();
    const mount = join(dirname(serving.path), 'mount');
    async function publish(version: string, changes: SiteFile): Promise<void> {
      await mkdir(join(mount, `..${version}`), { recursive: true });
      await writeFile(join(mount, `..${version}`, 'site.yaml'), stringify({ ...serving.file, ...changes }));
      await symlink(`..${version}`, join(mount, '..data_tmp'));
      await rename(join(mount, '..data_tmp'), join(mount, '..data'));
    }
    await publish('1', {});
    await symlink('..data/site.yaml', join(mount, 'site.yaml'));
    const [listen, ops] = await freePorts(2);
    const watching = await startServe(join(mount, 'site.yaml'), {
      args: ['--watch', '--listen', `127.0.0.1:${listen}`, '--ops-listen', `127.0.0.1:${ops}`],
    });
    await publish('2', { both_cookies: 'local' });
    await watching.waitForLine(/config reloaded: both_cookies changed/);
    await publish('3', {});
    await waitUntil(() => watching.lines.filter((line) => line.includes('config reloaded')).length === 2, {
      what: 'the second reload',
    });
    // The process that does not watch has seen nothing.
    expect(serving.log.some(({ message }) => message.includes('reloaded'))).toBe(false);
  });

  test('reloads an overlay that is written to, and after a reload the one that the file then names', async () => {
    const overlay = (name: string, version: number) =>
      writeFile(join(dirname(serving.path), name), `node: { metadata: { version: ${version} } }\n`);
    const serving = await Serving.start({}, ['--watch']);
    const from = serving.serve.lines.length;
    const envoy = (name: string) => ({ envoy: { admin: describeAdmin(serving.admin.address), overlay: name } });
    await overlay('one.yaml', 1);
    await overlay('two.yaml', 1);
    await serving.write(envoy('one.yaml'));
    await serving.reloads(1, from);
    await overlay('one.yaml', 2);
    await serving.reloads(2, from);
    await serving.write(envoy('two.yaml'));
    await serving.reloads(3, from);
    await overlay('one.yaml', 3);
    await overlay('two.yaml', 2);
    const lines = await serving.reloads(4, from);
    expect(lines.filter((line) => line.includes('config reloaded'))).toEqual(
      Array(4).fill('info config reloaded: envoy.overlay changed'),
    );
  });

  test('reloads a key file that is written to, and keeps the old keys where the new ones are none', async () => {
    const serving = await Serving.start({}, ['--watch']);
    const keys = (text: string) => writeFile(join(dirname(serving.path), 'cookie.key'), text);
    const from = serving.serve.lines.length;
    await keys(`${'a'.repeat(32)}\n`);
    const cookie = { name: 'KVAAVROI', opaque: { key_file: 'cookie.key' } };
    await serving.write({ local_pool: { cluster: 'local_pool', cookie, servers: ['127.0.0.1:1'] } });
    await serving.reloads(1, from);
    await keys(`${'b'.repeat(32)}\n${'a'.repeat(32)}\n`);
    const lines = await serving.reloads(2, from);
    expect(lines).toContain('info config reloaded: local_pool.cookie.opaque.key_file changed');
    await keys('secret\n');
    expect((await serving.reloads(3, from)).join('\n')).toMatch(/cookie\.key:1: is too short/);
    expect(serving.log.map(({ message }) => message).join('\n')).not.toMatch(/secret|aaaa|bbbb/);
  });

  test('says once what is wrong with a file, and takes the fixed one', async () => {
    const serving = await Serving.start({}, ['--watch']);
    const from = serving.serve.lines.length;
    await serving.write({ bogus: 1 });
    await serving.reloads(1, from);
    await serving.write({ health: { hold_up: '9s' } });
    const lines = await serving.reloads(2, from);
    expect(lines).toEqual([
      'error config file rejected, the old config stays: 1 error',
      expect.stringMatching(/^error .*site\.yaml:\d+: bogus: unknown key/),
      expect.stringMatching(/^info config reloaded: .*health\.hold_up changed$/),
    ]);
  });
});
