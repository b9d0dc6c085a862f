import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { type ConfigFile, type SiteLab, startTwoSites, type TwoSites } from '../support/two-sites.ts';

let lab: TwoSites;
let east: SiteLab;
let directory: string;

beforeAll(async () => {
  lab = await startTwoSites({ configDir: true, sidecars: 2 });
  east = lab.east;
  directory = String((parse(await readFile(east.configFile, 'utf8')) as ConfigFile).envoy.config_dir);
});

afterAll(async () => {
  await lab.close();
});

afterEach(async () => {
  if (east.envoy?.hasEnded === true) await east.startEnvoy();
  for (const [index, sidecar] of east.sidecars.entries()) if (sidecar.hasEnded) await east.startSidecar(index);
});

const connectTimeout =
  (value: string) =>
  ({ local_pool }: ConfigFile) => {
    local_pool.connect_timeout = value;
  };

/** What Envoy has in use of the local pool. */
async function connectTimeoutOfEnvoy(): Promise<string | undefined> {
  const dump = (await (await fetch(`${east.adminUrl}/config_dump?resource=dynamic_active_clusters`)).json()) as {
    configs?: { cluster: { name: string; connect_timeout: string } }[];
  };
  return dump.configs?.find(({ cluster }) => cluster.name === 'local_pool')?.cluster.connect_timeout;
}

const linesOf = (site: SiteLab, pattern: RegExp) =>
  site.sidecars.map(({ lines }) => lines.filter((line) => pattern.test(line)).length);

/** Of several sidecars one writes, and the others find it done. */
async function waitForLineOfOne(pattern: RegExp): Promise<void> {
  await waitUntil(() => linesOf(east, pattern).some((count) => count > 0), { what: `a line like ${pattern}` });
}

test('sidecars that reload at once write the same, one after the other', async () => {
  const before = linesOf(east, /rejected|is down/);
  const taken = () => linesOf(east, /Envoy has taken/).reduce((sum, count) => sum + count);
  // Those that were there before Envoy have waited for it.
  const takenBefore = taken();
  await writeConfig(east, connectTimeout('3s'));
  await reload(east);
  expect(await connectTimeoutOfEnvoy()).toBe('3s');
  expect(linesOf(east, /rejected|is down/)).toEqual(before);
  // One had nothing left to change.
  expect(taken()).toBe(takenBefore + 1);
  expect((await readdir(directory)).filter((name) => !name.endsWith('.yaml'))).toEqual([]);
});

test('what was edited while no sidecar ran is given to Envoy by the next one', async () => {
  await Promise.all(east.sidecars.map((sidecar) => sidecar.stop('SIGTERM')));
  await writeConfig(east, connectTimeout('4s'));
  await Promise.all([east.startSidecar(0), east.startSidecar(1)]);
  await waitUntil(async () => (await connectTimeoutOfEnvoy()) === '4s', { what: 'Envoy to have it' });
  await lab.ready();
});

test('an Envoy that does not run reads it when it starts', async () => {
  await east.envoy?.stop('SIGKILL');
  await writeConfig(east, connectTimeout('5s'));
  await reload(east);
  await waitForLineOfOne(/is written for an Envoy that is not there yet/);
  await east.startEnvoy();
  expect(await connectTimeoutOfEnvoy()).toBe('5s');
  await lab.ready();
});

test('an Envoy that hangs has it when it goes on', async () => {
  east.envoy?.signal('SIGSTOP');
  try {
    await writeConfig(east, connectTimeout('6s'));
    await reload(east);
  } finally {
    east.envoy?.signal('SIGCONT');
  }
  await waitUntil(async () => (await connectTimeoutOfEnvoy()) === '6s', { what: 'Envoy to have it' });
  await lab.ready();
});

test('a sidecar killed while it writes leaves what the next one ends', async () => {
  await writeConfig(east, connectTimeout('7s'));
  for (const sidecar of east.sidecars) sidecar.signal('SIGHUP');
  await waitUntil(async () => (await readdir(directory)).includes('.lock'), { what: 'the lock', intervalMs: 1 });
  await Promise.all(east.sidecars.map((sidecar) => sidecar.stop('SIGKILL')));
  await Promise.all([east.startSidecar(0), east.startSidecar(1)]);
  await waitUntil(async () => (await connectTimeoutOfEnvoy()) === '7s', {
    what: 'Envoy to have it',
    timeoutMs: 90_000,
  });
  await lab.ready();
});

test('a sidecar that stops while it writes writes all of it, and does not wait', async () => {
  await writeConfig(east, connectTimeout('9s'));
  for (const sidecar of east.sidecars) sidecar.signal('SIGHUP');
  await waitUntil(async () => (await readdir(directory)).includes('.lock'), { what: 'the lock', intervalMs: 1 });
  const ends = await Promise.all(east.sidecars.map((sidecar) => sidecar.stop('SIGTERM')));
  expect(ends.map(({ code }) => code)).toEqual([0, 0]);
  expect(await readdir(directory)).not.toContain('.lock');
  await Promise.all([east.startSidecar(0), east.startSidecar(1)]);
  await waitUntil(async () => (await connectTimeoutOfEnvoy()) === '9s', { what: 'Envoy to have it' });
  await lab.ready();
});

test('a directory that cannot be written is said by its key, and the old config stays', async () => {
  await writeConfig(east, ({ envoy, local_pool }) => {
    envoy.config_dir = '/proc/nowhere/envoy';
    local_pool.min_up = 2;
  });
  await reload(east);
  await waitForLineOfOne(/could not be reloaded: envoy\.config_dir: ENOENT/);
  expect((await east.state()).pools[0]?.min_up).toBe(1);
  await writeConfig(east, ({ envoy, local_pool }) => {
    envoy.config_dir = directory;
    delete local_pool.min_up;
  });
});

test('what takes a restart of Envoy is said before anything is written', async () => {
  await writeConfig(east, ({ envoy }) => {
    envoy.node_id = 'another';
  });
  await reload(east);
  const lines =
    east.sidecars.find(({ lines: all }) => all.some((line) => line.includes('must be restarted')))?.lines ?? [];
  await writeConfig(east, ({ envoy }) => {
    delete envoy.node_id;
  });
  const said = lines.findIndex((line) =>
    line.includes('Envoy must be restarted to apply all of this, for its bootstrap has another node'),
  );
  expect(said).toBeGreaterThan(0);
  expect(lines.findIndex((line, index) => index > said && line.includes('config reloaded'))).toBeGreaterThan(said);
});

test('a file of it that somebody removed is there again after a reload', async () => {
  const file = (await readdir(directory)).find((name) => /^endpoints_local_pool_[0-9a-f]{8}\.yaml$/.test(name)) ?? '';
  await rm(join(directory, file));
  await reload(east);
  expect(await readdir(directory)).toContain(file);
  const client = new Client();
  expect((await client.ask(east.url)).site).toBe('east');
  client.close();
});

test('what is there as it is to be, and Envoy has not, it is given again', async () => {
  const path = join(directory, 'clusters.yaml');
  const text = await readFile(path, 'utf8');
  const before = await connectTimeoutOfEnvoy();
  const other = text
    .replace(/version_info: "\w+"/, 'version_info: "other"')
    .replaceAll(`connect_timeout: ${before}`, 'connect_timeout: 31s');
  await writeFile(`${path}.new`, other);
  await rename(`${path}.new`, path);
  await waitUntil(async () => (await connectTimeoutOfEnvoy()) === '31s', { what: 'Envoy to have the other' });
  // Envoy looks at a file that is renamed into its place, and at no other.
  await writeFile(path, text);
  await reload(east);
  expect(await connectTimeoutOfEnvoy()).toBe(before);
});

describe('a certificate file that Envoy does not take is said, and the old config stays in both', () => {
  const missing = { sni: 'west.example.com', ca_file: '/nowhere/ca.pem' };

  /** Of the clusters in use, those that speak TLS. */
  async function overTls(): Promise<readonly string[]> {
    const dump = (await (await fetch(`${east.adminUrl}/config_dump?resource=dynamic_active_clusters`)).json()) as {
      configs?: { cluster: { name: string; transport_socket?: object } }[];
    };
    const clusters = (dump.configs ?? []).map(({ cluster }) => cluster);
    return clusters.filter((cluster) => JSON.stringify(cluster).includes('UpstreamTls')).map(({ name }) => name);
  }

  test.each<[string, string, (file: ConfigFile) => void]>([
    [
      "of another site's pool, that is not there",
      'cluster_remote_pool_ca.yaml',
      ({ remote_pools: [pool] }) => Object.assign(pool ?? {}, { tls: missing }),
    ],
    [
      'of the local pool, that is not there',
      'cluster_local_pool_ca.yaml',
      ({ local_pool }) => (local_pool.tls = missing),
    ],
  ])('%s', async (_, name, change) => {
    const before = await readFile(east.configFile, 'utf8');
    const rejected = `config file rejected, the old config stays here and in Envoy: .*${name}, which names /nowhere/ca.pem: `;
    await writeConfig(east, change);
    await reload(east);
    await waitForLineOfOne(new RegExp(rejected));
    expect(await overTls()).toEqual([]);
    expect((await readdir(directory)).filter((file) => file === name)).toEqual([]);
    await writeFile(east.configFile, before);
    await reload(east);
    await lab.ready();
  });
});
