import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { startAppServer } from '../../lab/site-processes.ts';
import { HOST_NAME, TestCa } from '../support/certificates.ts';
import { Client } from '../support/client.ts';
import { runDoctor } from '../support/doctor-site.ts';
import { freePorts } from '../support/free-ports.ts';
import { Load } from '../support/load.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { type ConfigFile, type SiteLab, startTwoSites, type TwoSites } from '../support/two-sites.ts';

let lab: TwoSites;
let east: SiteLab;
let west: SiteLab;

beforeAll(async () => {
  lab = await startTwoSites({ configDir: true });
  ({ east, west } = lab);
});

afterAll(async () => {
  await lab.close();
});

/** Edits a site's file, and waits until its Envoy has what it says. */
async function edit(site: SiteLab, change: (file: ConfigFile) => void): Promise<void> {
  await writeConfig(site, change);
  await reload(site);
}

/** What is in a site's `envoy.config_dir`, by file. */
async function readDirectory(site: SiteLab): Promise<Record<string, string>> {
  const file = parse(await readFile(site.configFile, 'utf8')) as ConfigFile;
  const directory = String(file.envoy.config_dir);
  const names = (await readdir(directory)).filter((name) => name !== '.lock').sort();
  const texts = names.map(async (name) => [name, await readFile(join(directory, name), 'utf8')] as const);
  return Object.fromEntries(await Promise.all(texts));
}

const MAIL = {
  name: 'mail',
  hosts: ['mail.example.com'],
  local_pool: { cookie: 'MAILHERE', servers: ['127.0.0.1:1'] },
  remote_pools: [{ site: 'elsewhere', cookie: 'MAILTHERE', servers: ['127.0.0.1:1'] }],
};

interface WithApplications {
  applications?: unknown[];
}

const applicationsOf = (file: ConfigFile & WithApplications) => file.applications ?? [];

/** The file's pools in a list of applications. */
function inApplications({ local_pool, remote_pools }: ConfigFile): object {
  const applications = [{ name: 'shop', hosts: ['*'], local_pool, remote_pools }];
  return { applications, local_pool: undefined, remote_pools: undefined };
}

function unlisted(file: ConfigFile): object {
  const [shop] = applicationsOf(file) as ConfigFile[];
  return { applications: undefined, local_pool: shop?.local_pool, remote_pools: shop?.remote_pools };
}

/** Sessions of both sites, each asked for at both: often enough that a gap of some milliseconds is met, and no more. */
async function underLoad(during: (load: Load) => Promise<void>) {
  const edges = [east.url, west.url];
  const load = await Load.start({ clients: 12, homes: edges, edges, pauseMs: 20 });
  await load.during(100);
  await during(load);
  await load.during(200);
  return await load.stop();
}

const NOTHING_LOST = { lost: 0, losses: [], moved: 0, leftTheSite: 0 };

test('a server more, and less again: nothing is lost, and nobody moves but who was there', async () => {
  const [port = 0] = await freePorts(1);
  const added = await startAppServer({ site: 'east', server: 'app-3', port, speaks: 'http1' });
  onTestFinished(async () => void (await added.stop('SIGKILL')));
  const report = await underLoad(async (load) => {
    await edit(east, ({ local_pool }) => (local_pool.servers as string[]).push(`127.0.0.1:${port}`));
    await expect.poll(async () => (await east.state()).pools[0]?.servers_up, { timeout: 10_000 }).toBe(3);
    await load.during(100);
    await edit(east, ({ local_pool }) => (local_pool.servers as string[]).pop());
    await expect.poll(async () => (await east.state()).pools[0]?.servers_up, { timeout: 10_000 }).toBe(2);
  });
  expect(report).toMatchObject(NOTHING_LOST);
});

describe('with no request lost and no session moved', () => {
  test.each<[string, (file: ConfigFile) => void]>([
    ['a cookie gets attributes', ({ local_pool }) => Object.assign(local_pool.cookie as object, { same_site: 'Lax' })],
    ['the connect time-out, which replaces the local pool', ({ local_pool }) => (local_pool.connect_timeout = '2s')],
    ['the health check', ({ local_pool }) => Object.assign(local_pool.health_check as object, { interval: '2s' })],
    ['how the other site is asked', ({ remote_pools: [pool] }) => Object.assign(pool ?? {}, { idle_timeout: '20s' })],
    ['the status URI', (file) => (file.status_uri = '/other_status')],
    ['and back', (file) => (file.status_uri = '/local_pool_status')],
    ['the limits of paths', ({ envoy }) => (envoy.merge_slashes = true)],
    ['the idle time-out of streams', ({ envoy }) => (envoy.stream_idle_timeout = '10m')],
    [
      'a third site',
      ({ remote_pools }) =>
        remote_pools.push({ site: 'north', cluster: 'north', cookie: 'NORTH', servers: ['127.0.0.1:1'], min_up: 1 }),
    ],
    ['and less', ({ remote_pools }) => remote_pools.pop()],
    ['several applications', (file) => Object.assign(file, inApplications(file))],
    ['an application more', (file) => applicationsOf(file).push(MAIL)],
    ['and less again', (file) => applicationsOf(file).pop()],
    ['one that is not listed', (file) => Object.assign(file, unlisted(file))],
    ['the fast path is off', ({ envoy }) => (envoy.fast_path = false)],
    ['and on', ({ envoy }) => (envoy.fast_path = true)],
  ])('%s', async (_, change) => {
    const before = lab.sites.map((site) => site.sidecar().lines.length);
    const report = await underLoad(async () => {
      for (const site of lab.sites) await edit(site, change);
    });
    expect(report).toMatchObject(NOTHING_LOST);
    const since = lab.sites.flatMap((site, index) => site.sidecar().lines.slice(before[index]));
    expect(since.filter((line) => /pool (local|remote)_pool .* is down:|rejected/.test(line))).toEqual([]);
  });
});

test('TLS for the local pool, whose servers have it at other ports: nothing is lost, and no session leaves its site', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-tls-'));
  const ca = await TestCa.create(directory);
  const { certFile, keyFile } = await ca.issue('app');
  const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)]);
  const before = (parse(await readFile(east.configFile, 'utf8')) as ConfigFile).local_pool.servers as string[];
  const fronts = await Promise.all(
    before.map(async (address) => {
      const front = createServer({ cert, key }, (socket) => {
        const inner = connect(Number(address.split(':')[1]), '127.0.0.1');
        socket.on('error', () => inner.destroy()).pipe(inner);
        inner.on('error', () => socket.destroy()).pipe(socket);
      });
      await once(front.listen(0, '127.0.0.1'), 'listening');
      return front;
    }),
  );
  const ports = fronts.map((front) => (front.address() as AddressInfo).port);
  const withTls = ({ local_pool }: ConfigFile) => {
    local_pool.tls = { sni: HOST_NAME, ca_file: ca.certFile };
    local_pool.servers = ports.map((port) => `127.0.0.1:${port}`);
  };
  const without = ({ local_pool }: ConfigFile) => {
    delete local_pool.tls;
    local_pool.servers = before;
  };
  const report = await underLoad(async (load) => {
    for (const change of [withTls, without]) {
      await edit(east, change);
      await load.during(100);
    }
  });
  for (const front of fronts) front.close();
  await rm(directory, { recursive: true, force: true });
  expect(report).toMatchObject({ lost: 0, losses: [], leftTheSite: 0 });
});

describe('an edit that Envoy does not take', () => {
  const overlayFile = (site: SiteLab) => site.configFile.replace('.yaml', '-overlay.yaml');
  const withOverlay = async (site: SiteLab, text: string) => {
    await writeFile(overlayFile(site), text);
    await edit(site, ({ envoy }) => (envoy.overlay = overlayFile(site)));
  };

  afterEach(async () => {
    await edit(east, ({ envoy }) => delete envoy.overlay);
    expect(rejections()).toBe(0);
  });

  let seen = 0;
  const rejections = () => {
    const all = east.sidecar().lines.filter((line) => line.includes('config file rejected'));
    const more = all.length - seen;
    seen = all.length;
    return more;
  };

  const CLUSTER = 'static_resources: { clusters: [{ name: more, connect_timeout: 1s, ';
  test.each([
    ['clusters.yaml', `${CLUSTER} lb_policy: CLUSTER_PROVIDED }] }\n`, 'says why in its own log'],
    ['clusters.yaml', `${CLUSTER} per_connection_buffer_limit_bytes: many }] }\n`, 'says why in its own log'],
    [
      'listeners.yaml',
      'static_resources: { listeners: [{ name: edge, filter_chains: [{ filters: [{ name: envoy.filters.network.http_connection_manager,' +
        ' typed_config: { http_filters: [{ name: more, typed_config: { "@type": type.googleapis.com/google.protobuf.Struct } }] } }] }] }] }\n',
      'listener edge: ',
    ],
    [
      'routes_sites.yaml',
      'static_resources: { listeners: [{ name: edge, filter_chains: [{ filters: [{ name: envoy.filters.network.http_connection_manager,' +
        ' typed_config: { route_config: { virtual_hosts: [{ name: application, routes: [{ name: more, match: { safe_regex: { regex: "(" } },' +
        ' direct_response: { status: 200 } }] }] } } }] }] }] }\n',
      'says why in its own log',
    ],
  ])('in %s is said, and the old config stays in both', async (file, overlay, words) => {
    const files = () => readDirectory(east);
    const before = await files();
    const report = await underLoad(async () => {
      await withOverlay(east, overlay);
      await edit(east, ({ local_pool }) => (local_pool.min_up = 2));
    });
    await writeConfig(east, ({ local_pool }) => delete local_pool.min_up);
    const said = east.sidecar().lines.filter((line) => line.includes('config file rejected'));
    expect(said.at(-1)).toContain(file);
    expect(said.at(-1)).toContain(words);
    expect(rejections()).toBe(2);
    expect(await files()).toEqual(before);
    expect((await east.state()).pools[0]?.min_up).toBe(1);
    expect(report).toMatchObject(NOTHING_LOST);
  });
});

test('the status URI is answered where the file says, on connections that were open before as well', async () => {
  const probes = Array.from({ length: 8 }, () => new Client());
  const bodies = async (path: string) =>
    new Set(await Promise.all(probes.map(async (probe) => (await probe.request(`${east.url}${path}`)).body)));
  const UP = new Set(['LOCAL POOL STATE: UP']);
  for (let times = 0; times < 5; times++) expect(await bodies('/local_pool_status')).toEqual(UP);
  for (const path of ['/other_status', '/local_pool_status']) {
    for (const site of lab.sites) await edit(site, (file) => (file.status_uri = path));
    for (let times = 0; times < 50; times++) expect(await bodies(path)).toEqual(UP);
  }
  for (const probe of probes) probe.close();
});

test('the address of the edge changes: Envoy listens there, and no longer at the old one', async () => {
  const [port = 0] = await freePorts(1);
  let before: unknown;
  await edit(east, ({ envoy }) => {
    before = envoy.listen;
    envoy.listen = `127.0.0.1:${port}`;
  });
  const client = new Client();
  expect((await client.ask(`http://127.0.0.1:${port}`)).site).toBe('east');
  const atOld = async () => await new Client().ask(east.url).then(({ site }) => site, String);
  await expect.poll(atOld, { timeout: 10_000 }).toContain('ECONNREFUSED');
  await edit(east, ({ envoy }) => (envoy.listen = before));
  await lab.ready();
  expect((await client.ask(east.url)).site).toBe('east');
  client.close();
});

describe('doctor', () => {
  const examine = async (...args: string[]) => {
    const { code, stdout } = await runDoctor(['doctor', '--config', east.configFile, ...args]);
    return { code, wrong: stdout.split('\n').filter((line) => line.startsWith('  WRONG')), stdout };
  };

  test('finds nothing wrong in an Envoy that follows the file', async () => {
    const { code, wrong, stdout } = await examine();
    expect({ code, wrong }).toEqual({ code: 0, wrong: [] });
    expect(stdout).toMatch(/ok {5}config dir +Envoy has what the config file says/);
  });

  test('says what an Envoy lacks that has not heard of an edit', async () => {
    await writeConfig(east, ({ local_pool }) => (local_pool.servers as string[]).push('127.0.0.1:1'));
    expect((await examine()).wrong).toEqual([expect.stringContaining('local_pool lacks 127.0.0.1:1')]);
    await edit(east, ({ local_pool }) => (local_pool.servers as string[]).pop());
    await writeConfig(east, ({ envoy }) => (envoy.merge_slashes = envoy.merge_slashes !== true));
    expect((await examine()).wrong).toEqual([
      expect.stringContaining("Envoy's listeners.yaml differ from the config file"),
    ]);
    await reload(east);
    expect((await examine()).code).toBe(0);
  });

  test('reads what a bootstrap leads to', async () => {
    const { code, wrong, stdout } = await examine('--config-dump', east.configFile.replace('.yaml', '-envoy.yaml'));
    expect({ code, wrong }).toEqual({ code: 0, wrong: [] });
    expect(stdout).toMatch(/ok {5}clusters +local_pool is there/);
  });
});
