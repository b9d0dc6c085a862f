import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { holdKey, openKey, siteKey } from '../../src/contract.ts';
import { Client } from '../support/client.ts';
import { EAST_COOKIE, type SiteLab, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

let lab: TwoSites;
let east: SiteLab;
let west: SiteLab;
beforeAll(async () => {
  lab = await startTwoSites({ fastPath: true, sidecars: 2 });
  ({ east, west } = lab);
});
afterAll(async () => await lab?.close());
afterEach(async () => {
  for (const [index, sidecar] of east.sidecars.entries()) if (sidecar.hasEnded) await east.startSidecar(index);
  await fetch(`${east.opsUrl}/release?site=west`, { method: 'POST' });
  await lab.restore();
});

const hold = (query = '') => fetch(`${east.opsUrl}/hold?site=west&reason=rehearsal${query}`, { method: 'POST' });

async function release(): Promise<void> {
  expect((await fetch(`${east.opsUrl}/release?site=west`, { method: 'POST' })).status).toBe(200);
  await untilHeld(false);
  await east.waitForFastPath('on', 'west');
}

/** Until every sidecar says so. */
async function untilHeld(isHeld: boolean): Promise<void> {
  await waitUntil(
    async () => {
      const states = await Promise.all(east.sidecars.map((_, index) => east.state(index)));
      return states.every(({ pools }) => (pools[1]?.held !== null) === isHeld && pools[1]?.up === !isHeld);
    },
    { what: `the sidecars to ${isHeld ? 'hold west' : 'have west up'}` },
  );
}

async function newClient(site: SiteLab): Promise<Client> {
  const client = new Client();
  expect((await client.ask(site.url)).site).toBe(site.name);
  return client;
}

const cookiesOf = (client: Client) => [...client.cookies.keys()];

test('under load each request is served while west is held and released; its sessions are adopted, once', async () => {
  const clients = await Promise.all([west, west, east].map(newClient));
  const served: string[] = [];
  let isOver = false;
  const load = clients.map(async (client, index) => {
    for (let time = 0; !isOver; time++) {
      const method = time % 2 === 0 ? 'GET' : 'POST';
      const answer = await client.request(east.url, { method });
      served.push(answer.status === 200 ? `${index} ${JSON.parse(answer.body).site}` : `${index} ${answer.status}`);
    }
  });
  const seen = (what: string) => waitUntil(() => served.includes(what), { what: `a request that is ${what}` });
  await seen('0 west');
  expect((await hold('&for=1h')).status).toBe(200);
  await untilHeld(true);
  await seen('0 east');
  await seen('1 east');
  await release();
  const newAtWest = await newClient(west);
  expect((await newAtWest.ask(east.url)).site).toBe('west');
  isOver = true;
  await Promise.all(load);
  expect(served.filter((what) => !/^\d (east|west)$/.test(what))).toEqual([]);
  for (const index of [0, 1, 2]) {
    const sites = served.filter((what) => what.startsWith(`${index} `)).map((what) => what.slice(2));
    // Adopted for good: it does not go back to west when that is released.
    expect(sites.join(' ')).toMatch(/^(west )*east( east)*$/);
    expect(cookiesOf(clients[index] ?? newAtWest)).toEqual([EAST_COOKIE]);
  }
  for (const client of [...clients, newAtWest]) client.close();
});

test('a hold is shared by the sidecars, with its reason and end, and outlives them; Envoy goes by it without any', async () => {
  const [moves, movesLater, stays] = [await newClient(west), await newClient(west), await newClient(east)];
  expect((await hold('&for=1h')).status).toBe(200);
  // Who is answered sees it at once.
  expect(await east.runtime(openKey('default', 'west'))).toBe('0');
  expect(await east.runtime(siteKey('default', 'west'))).toBe('0');
  expect(Number(await east.runtime(holdKey('default', 'west')))).toBeGreaterThan(Date.now() / 1_000);
  await untilHeld(true);
  expect((await moves.ask(east.url)).site).toBe('east');
  // What west forwards is served as ever, and west is asked nothing.
  expect((await stays.ask(west.url)).site).toBe('east');
  await Promise.all(east.sidecars.map((sidecar) => sidecar.stop('SIGKILL')));
  for (const method of ['GET', 'POST']) {
    const client = await newClient(west);
    const answer = await client.request(east.url, { method });
    expect([answer.status, JSON.parse(answer.body).site]).toEqual([200, 'east']);
    expect(cookiesOf(client)).toEqual([EAST_COOKIE]);
    client.close();
  }
  expect((await movesLater.ask(east.url)).site).toBe('east');
  await Promise.all(east.sidecars.map((_, index) => east.startSidecar(index)));
  await untilHeld(true);
  const { pools, applications } = await east.state(1);
  expect(pools[1]).toMatchObject({ up: false, servers_up: 1, held: { reason: 'rehearsal' } });
  expect(Date.parse(pools[1]?.held?.until ?? '')).toBeGreaterThan(Date.now() + 3_000_000);
  expect(applications[0]?.verdict).toBe('East serves its clients; west is held: rehearsal.');
  for (const client of [moves, movesLater, stays]) client.close();
});

test('an Envoy that has restarted is told of it again, and a hold whose time is over ends', async () => {
  expect((await hold()).status).toBe(200);
  await untilHeld(true);
  await east.envoy?.stop('SIGKILL');
  await east.startEnvoy();
  await waitUntil(async () => (await east.runtime(openKey('default', 'west'))) === '0', { what: 'the key' });
  const client = await newClient(west);
  // Refused as long as Envoy has not yet found this site's own pool up.
  await waitUntil(async () => (await hold('&for=1s')).status === 200, { what: 'the hold to be taken' });
  await untilHeld(false);
  await east.waitForFastPath('on', 'west');
  expect(await east.runtime(openKey('default', 'west'))).toBe('100');
  expect(await east.runtime(holdKey('default', 'west'))).toBe('0');
  expect((await client.ask(east.url)).site).toBe('west');
  client.close();
});

describe('while the local pool is down', () => {
  test('a hold is refused, unless it is forced', async () => {
    await east.stopPool();
    await east.waitForStatus(503);
    const refused = await hold();
    expect([refused.status, await refused.text()]).toEqual([
      409,
      "without west no site takes new clients: east's pool is down or drains, and no third site is up\n",
    ]);
    expect((await hold('&force')).status).toBe(200);
    await untilHeld(true);
    const text = "No site is up: east's pool is down, and west is held (rehearsal): release west";
    expect((await east.state()).applications[0]).toMatchObject({ verdict: `${text}.`, verdict_level: 'down' });
    await waitUntil(async () => (await east.state()).changes.some(({ message }) => message === text), {
      what: 'the log to say so',
    });
    // What no server here takes Envoy tries elsewhere as the last resort, also at a site that is held.
    await expectServedByWest();
    await Promise.all(east.sidecars.map((sidecar) => sidecar.stop('SIGKILL')));
    await expectServedByWest();
  });
});

async function expectServedByWest(): Promise<void> {
  for (const cookies of [[], [WEST_COOKIE]]) {
    for (const method of ['GET', 'POST']) {
      const client = new Client();
      for (const name of cookies) client.cookies.set(name, 'x');
      const answer = await client.request(east.url, { method });
      expect([answer.status, JSON.parse(answer.body).site]).toEqual([200, 'west']);
      expect(cookiesOf(client)).toEqual([WEST_COOKIE]);
      client.close();
    }
  }
}
