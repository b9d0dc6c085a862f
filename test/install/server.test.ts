import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { DEFAULT_ENVOY_VERSION, fetchEnvoy } from '../../lab/envoy-binary.ts';
import type { ManagedProcess } from '../../lab/managed-process.ts';
import { startAppServer } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client, serverOf } from '../support/client.ts';
import { freePorts } from '../support/free-ports.ts';
import { Load } from '../support/load.ts';
import { npmPack } from '../support/npm-pack.ts';
import { CleanDebian, whyNoDebian } from './clean-debian.ts';

const SIDECARS = ['site-persistence@1', 'site-persistence@2'] as const;
const ENVOY = 'site-persistence-envoy';
const CONFIG = '/etc/site-persistence/site.yaml';

/** As docs/install.md says: as much as this, out of ten, and no more. */
const EXPOSURE = { 'site-persistence@1': '1.3', 'site-persistence@2': '1.3', [ENVOY]: '1.7' };

/** How long making the Debian may take, the first time and on a busy machine. */
const MAKE_MS = 900_000;

const reason = await whyNoDebian();
if (reason === null) describe('a server by docs/install.md', testServer);
else if (process.env.CI === undefined) test.skip(`a server by docs/install.md: ${reason}`, () => {});
else throw new Error(reason);

/** The tests follow each other on one server. */
function testServer(): void {
  let debian: CleanDebian;
  let edge: string;
  /** Ports of loopback but for their last digit, which is the number of a sidecar. */
  let metrics: string;
  let ports: readonly number[];
  let before: readonly string[];
  const apps = new Map<string, ManagedProcess>();

  beforeAll(async () => {
    ports = await freePorts(5);
    edge = `http://127.0.0.1:${ports[0]}`;
    metrics = await freeDecade();
    for (const name of ['app-1', 'app-2', 'app-3']) await startApp(name);
    apps.set('west', await startAppServer({ site: 'west', server: 'app-1', port: port(4) }));
    debian = await CleanDebian.boot({ envoy: await fetchEnvoy(DEFAULT_ENVOY_VERSION) });
    before = await filesOf(debian);
    await putPackage(debian.root);
  }, MAKE_MS);
  afterAll(async () => {
    await debian.close();
    await Promise.all([...apps.values()].map((app) => app.stop()));
  });
  afterEach(async ({ task }) => {
    if (task.result?.state !== 'fail') return;
    const journal = 'journalctl --no-pager --lines=2000 --output=cat';
    // Without the access log.
    process.stderr.write(await debian.run(`${journal} | grep --invert-match request_id | tail --lines=60`));
  });

  function port(index: number): number {
    return ports[index] ?? 0;
  }

  async function startApp(name: string): Promise<void> {
    apps.set(name, await startAppServer({ site: 'east', server: name, port: port(Number(name.slice(4))) }));
  }

  /** The config file of the package, with this site's addresses. */
  async function writeConfig(...servers: number[]): Promise<void> {
    const example = await readFile('deploy/systemd/site.yaml', 'utf8');
    const addresses = servers.map((index) => `127.0.0.1:${port(index)}`).join(', ');
    const text = example
      .replace('10.0.0.11:8080, 10.0.0.12:8080', addresses)
      .replace('192.0.2.20:8080', `127.0.0.1:${port(4)}`)
      .replace('0.0.0.0:8080', `127.0.0.1:${port(0)}`);
    await debian.write(CONFIG, text);
  }

  /** Runs the commands below a heading of the page as they stand there. */
  async function follow(heading: string): Promise<string> {
    return await debian.run((await commandsBelow(heading)).replace('127.0.0.1:910', `127.0.0.1:${metrics}`));
  }

  async function property(unit: string, name: string): Promise<string> {
    return (await debian.run(`systemctl show --property=${name} --value ${unit}`)).trim();
  }

  test('the package installs a command that works, and units that systemd finds nothing wrong with', async () => {
    await follow('The package and its units');
    expect(await debian.run('site-persistence --version')).toMatch(/^\d+\.\d+\.\d+\n$/);
    const units = Object.keys(EXPOSURE).map((unit) => `${unit}.service`);
    const { code, stdout, stderr } = await debian.try(`systemd-analyze verify ${units.join(' ')}`);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: '' });
    for (const [unit, exposure] of Object.entries(EXPOSURE)) {
      const threshold = Math.round(Number(exposure) * 10);
      const said = await debian.run(`systemd-analyze security --offline=true --threshold=${threshold} ${unit}.service`);
      expect(/exposure level for (?:.*): ([\d.]+)/.exec(said)?.[1], unit).toBe(exposure);
    }
  });

  test('bash completes the command, by the package bash-completion and without it', async () => {
    expect(await debian.run('. /usr/share/bash-completion/bash_completion; complete -p site-persistence')).toContain(
      '_site_persistence',
    );
    expect(await debian.run('. /etc/bash_completion.d/site-persistence; complete -p site-persistence')).toContain(
      '_site_persistence',
    );
  });

  test('starts an Envoy and two sidecars that decide, each under its own user', async () => {
    await follow('Users and directories');
    await writeConfig(1, 2);
    const doctor = await follow('The config and the start');
    expect(doctor).not.toMatch(/WRONG/);
    for (const [unit, user] of [...SIDECARS.map((each) => [each, 'site-persistence']), [ENVOY, 'envoy']]) {
      expect(await property(unit ?? '', 'ActiveState')).toBe('active');
      const main = await property(unit ?? '', 'MainPID');
      expect((await debian.run(`stat --format='%U %G' /proc/${main}`)).trim(), unit).toBe(`${user} envoy`);
    }
    for (const unit of SIDECARS) {
      const ops = `unix:/run/site-persistence/${unit.at(-1)}/ops.sock`;
      expect(await debian.run(`site-persistence status --ready --ops-listen ${ops}`)).toContain('ready');
    }
    const client = new Client();
    const first = await client.ask(edge);
    expect(first.site).toBe('east');
    expect(serverOf(await client.ask(edge))).toBe(serverOf(first));
    client.close();
  });

  test('nobody but root and the group of the two can reach the sockets', async () => {
    await debian.run('useradd --system stranger');
    for (const socket of ['/run/site-persistence/1/ops.sock', '/run/envoy/admin.sock']) {
      const { code } = await debian.try(`runuser -u stranger -- test -w ${socket}`);
      expect(code).toBe(1);
      await debian.run(`runuser -u envoy -- test -w ${socket} && runuser -u site-persistence -- test -w ${socket}`);
    }
    await debian.run('userdel stranger');
  });

  test('another site serves when the pool is down', async () => {
    const client = new Client();
    await client.ask(edge);
    await Promise.all(['app-1', 'app-2'].map((name) => apps.get(name)?.stop('SIGKILL')));
    await waitUntil(async () => (await client.request(edge)).status === 200, { what: 'another site to serve' });
    expect((await client.ask(edge)).site).toBe('west');
    // A sidecar asks such a server itself.
    const isExplained = async () => (await debian.run('site-persistence status')).includes('connection refused');
    await waitUntil(isExplained, { what: 'the reason of the failed health checks' });
    await Promise.all(['app-1', 'app-2'].map(startApp));
    client.close();
    await waitUntil(isSteady, { what: 'the pool to serve alone again' });
  });

  /** All servers are up, for the sidecars and each of Envoy's clusters: no new session goes elsewhere. */
  async function isSteady(): Promise<boolean> {
    if (!(await debian.run('site-persistence status')).includes('2 of 2 servers up')) return false;
    for (let turn = 0; turn < 20; turn++) {
      const client = new Client();
      const { site } = await client.ask(edge);
      client.close();
      if (site !== 'east') return false;
    }
    return true;
  }

  test('a server more takes requests after a reload, and a bad config is refused', async () => {
    const load = await Load.start({ homes: [edge], edges: [edge] });
    await writeConfig(1, 2, 3);
    expect(await follow('After an edit')).toContain('local_pool.servers');
    await waitUntilServes('east/app-3');
    const good = await debian.read(CONFIG);
    await debian.write(CONFIG, good.replace('local_pool:', 'no_such_key:'));
    const refused = await debian.try('site-persistence reload');
    expect([refused.code, refused.stderr + refused.stdout]).toEqual([2, expect.stringContaining('no_such_key')]);
    for (const unit of SIDECARS) expect((await debian.try(`systemctl reload ${unit}`)).code).toBe(1);
    await debian.write(CONFIG, good);
    await debian.run("systemctl reload 'site-persistence@*'");
    for (const unit of SIDECARS) expect(await property(unit, 'NRestarts')).toBe('0');
    expect(await load.stop()).toMatchObject({ lost: 0, moved: 0, losses: [] });
  });

  async function waitUntilServes(server: string): Promise<void> {
    const serves = async () => {
      const client = new Client();
      const answer = await client.ask(edge);
      client.close();
      return serverOf(answer) === server;
    };
    await waitUntil(serves, { what: `a request at ${server}` });
  }

  test('a sidecar that is killed is started again, and an upgrade loses nothing', async () => {
    const load = await Load.start({ homes: [edge], edges: [edge] });
    await debian.run(`kill -KILL ${await property(SIDECARS[0], 'MainPID')}`);
    const isBack = async () =>
      (await property(SIDECARS[0], 'NRestarts')) === '1' && (await property(SIDECARS[0], 'ActiveState')) === 'active';
    await waitUntil(isBack, { what: 'the killed sidecar to be active again' });
    await follow('The package and its units');
    await follow('An upgrade');
    for (const unit of SIDECARS) expect(await property(unit, 'ActiveState')).toBe('active');
    expect(await load.stop()).toMatchObject({ lost: 0, moved: 0, losses: [] });
  });

  test('a hot restart of Envoy loses no request, also when another is asked for meanwhile', async () => {
    await debian.run(
      `mkdir -p /etc/systemd/system/${ENVOY}.service.d
      printf '[Service]\\nEnvironment=DRAIN_S=3 END_S=5\\n' > /etc/systemd/system/${ENVOY}.service.d/times.conf
      systemctl daemon-reload && systemctl restart ${ENVOY}`,
    );
    await waitUntilUp();
    const main = await property(ENVOY, 'MainPID');
    const request = { method: 'POST', body: 'x' };
    const load = await Load.start({ homes: [edge], edges: [edge], clients: 16, request });
    // The commands of the first reload are those of the page.
    await debian.run(await commandsBelow('After an edit', 1));
    await debian.run(`systemctl reload ${ENVOY}`);
    await waitUntil(async () => (await epochs()).join() === '2', { what: 'the third Envoy to be alone' });
    await load.during(500);
    const report = await load.stop();
    process.stdout.write(`two hot restarts: ${report.requests} POST requests, ${report.lost} lost\n`);
    expect(report).toMatchObject({ lost: 0, moved: 0, losses: [] });
    expect(await property(ENVOY, 'MainPID')).toBe(main);
    for (const unit of SIDECARS) expect(await property(unit, 'ActiveState')).toBe('active');
  });

  async function waitUntilUp(): Promise<void> {
    await waitUntil(async () => (await statusOf(edge)) === 200, { what: 'Envoy to serve' });
  }

  /** Of the Envoys that run. */
  async function epochs(): Promise<string[]> {
    // Its exit code is about whether the unit is active.
    const { stdout } = await debian.try(`systemctl status --no-pager --lines=0 --full ${ENVOY}`);
    return [...stdout.matchAll(/envoy -c .* --restart-epoch (\d+)/g)].map(([, epoch = '']) => epoch);
  }

  test('a bootstrap that Envoy does not take fails the reload, and Envoy goes on', async () => {
    const bootstrap = await debian.read('/etc/envoy/envoy.yaml');
    await debian.write('/etc/envoy/envoy.yaml', `no_such_field: true\n${bootstrap}`);
    expect((await debian.try(`systemctl reload ${ENVOY}`)).code).toBe(1);
    expect(await epochs()).toEqual(['2']);
    await debian.write('/etc/envoy/envoy.yaml', bootstrap);
    expect(await statusOf(edge)).toBe(200);
  });

  test('an Envoy that is killed is started anew', async () => {
    const main = await property(ENVOY, 'MainPID');
    await debian.run(`kill -KILL $(cat /proc/${main}/task/${main}/children)`);
    await waitUntil(async () => (await epochs()).join() === '0', { what: 'a first Envoy' });
    await waitUntilUp();
  });

  test('all serve again by themselves after a power cut', async () => {
    await debian.powerCycle();
    for (const unit of [ENVOY, ...SIDECARS]) {
      await waitUntil(async () => (await property(unit, 'ActiveState')) === 'active', { what: `${unit} to be active` });
    }
    await waitUntilUp();
  });

  test('the status page at its socket, and metrics at a port of each sidecar', async () => {
    const script = "require('http').get({ socketPath: '/run/site-persistence/1/ops.sock', host: 'localhost' })";
    const status = `${script}.on('response', (answer) => { console.log(answer.statusCode); answer.resume(); })`;
    expect(await debian.run(`node --eval "${status}"`)).toBe('200\n');
    await follow('The status page and metrics');
    for (const sidecar of [1, 2]) {
      const answer = await fetch(`http://127.0.0.1:${metrics}${sidecar}/metrics`);
      expect(await answer.text()).toContain('site_persistence_decisions_total');
    }
  });

  test('is removed without a trace', async () => {
    await follow('Remove');
    const ignored =
      /^\/(?:root|etc\/(?:passwd|group|shadow|gshadow|subuid|subgid)-|etc\/\.pwd\.lock|var\/lib\/systemd)/;
    const left = (await filesOf(debian)).filter((path) => !before.includes(path) && !ignored.test(path));
    expect(left.filter((path) => !path.startsWith('/run/') || /envoy|site-persistence/.test(path))).toEqual([]);
    expect(await debian.run('grep --extended-regexp "envoy|site-persistence" /etc/passwd /etc/group || true')).toBe('');
    expect((await debian.try('command -v site-persistence')).code).toBe(1);
  });
}

async function putPackage(root: string): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-package-'));
  try {
    const tarball = await npmPack(directory);
    await cp(tarball, join(root, 'root', basename(tarball)));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** A block of commands below a heading of docs/install.md. */
async function commandsBelow(heading: string, index = 0): Promise<string> {
  const page = await readFile('docs/install.md', 'utf8');
  const section = page.split(/^#+ /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';
  const block = [...section.matchAll(/^```sh\n([\s\S]*?)^```$/gm)][index]?.[1];
  if (block === undefined) throw new Error(`docs/install.md has no block ${index} of commands below "${heading}"`);
  return block;
}

/** Such as `1230`, where ports 12301 and 12302 are free. */
async function freeDecade(): Promise<string> {
  const ports = await freePorts(30);
  const first = ports.find((port) => port % 10 === 1 && ports.includes(port + 1));
  if (first === undefined) throw new Error('no ports that differ in their last digit alone are free');
  return String(Math.floor(first / 10));
}

async function filesOf(debian: CleanDebian): Promise<string[]> {
  const files = await debian.run('find / -xdev -path /proc -prune -o -print; find /run -print; find /dev/shm -print');
  return files.split('\n').filter((path) => !path.startsWith('/tmp/') && !path.startsWith('/var/log/'));
}

async function statusOf(edge: string): Promise<number> {
  const answer = await fetch(`${edge}/local_pool_status`, { signal: AbortSignal.timeout(5_000) }).catch(() => null);
  await answer?.text();
  return answer?.status ?? 0;
}
