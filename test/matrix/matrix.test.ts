import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { fetchNode } from '../../lab/node-binary.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client, serverOf } from '../support/client.ts';
import { Load } from '../support/load.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { Scrape } from '../support/scrape.ts';
import { NONE_SKIPPED, patientWithSidecars, skippedDecisions } from '../support/skipped.ts';
import {
  EAST_COOKIE,
  ENVOY_RELEASES,
  type EnvoyRelease,
  startTwoSites,
  type TwoSites,
  WEST_COOKIE,
} from '../support/two-sites.ts';
import { NODE_RELEASES, type NodeRelease } from './node-releases.ts';

/** Some seconds of load. */
const REQUESTS = 3_000;
/** What the sidecar promises for its stop. */
const MOST_MS_TO_STOP = 5_000;

/** `MATRIX=cross`: each Envoy with the newest Node, and each Node with the newest Envoy, in half of the time. */
const IS_CROSS = process.env.MATRIX === 'cross';

const CELLS = ENVOY_RELEASES.flatMap((envoyVersion) =>
  NODE_RELEASES.map((node) => [envoyVersion, node] as const),
).filter(
  ([envoyVersion, node]) => !IS_CROSS || envoyVersion === ENVOY_RELEASES.at(-1) || node === NODE_RELEASES.at(-1),
);
const cells = new Map<string, 'passed' | 'failed'>();

function nameOf(envoyVersion: EnvoyRelease, node: NodeRelease): string {
  return `Envoy ${envoyVersion}, Node ${node}`;
}

afterAll(() => {
  const row = (words: readonly string[]) => `| ${words.join(' | ')} |`;
  const table = [
    row(['', ...NODE_RELEASES.map((node) => `Node ${node}`)]),
    row(['---', ...NODE_RELEASES.map(() => '---')]),
    ...ENVOY_RELEASES.map((envoyVersion) =>
      row([
        `Envoy ${envoyVersion}`,
        ...NODE_RELEASES.map((node) => cells.get(nameOf(envoyVersion, node)) ?? 'not run'),
      ]),
    ),
  ];
  console.log(table.join('\n'));
});

describe.each(CELLS)('Envoy %s, Node %s', (envoyVersion, node) => {
  const cell = nameOf(envoyVersion, node);
  let lab: TwoSites;
  beforeAll(async () => {
    // Until every test has passed, so that a cell whose sites do not even start is no hole unseen.
    cells.set(cell, 'failed');
    lab = await startTwoSites({
      ...{ envoyVersion, node: await fetchNode(node), fastPath: false },
      patchBootstrap: patientWithSidecars,
    });
  });
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads from the pattern which fixtures are wanted
  afterAll(async ({}, suite) => {
    await lab?.close();
    const states = suite.tasks.map((task) => task.result?.state);
    if (states.every((state) => state === 'pass')) cells.set(cell, 'passed');
  });
  afterEach(async () => {
    for (const site of lab.sites) {
      if (site.apps.some((app) => app.hasEnded)) await site.startPool();
      if (site.sidecar().hasEnded) await site.startSidecar();
    }
    await lab.ready();
    await waitUntil(isSteady, { what: 'each site to serve its new clients' });
  });

  /** Every worker of the Envoys has heard that the pools are up again: no new session begins elsewhere, to move later. */
  async function isSteady(): Promise<boolean> {
    for (const site of lab.sites) {
      for (let turn = 0; turn < 10; turn++) {
        const client = new Client();
        const { site: served } = await client.ask(site.url);
        client.close();
        if (served !== site.name) return false;
      }
    }
    return true;
  }

  test('it is these versions that run', async () => {
    for (const site of lab.sites) {
      const server: unknown = await (await fetch(`${site.adminUrl}/server_info`)).json();
      expect(server).toMatchObject({ version: expect.stringContaining(`/${envoyVersion}/`) });
      const { series } = await Scrape.of(site.opsUrl);
      expect([...series.keys()].find((key) => key.includes('build_info'))).toContain(`node="v${node}"`);
    }
  });

  test('no decision is skipped and nothing lost under load, through two reloads', async () => {
    const urls = lab.sites.map((site) => site.url);
    const load = await Load.start({ clients: 16, homes: urls, edges: urls, pauseMs: 0 });
    for (const bothCookies of ['local', 'remote']) {
      await load.during(REQUESTS / 3);
      await writeConfig(lab.east, (file) => Object.assign(file, { both_cookies: bothCookies }));
      await reload(lab.east);
      expect(lab.east.sidecar().lines.some((line) => line.includes('config reloaded: both_cookies'))).toBe(true);
    }
    await load.during(REQUESTS / 3);
    const report = await load.stop();
    expect(report.lost, report.losses.slice(0, 10).join('\n')).toBe(0);
    expect(report.moved).toBe(0);
    for (const site of lab.sites) expect(await skippedDecisions(site), site.name).toEqual(NONE_SKIPPED);
  });

  test.each([
    ['the status URI is answered', '/local_pool_status', {}, { body: 'LOCAL POOL STATE: UP' }],
    ['without a cookie it is the local pool', '/', {}, { site: 'east', hop: null }],
    ["with a remote site's cookie it is that site's pool", '/', { cookie: 'west' }, { site: 'west', hop: 'east' }],
    ["with both sites' cookies as well", '/', { cookie: 'both' }, { site: 'west', hop: 'east' }],
    ['what was forwarded stays', '/', { cookie: 'west', 'x-site-hop': 'west' }, { site: 'east', hop: 'west' }],
  ] as const)('%s', async (_, path, { cookie, ...headers }: { cookie?: 'west' | 'both' }, wanted) => {
    const client = new Client();
    if (cookie !== undefined) await client.ask(lab.west.url);
    if (cookie === 'both') client.cookies.set(EAST_COOKIE, 'none');
    const answer = await client.request(lab.east.url + path, { headers });
    expect(answer.status).toBe(200);
    expect(path === '/' ? JSON.parse(answer.body) : answer).toMatchObject(wanted);
    if (path === '/') expect(client.cookies.size).toBe(1);
    client.close();
  });

  test('a session stays at its server while the sidecar is killed and comes back', async () => {
    const client = new Client();
    const home = serverOf(await client.ask(lab.west.url));
    await lab.east.sidecar().stop('SIGKILL');
    expect(serverOf(await client.ask(lab.east.url))).toBe(home);
    await lab.east.startSidecar();
    await lab.ready();
    expect(serverOf(await client.ask(lab.east.url))).toBe(home);
    client.close();
  });

  test('a killed pool costs a client at most one request, and its sessions move once', async () => {
    const load = await Load.start({ homes: [lab.west.url], edges: [lab.east.url] });
    await load.during(100);
    await lab.west.stopPool();
    await lab.east.waitForRemote('down');
    await load.during(200);
    const report = await load.stop();
    expect(report.mostLostByOneClient, report.losses.join('\n')).toBeLessThanOrEqual(1);
    expect(report).toMatchObject({ moved: 8, bounced: 0 });
    for (const client of load.clients) expect([...client.cookies.keys()]).toEqual([EAST_COOKIE]);

    // Row 5: the other site stands in. Row 2: what was forwarded is refused, not sent back.
    const client = new Client();
    expect(await client.ask(lab.west.url)).toMatchObject({ site: 'east', hop: 'west' });
    const refused = await client.request(lab.west.url, { headers: { 'x-site-hop': 'east' } });
    expect(refused).toMatchObject({ status: 503, headers: { 'x-site-refused': 'west' } });
    client.close();
  });

  test('with both pools down every request gets a 503 at once', async () => {
    await Promise.all(lab.sites.map((site) => site.stopPool()));
    await Promise.all(lab.sites.map((site) => site.waitForStatus(503)));
    await Promise.all(lab.sites.map((site) => site.waitForRemote('down')));
    for (const cookie of ['', `${EAST_COOKIE}=x; ${WEST_COOKIE}=x`]) {
      const client = new Client();
      const answer = await client.request(lab.east.url, { headers: { cookie } });
      expect(answer.status).toBe(503);
      expect(answer.durationMs).toBeLessThan(5_000);
      client.close();
    }
  });

  test('a sidecar that stops under load ends within 5 s, and nothing is lost', async () => {
    const urls = lab.sites.map((site) => site.url);
    const load = await Load.start({ homes: urls, edges: urls });
    await load.during(100);
    const startedAt = performance.now();
    expect(await lab.east.sidecar().stop('SIGTERM')).toEqual({ code: 0, signal: null });
    expect(performance.now() - startedAt).toBeLessThan(MOST_MS_TO_STOP);
    await load.during(100);
    const report = await load.stop();
    expect(report.lost, report.losses.join('\n')).toBe(0);
    expect(report.moved).toBe(0);
  });

  test('while health is not known Envoy decides, and answers the status URI itself', async () => {
    const client = new Client();
    const home = serverOf(await client.ask(lab.west.url));
    const admin = lab.east.adminUrl;
    await lab.east.moveAdmin('http://127.0.0.1:1');
    await lab.east.sidecar().stop('SIGTERM');
    await lab.east.startSidecar();
    await lab.east.moveAdmin(admin);
    await waitUntil(async () => (await lab.east.state()).health_known === false, { what: 'health to be unknown' });
    const status = await client.request(`${lab.east.url}/local_pool_status`);
    expect([status.status, status.body]).toEqual([200, 'LOCAL POOL STATE: UP']);
    expect(serverOf(await client.ask(lab.east.url))).toBe(home);
    await reload(lab.east);
    client.close();
  });
});
