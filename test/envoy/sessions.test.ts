import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { DEFAULT_APPLICATION } from '../../src/config/config.ts';
import { SESSION_KINDS, type SessionKind } from '../../src/metrics/sessions.ts';
import { Client, serverOf } from '../support/client.ts';
import { Scrape } from '../support/scrape.ts';
import { EAST_COOKIE, type SiteLab, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

type Sessions = Record<SessionKind, number | null>;

async function sessionsOf(site: SiteLab): Promise<Sessions> {
  const sessions = (await site.state()).applications[0]?.sessions;
  if (sessions === undefined) throw new Error(`${site.name} has no application`);
  return Object.fromEntries(SESSION_KINDS.map((kind) => [kind, sessions[kind]?.total ?? null])) as Sessions;
}

/** What is counted from now on: waits until it is this, without what is not there, and for one more poll. */
async function countsFromNow(site: SiteLab): Promise<(expected: Partial<Sessions>) => Promise<void>> {
  const before = await sessionsOf(site);
  return async (expected) => {
    const all = Object.fromEntries(SESSION_KINDS.map((kind) => [kind, expected[kind] ?? 0]));
    const more = async () => {
      const now = await sessionsOf(site);
      return Object.fromEntries(SESSION_KINDS.map((kind) => [kind, (now[kind] ?? 0) - (before[kind] ?? 0)]));
    };
    await waitUntil(async () => JSON.stringify(await more()) === JSON.stringify(all), {
      what: `${site.name} to count ${JSON.stringify(expected)}`,
    });
    const sinceMs = performance.now();
    const isPolledAgain = async () => ((await site.state()).health_age_ms ?? Infinity) < performance.now() - sinceMs;
    await waitUntil(isPolledAgain, { what: 'one more poll' });
    expect(await more()).toEqual(all);
  };
}

describe.each([true, false])('with the fast path: %s', (fastPath) => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ fastPath });
  });
  afterAll(async () => await lab?.close());

  test('sessions are counted by what becomes of them: known and new, forwarded, whose server is gone, moved, adopted', async () => {
    const { east, west } = lab;
    // Of this test alone, before the first own session comes.
    const clients = Array.from({ length: 5 }, () => new Client());
    const servers: string[] = [];
    const [inEast, inWest] = [await countsFromNow(east), await countsFromNow(west)];
    for (const client of clients) servers.push(serverOf(await client.ask(east.url)));
    for (const client of clients) await client.ask(east.url);
    for (const client of clients) await client.ask(west.url);
    await inEast({ new: 5, known: 10 });
    await inWest({ forwarded: 5 });

    const gone = servers.filter((server) => server === 'east/app-1').length;
    const afterKill = await countsFromNow(east);
    await east.apps[0]?.stop('SIGKILL');
    // Each once before Envoy's health check has noticed, and where the server was another by then, once after it.
    const cookies = clients.map((client) => `${EAST_COOKIE}=${client.cookies.get(EAST_COOKIE)}`);
    const askAll = async () => {
      for (const cookie of cookies) await new Client().ask(east.url, { headers: { cookie } });
    };
    await askAll();
    await waitUntil(async () => (await east.state()).pools[0]?.servers_up === 1, { what: 'the server to be down' });
    await askAll();
    await afterKill({ known: 10, server_gone: 2 * gone });

    await east.apps[1]?.stop('SIGKILL');
    await east.waitForStatus(503);
    await west.waitForRemote('down');
    const [moving, adopting] = [await countsFromNow(east), await countsFromNow(west)];
    for (const client of clients) {
      expect((await client.ask(east.url)).site).toBe('west');
      expect([client.cookies.has(EAST_COOKIE), client.cookies.has(WEST_COOKIE)]).toEqual([false, true]);
    }
    await moving({ moved: 5 });
    await adopting({ adopted: 5 });

    await lab.restore();
    const [back, home] = [await countsFromNow(east), await countsFromNow(west)];
    for (const client of clients) expect((await client.ask(east.url)).site).toBe('west');
    const both = `${cookies[0]}; ${WEST_COOKIE}=${clients[0]?.cookies.get(WEST_COOKIE)}`;
    await new Client().ask(east.url, { headers: { cookie: both } });
    await back({ forwarded: 6, both_cookies: 1 });
    await home({ known: 6, both_cookies: 1 });

    const scrape = await Scrape.fresh(east.opsUrl);
    const labels = { site: 'east', application: DEFAULT_APPLICATION };
    const value = (kind: SessionKind, site: string) =>
      scrape.value('session_requests_total', { kind, ...labels, site });
    expect(value('known', 'east')).toBe(20);
    expect(value('new', 'none')).toBe(5);
    expect(value('server_gone', 'east')).toBe(2 * gone);
    expect([value('moved', 'east'), value('forwarded', 'west'), value('both_cookies', 'west')]).toEqual([5, 6, 1]);
    for (const client of clients) client.close();
  });
});
