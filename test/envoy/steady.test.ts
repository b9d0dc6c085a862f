import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { drainKey, evictKey, siteKey } from '../../src/contract.ts';
import { Client } from '../support/client.ts';
import { Scrape } from '../support/scrape.ts';
import { EAST_COOKIE, type SiteLab, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

let lab: TwoSites;
let east: SiteLab;
let west: SiteLab;
beforeAll(async () => {
  lab = await startTwoSites({ fastPath: true });
  ({ east, west } = lab);
});
afterAll(async () => await lab?.close());
afterEach(async () => await lab.restore());

const LOAD_MS = Number(process.env.STEADY_SECONDS ?? '3') * 1_000;

/** How many requests ask a sidecar meanwhile. */
async function askedDuring(body: () => Promise<void>): Promise<number> {
  const count = async () => {
    const streams = await Promise.all(lab.sites.map((site) => site.stat('http.edge.ext_proc.streams_started')));
    return streams.reduce((sum, each) => sum + each, 0);
  };
  const before = await count();
  await body();
  return (await count()) - before;
}

async function newClient(site: SiteLab): Promise<Client> {
  const client = new Client();
  await client.ask(site.url);
  return client;
}

test('no sidecar is asked in steady state: for local sessions, forwarded ones, new clients and the status URI', async () => {
  const clients = [await newClient(east), await newClient(west)];
  const asked = await askedDuring(async () => {
    const untilMs = performance.now() + LOAD_MS;
    while (performance.now() < untilMs) {
      for (const [index, client] of clients.entries()) {
        const home = index === 0 ? 'east' : 'west';
        // Wherever it comes to, its session is at home.
        for (const { url } of lab.sites) {
          for (const method of ['GET', 'POST', 'HEAD'] as const) {
            const answer = await client.request(`${url}/x?a=%2F`, { method });
            expect(answer.status).toBe(200);
            if (method !== 'HEAD') expect(JSON.parse(answer.body)).toMatchObject({ site: home });
          }
        }
      }
      (await newClient(west)).close();
      const status = await clients[0]?.request(`${east.url}/local_pool_status`);
      expect([status?.status, status?.body, status?.headers['content-type']]).toEqual([
        ...[200, 'LOCAL POOL STATE: UP', 'text/html'],
      ]);
    }
  });
  expect(asked).toBe(0);
  for (const client of clients) client.close();
});

/** What a request may carry; east's cookie names no server, so that Envoy chooses one. */
const COOKIES = [
  [],
  [EAST_COOKIE],
  [WEST_COOKIE],
  [EAST_COOKIE, WEST_COOKIE],
  [`X${EAST_COOKIE}`],
  [`${WEST_COOKIE}2`],
];

/** By the table in README.md, of east: who serves, and whose cookies the client holds then. */
function expected(cookies: readonly string[], hasHop: boolean, isWestUp: boolean): string {
  const isForwarded = !hasHop && cookies.includes(WEST_COOKIE) && isWestUp;
  return isForwarded ? `west ${WEST_COOKIE}` : `east ${EAST_COOKIE}`;
}

test.each([true, false])('requests of every kind are decided by the table, the other site up: %s', async (isWestUp) => {
  if (!isWestUp) {
    await west.stopPool();
    await east.waitForFastPath('off', 'west');
  }
  for (const cookies of COOKIES) {
    for (const hasHop of [false, true]) {
      for (const path of ['/', '/a?b=%20', '/esc%61ped', '/local_pool_status2']) {
        for (const method of ['GET', 'POST']) {
          const client = new Client();
          for (const name of cookies) client.cookies.set(name, 'x');
          const headers = hasHop ? { 'x-site-hop': 'west' } : {};
          const answer = await client.request(`${east.url}${path}`, { method, headers });
          const what = `${method} ${path} with ${cookies.join()}${hasHop ? ', forwarded' : ''}`;
          const { site } = JSON.parse(answer.body);
          const held = [...client.cookies.keys()].filter((name) => name === EAST_COOKIE || name === WEST_COOKIE);
          expect(`${site} ${held.join()}`, what).toBe(expected(cookies, hasHop, isWestUp));
          client.close();
        }
      }
    }
  }
});

describe('what routes decide', () => {
  test('is counted with its owner, on the page and in the metrics, and logged', async () => {
    const count = async (site: SiteLab, labels: Record<string, string>) =>
      (await Scrape.of(site.opsUrl)).value('decisions_total', { ...labels, application: 'default' });
    const kinds = [
      [east, { decision: 'local', owner: 'none' }],
      [east, { decision: 'local', owner: 'east' }],
      [east, { decision: 'forward', owner: 'west' }],
      [west, { decision: 'local', owner: 'west' }],
      [east, { decision: 'status', owner: 'none' }],
    ] as const;
    // What came before has been counted by then.
    for (const { opsUrl } of lab.sites) for (let time = 0; time < 2; time++) await Scrape.fresh(opsUrl);
    const before = await Promise.all(kinds.map(([site, labels]) => count(site, labels)));
    const asked = await askedDuring(async () => {
      const atEast = await newClient(east);
      for (let time = 0; time < 5; time++) await atEast.ask(east.url);
      const atWest = await newClient(west);
      for (let time = 0; time < 7; time++) expect((await atWest.ask(`${east.url}/forwarded`)).site).toBe('west');
      for (const client of [atEast, atWest]) client.close();
    });
    expect(asked).toBe(0);
    await waitUntil(
      async () => {
        const now = await Promise.all(kinds.map(([site, labels]) => count(site, labels)));
        const more = now.map((value, index) => value - (before[index] ?? 0));
        // Status: the other site's health checks.
        return more.slice(0, 4).join() === '1,5,7,7' && (more[4] ?? 0) > 0;
      },
      { what: 'the sidecars to have counted' },
    );
    const state = await east.state();
    expect(state.decisions.forward.total).toBeGreaterThanOrEqual(7);
    const line = await east.envoy?.waitForLine(/"path":"\/forwarded"/);
    expect(JSON.parse(line ?? '{}')).toMatchObject({ decision: 'forward', owner: 'west', route: 'steady_remote_pool' });
    const there = await west.envoy?.waitForLine(/"path":"\/forwarded"/);
    expect(JSON.parse(there ?? '{}')).toMatchObject({ decision: 'local', owner: 'west', hop: 'east' });
  });
});

test('each request has one line in the access log, whoever decides it', async () => {
  const paths = ['/steady-line', '/asked%20line'];
  const client = new Client();
  for (const path of [...paths, '/last-line']) await client.ask(`${east.url}${path}`);
  await east.envoy?.waitForLine(/last-line/);
  const lines = (path: string) => east.envoy?.lines.filter((line) => line.includes(`"path":"${path}"`)) ?? [];
  expect(paths.map((path) => lines(path).map((line) => JSON.parse(line).decision))).toEqual([['local'], ['local']]);
  client.close();
});

describe('with keys that were left behind by a sidecar that was killed', () => {
  test('the local pool dies: clients of this site are served at the other, old and new, and once more when it is back', async () => {
    const client = await newClient(east);
    await east.sidecar().stop('SIGKILL');
    expect(await east.runtime(siteKey('default', 'east'))).toBe('100');
    await east.stopPool();
    const load = async () => {
      for (const method of ['GET', 'POST'] as const) {
        const fresh = new Client();
        expect((await fresh.request(east.url, { method })).body).toContain('"site":"west"');
        fresh.close();
      }
    };
    await load();
    // Each has health checks of its own.
    for (const cluster of ['local_pool', 'local_pool_or_elsewhere']) {
      await waitUntil(async () => (await east.stat(`cluster.${cluster}.membership_healthy`)) === 0, {
        what: `Envoy to know of ${cluster}`,
      });
    }
    await load();
    const down = await client.request(`${east.url}/local_pool_status`);
    expect([down.status, down.body]).toEqual([503, 'LOCAL POOL STATE: DOWN']);
    expect((await client.ask(east.url)).site).toBe('west');
    // One owner: this site's cookie is gone.
    expect([...client.cookies.keys()]).toEqual([WEST_COOKIE]);
    client.close();
  });

  test('the other site dies: its sessions are adopted', async () => {
    const client = await newClient(west);
    await east.sidecar().stop('SIGKILL');
    await west.envoy?.stop('SIGKILL');
    expect((await client.ask(east.url)).site).toBe('east');
    expect([...client.cookies.keys()]).toEqual([EAST_COOKIE]);
    client.close();
  });
});

describe('a drain', () => {
  const drain = (site: SiteLab, query = '') => fetch(`${site.opsUrl}/drain${query}`, { method: 'POST' });
  const undrain = (site: SiteLab) => fetch(`${site.opsUrl}/undrain`, { method: 'POST' });
  const status = async (site: SiteLab, headers: Record<string, string> = {}) => {
    const client = new Client();
    const answer = await client.request(`${site.url}/local_pool_status`, { headers });
    client.close();
    return `${answer.status} ${answer.body}`;
  };
  const UP = '200 LOCAL POOL STATE: UP';
  const DOWN = '503 LOCAL POOL STATE: DOWN';
  const FORWARDED = { 'x-site-hop': 'west' };

  test('is obeyed by Envoy without any sidecar, outlives them, and ends with undrain', async () => {
    const client = await newClient(east);
    expect((await drain(east, '?for=1h&reason=kernel%20update')).status).toBe(200);
    // Whoever is answered may ask Envoy's status URI at once.
    expect(Number(await east.runtime(drainKey('default')))).toBeGreaterThan(Date.now() / 1_000);
    expect([await status(east), await status(east, FORWARDED)]).toEqual([DOWN, UP]);
    await east.sidecar().stop('SIGKILL');
    expect([await status(east), await status(east, FORWARDED)]).toEqual([DOWN, UP]);
    // Its own sessions are served as ever, also by way of the other site.
    for (const { url } of lab.sites) expect((await client.ask(url)).site).toBe('east');
    await east.startSidecar();
    const state = await east.state();
    expect(state).toMatchObject({ draining: true, draining_reason: 'kernel update', evicting: false });
    expect(Date.parse(state.draining_until ?? '')).toBeGreaterThan(Date.now() + 3_000_000);
    await undrain(east);
    await waitUntil(async () => (await status(east)) === UP, { what: 'the status URI to say UP' });
    await east.sidecar().stop('SIGKILL');
    expect(await status(east)).toBe(UP);
    client.close();
  });

  test('is set again when Envoy has lost it', async () => {
    await drain(east);
    await waitUntil(async () => (await east.runtime(drainKey('default'))) !== undefined, { what: 'the key' });
    await east.envoy?.stop('SIGKILL');
    await east.startEnvoy();
    await waitUntil(async () => (await status(east).catch(() => '')) === DOWN, { what: 'the status URI to say DOWN' });
    await waitUntil(async () => Number(await east.runtime(drainKey('default'))) > 0, { what: 'the key' });
    await undrain(east);
  });

  test('is not held up by an Envoy that hangs, which has it when it goes on', async () => {
    east.envoy?.signal('SIGSTOP');
    try {
      const { status: answered } = await drain(east, '?reason=hung');
      expect(answered).toBe(200);
    } finally {
      east.envoy?.signal('SIGCONT');
    }
    await waitUntil(async () => (await status(east)) === DOWN, { what: 'the status URI to say DOWN' });
    await undrain(east);
    await east.waitForFastPath('on');
  });

  test('is refused while no other site is up, unless it is forced', async () => {
    await west.stopPool();
    await east.waitForRemote('down');
    const refused = await drain(east);
    expect([refused.status, await refused.text()]).toEqual([
      409,
      'no other site is up, so its clients would have nowhere to go\n',
    ]);
    expect((await drain(east, '?force')).status).toBe(200);
    await undrain(east);
  });

  test('that evicts moves each session with its next request, wherever it comes to, and undrain ends it', async () => {
    const [atEast, atWest, staying] = [await newClient(east), await newClient(east), await newClient(west)];
    await drain(east, '?evict');
    await waitUntil(async () => Number(await east.runtime(evictKey('default'))) > 0, { what: 'the key' });
    await east.waitForFastPath('off');
    expect((await atEast.ask(east.url)).site).toBe('west');
    expect((await atWest.ask(west.url)).site).toBe('west');
    for (const client of [atEast, atWest]) {
      expect([...client.cookies.keys()]).toEqual([WEST_COOKIE]);
      // Moved for good.
      for (const { url } of lab.sites) expect((await client.ask(url)).site).toBe('west');
    }
    expect((await staying.ask(east.url)).site).toBe('west');
    expect([await status(east), await status(east, FORWARDED)]).toEqual([DOWN, DOWN]);
    expect((await east.state()).evicting).toBe(true);
    // With no other site left, one that evicts serves rather than nobody.
    await west.stopPool();
    await east.waitForRemote('down');
    expect((await atEast.ask(east.url)).site).toBe('east');
    await undrain(east);
    for (const client of [atEast, atWest, staying]) client.close();
  });
});

test('one drain reaches every sidecar of an Envoy, and none of their restarts ends it', async () => {
  const two = await startTwoSites({ fastPath: true, sidecars: 2 });
  try {
    const states = async () => {
      const outs = await Promise.all([0, 1].map((index) => two.east.state(index)));
      return outs.map(({ draining, draining_reason: reason }) => `${draining} ${reason}`).join();
    };
    await fetch(`${two.east.opsUrl}/drain?reason=move`, { method: 'POST' });
    await waitUntil(async () => (await states()) === 'true move,true move', { what: 'both to drain' });
    for (const index of [0, 1]) {
      await two.east.sidecar(index).stop('SIGTERM');
      await two.east.startSidecar(index);
      await two.east.waitForReady(index);
      expect(await states()).toBe('true move,true move');
    }
    await fetch(`${two.east.opsUrl}/undrain`, { method: 'POST' });
    await waitUntil(async () => (await states()) === 'false null,false null', { what: 'neither to drain' });
    await two.east.waitForFastPath('on');
  } finally {
    await two.close();
  }
});
