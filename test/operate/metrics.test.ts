import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { DEFAULT_APPLICATION } from '../../src/config/config.ts';
import { Client, serverOf } from '../support/client.ts';
import { Scrape } from '../support/scrape.ts';
import { patientWithSidecars } from '../support/skipped.ts';
import { EAST_COOKIE, type SiteLab, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

const CLIENTS_OF_A_SITE = 6;
const REQUESTS_OF_A_CLIENT = 200;

let lab: TwoSites;
beforeAll(async () => {
  // On a busy machine an answer may be too late for Envoy: then the request is served, and not counted.
  lab = await startTwoSites({ fastPath: false, patchBootstrap: patientWithSidecars });
});
afterEach(async () => {
  for (const site of lab.sites) if (site.apps.some((app) => app.hasEnded)) await site.startPool();
  await lab.ready();
});
afterAll(async () => await lab?.close());

/** What is counted from now on, as `decision owner`. */
async function decisionsFromNow(site: SiteLab): Promise<() => Promise<Record<string, number>>> {
  const before = (await Scrape.fresh(site.opsUrl)).decisions();
  return async () => {
    const now = (await Scrape.fresh(site.opsUrl)).decisions();
    const more = Object.entries(now).map(([key, value]) => [key, value - (before[key] ?? 0)] as const);
    return Object.fromEntries(more.filter(([, value]) => value > 0));
  };
}

/** What the clients of one site saw: how many requests each edge answered, and how many it sent on to the other. */
interface Seen {
  readonly answered: { east: number; west: number };
  readonly forwarded: { east: number; west: number };
}

/** A client with a session at its home asks both edges in turn, and is always answered by its own server. */
async function runClient(home: SiteLab, seen: Seen): Promise<void> {
  const client = new Client();
  const first = serverOf(await client.ask(home.url));
  for (let count = 0; count < REQUESTS_OF_A_CLIENT; count++) {
    const edge = count % 3 === 0 ? lab.west : lab.east;
    const answer = await client.ask(edge.url);
    expect(serverOf(answer)).toBe(first);
    seen.answered[edge.name]++;
    if (answer.hop !== null) seen.forwarded[edge.name]++;
  }
  client.close();
}

test('under load each decision is counted by kind and owner as the clients saw it, while it is scraped', async () => {
  const counted = await Promise.all(lab.sites.map(decisionsFromNow));
  const seen = {
    east: { answered: { east: 0, west: 0 }, forwarded: { east: 0, west: 0 } },
    west: { answered: { east: 0, west: 0 }, forwarded: { east: 0, west: 0 } },
  };
  let isRunning = true;
  const scrapes = (async () => {
    let last = 0;
    let count = 0;
    while (isRunning) {
      const scrape = await Scrape.of(lab.east.opsUrl);
      expect(scrape.decisionCount).toBeGreaterThanOrEqual(last);
      last = scrape.decisionCount;
      count++;
    }
    return count;
  })();
  const startedAt = performance.now();
  await Promise.all(
    lab.sites.flatMap((home) => Array.from({ length: CLIENTS_OF_A_SITE }, () => runClient(home, seen[home.name]))),
  );
  const waitedSeconds = (lab.sites.length * CLIENTS_OF_A_SITE * (performance.now() - startedAt)) / 1_000;
  isRunning = false;
  expect(await scrapes).toBeGreaterThan(10);

  expect(seen.east.forwarded).toEqual({ east: 0, west: seen.east.answered.west });
  expect(seen.west.forwarded).toEqual({ east: seen.west.answered.east, west: 0 });
  expect(await Promise.all(counted.map((count) => count()))).toEqual([
    {
      'local none': CLIENTS_OF_A_SITE,
      'local east': seen.east.answered.east + seen.east.forwarded.west,
      'forward west': seen.west.forwarded.east,
    },
    {
      'local none': CLIENTS_OF_A_SITE,
      'local west': seen.west.answered.west + seen.west.forwarded.east,
      'forward east': seen.east.forwarded.west,
    },
  ]);
  for (const site of lab.sites) {
    const scrape = await Scrape.fresh(site.opsUrl);
    expect(scrape.value('decision_duration_seconds_count')).toBe(scrape.decisionCount);
    expect(scrape.value('streams_total', { end: 'complete' })).toBe(scrape.decisionCount);
    expect(scrape.value('streams_total', { end: 'reset' })).toBe(0);
    expect(scrape.value('streams_total', { end: 'malformed' })).toBe(0);
    const decidingSeconds = scrape.value('decision_duration_seconds_sum');
    expect(decidingSeconds / scrape.decisionCount).toBeGreaterThan(0.000_001);
    // A client waits for its decision, and for much else.
    expect(decidingSeconds).toBeLessThan(waitedSeconds);
  }
});

test('sessions whose site is down are counted where they are sent on, and where they are adopted', async () => {
  const client = new Client();
  await client.ask(lab.west.url);
  const cookie = `${WEST_COOKIE}=${client.cookies.get(WEST_COOKIE)}`;
  client.close();
  await lab.west.stopPool();
  await waitForPools(lab.west, { 'west local_pool': [0, 2, 0] });
  await waitForPools(lab.east, { 'west remote_pool': [0, 1, 0] });
  const [east, west] = await Promise.all(lab.sites.map(decisionsFromNow));
  const ask = async (edge: SiteLab) => {
    const fresh = new Client();
    const answer = await fresh.ask(edge.url, { headers: { cookie } });
    expect(answer.site).toBe('east');
    expect(fresh.cookies.has(EAST_COOKIE)).toBe(true);
    fresh.close();
  };
  for (let count = 0; count < 5; count++) await ask(lab.east);
  for (let count = 0; count < 3; count++) await ask(lab.west);
  expect(await east?.()).toEqual({ 'adopt west': 8 });
  expect(await west?.()).toEqual({ 'failover west': 3 });
  const scrape = await Scrape.fresh(lab.east.opsUrl);
  expect(scrape.value('streams_total', { end: 'complete' })).toBe(scrape.decisionCount);
});

test('servers up follows a server that was killed and came back', async () => {
  await waitForPools(lab.east, { 'east local_pool': [2, 2, 1], 'west remote_pool': [1, 1, 1] });
  await lab.east.apps[0]?.stop('SIGKILL');
  await waitForPools(lab.east, { 'east local_pool': [1, 2, 1], 'west remote_pool': [1, 1, 1] });
  await lab.east.startApp(0);
  await waitForPools(lab.east, { 'east local_pool': [2, 2, 1], 'west remote_pool': [1, 1, 1] });
});

/** Waits until the pools' servers up, servers, and whether it is up, are so. */
async function waitForPools(site: SiteLab, expected: Record<string, [number, number, number]>): Promise<void> {
  let last = {};
  await waitUntil(
    async () => {
      const scrape = await Scrape.of(site.opsUrl);
      const entries = Object.keys(expected).map((name) => {
        const [of = '', cluster = ''] = name.split(' ');
        const value = (metric: string) => scrape.value(metric, { site: of, cluster, application: DEFAULT_APPLICATION });
        const isKnown = value('pool_health_known') === 1;
        return [name, isKnown ? [value('pool_servers_up'), value('pool_servers'), value('pool_up')] : 'unknown'];
      });
      last = Object.fromEntries(entries);
      return JSON.stringify(last) === JSON.stringify(expected);
    },
    { what: `${site.name}'s pools to be ${JSON.stringify(expected)}` },
  ).catch((error: unknown) => {
    throw new Error(`they are ${JSON.stringify(last)}`, { cause: error });
  });
}
