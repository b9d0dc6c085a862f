import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { waitUntil } from '../../../lab/wait-until.ts';
import { BUILD_TIMEOUT_MS, whyNoGo } from '../../install/go-tools.ts';
import { Client, serverOf } from '../client.ts';
import { findingsIn } from '../doctor-site.ts';
import { Load, type LoadReport } from '../load.ts';
import { EAST_COOKIE, WEST_COOKIE } from '../two-sites.ts';
import { whyNoNamespace } from './networks.ts';
import { GATEWAY_HOST } from './recipe.ts';
import type { GatewaySite } from './site.ts';
import type { GatewaySites } from './sites.ts';

const HOST = { headers: { host: GATEWAY_HOST } };
const POST = { ...HOST, method: 'POST', body: Buffer.alloc(2_000, 'x') };

export interface Gateways {
  readonly title: string;
  readonly start: () => Promise<GatewaySites>;
  /** The pool of the other site, as in the sidecar's config file. */
  readonly remotePool: string;
  /** The status of a refusal. */
  readonly refusal: number;
}

const why = (await whyNoGo()) ?? (await whyNoNamespace());
const isSkipped = why !== null && process.env.CI === undefined;
if (isSkipped) console.warn(`no gateway is run: ${why}`);

const rows: object[] = [];
function record(
  what: string,
  { requests, lost, mostLostByOneClient, windowMs, longestMs, moved, bounced }: LoadReport,
): void {
  rows.push({
    ...{ what, requests, lost, 'by one client': mostLostByOneClient, 'window ms': windowMs, 'longest ms': longestMs },
    ...{ moved, bounced },
  });
}

/** The tests of two sites behind a gateway, which are the same for each kind of it. */
export function describeGatewaySites({ title, start, remotePool, refusal }: Gateways): void {
  describe.skipIf(isSkipped)(title, () => {
    let sites: GatewaySites;
    let east: GatewaySite;
    let west: GatewaySite;
    const clients: Client[] = [];

    beforeAll(async () => {
      sites = await start();
      ({ east, west } = sites);
    }, BUILD_TIMEOUT_MS);
    afterAll(async () => {
      console.table(rows);
      await sites?.close();
    });
    beforeEach(async () => await sites.restore());
    afterEach(async () => {
      for (const client of clients.splice(0)) client.close();
      await sites.restore();
      for (const site of [east, west]) expect(await wrongs(site), `doctor of ${site.name}`).toEqual([]);
    });

    function newClient(): Client {
      const client = new Client();
      clients.push(client);
      return client;
    }

    /** A client with a session of the site. */
    async function sessionOf(site: GatewaySite): Promise<{ readonly client: Client; readonly server: string }> {
      const client = newClient();
      const server = serverOf(await client.ask(site.url, HOST));
      return { client, server };
    }

    async function waitForStatus(site: GatewaySite, status: 200 | 503, headers = {}): Promise<void> {
      const client = newClient();
      const url = `${site.url}/local_pool_status`;
      const body = `LOCAL POOL STATE: ${status === 200 ? 'UP' : 'DOWN'}`;
      await waitUntil(
        async () => {
          const answer = await client.request(url, { headers: { ...HOST.headers, ...headers } });
          return answer.status === status && answer.body === body;
        },
        { what: `the status URI of ${site.name} to say ${status}` },
      );
    }

    test('a session stays at its site and server, whichever site is asked', async () => {
      for (const [home, other, cookie] of [
        [east, west, EAST_COOKIE],
        [west, east, WEST_COOKIE],
      ] as const) {
        const { client, server } = await sessionOf(home);
        for (let count = 0; count < 5; count++) {
          const answer = await client.ask(other.url, HOST);
          expect(serverOf(answer)).toBe(server);
          expect(answer.hop).toBe(other.name);
          expect(serverOf(await client.ask(home.url, HOST))).toBe(server);
        }
        expect([...client.cookies.keys()]).toEqual([cookie]);
      }
    });

    test('with both cookies the other site serves, and the client keeps its cookie only', async () => {
      const ofEast = await sessionOf(east);
      const { client, server } = await sessionOf(west);
      client.cookies.set(EAST_COOKIE, ofEast.client.cookies.get(EAST_COOKIE) ?? '');
      const answer = await client.ask(east.url, HOST);
      expect(serverOf(answer)).toBe(server);
      expect([...client.cookies.keys()]).toEqual([WEST_COOKIE]);
    });

    test("a client's own pool header, hop header and address count for nothing", async () => {
      const spoofed = async (headers: Readonly<Record<string, string>>) =>
        await newClient().request(east.url, { headers: { ...HOST.headers, ...headers } });
      const pool = await spoofed({ 'x-site-pool': remotePool });
      expect(JSON.parse(pool.body)).toMatchObject({ site: 'east', hop: null });
      // The address of west's first server.
      const stick = await spoofed({ 'x-site-stick': Buffer.from('192.0.2.1:8081').toString('base64') });
      expect(JSON.parse(stick.body)).toMatchObject({ site: 'east', hop: null });
      expect(stick.headers).not.toHaveProperty('x-site-stick');
      const hop = await spoofed({ 'x-site-hop': 'west', cookie: `${WEST_COOKIE}=x` });
      expect(JSON.parse(hop.body)).toMatchObject({ site: 'east' });
    });

    test.each([
      ['GET', HOST],
      ['POST', POST],
    ] as const)(
      'servers are stopped after their probes have failed, under load of %s at the other site',
      async (method, request) => {
        const load = await Load.start({ homes: [west.url], edges: [east.url], request });
        await load.during(200);
        await stopAfterProbes();
        await load.during(400);
        await sites.restore();
        await load.during(400);
        const report = await load.stop();
        record(`servers stopped after their probes, ${method} at the other site`, report);
        expect(report.lost, report.losses.join('\n')).toBe(0);
        expect(report.moved).toBe(8);
        expect(report.bounced).toBe(0);
      },
    );

    // Between Envoy's health check and the sidecar's next poll Envoy has nowhere to send what was decided for the local pool.
    test('servers are stopped after their probes have failed, under load at their own site', async () => {
      const load = await Load.start({ homes: [west.url], edges: [west.url], request: HOST });
      await load.during(200);
      await stopAfterProbes();
      await load.during(400);
      const report = await load.stop();
      record('servers stopped after their probes, GET at their own site', report);
      expect(report.windowMs, report.losses.join('\n')).toBeLessThan(700);
      expect(report.moved).toBe(8);
      expect(report.bounced).toBe(0);
    });

    async function stopAfterProbes(): Promise<void> {
      for (const app of west.apps) app.failProbes();
      await east.waitForPools('up', 'down');
      await west.waitForPools('down', 'up');
      for (const app of west.apps) await app.kill();
    }

    test("west's servers are killed, and its sessions are asked for at east", async () => {
      const load = await Load.start({ homes: [west.url], edges: [east.url], request: HOST });
      await load.during(200);
      for (const app of west.apps) await app.kill();
      await east.waitForPools('up', 'down');
      await load.during(400);
      const report = await load.stop();
      record("west's servers killed, GET", report);
      expect(report.mostLostByOneClient, report.losses.join('\n')).toBeLessThanOrEqual(1);
      expect(report.moved).toBe(8);
    });

    test('what another site has forwarded and no server here can take is refused', async () => {
      for (const app of east.apps) await app.kill();
      await east.waitForPools('down', 'up');
      const answer = await newClient().request(east.url, { headers: { ...HOST.headers, 'x-site-hop': 'west' } });
      expect(answer.status).toBe(refusal);
      expect(answer.headers['x-site-refused']).toBe('east');
    });

    test("a server's own headers that Envoys and other sites obey get no further", async () => {
      const query = 'x-site-refused=east&x-envoy-immediate-health-check-fail=true';
      const { client } = await sessionOf(east);
      for (const site of [east, west]) {
        const answer = await client.request(`${site.url}/set-headers?${query}`, HOST);
        expect(answer.status).toBe(200);
        expect(answer.headers).not.toHaveProperty('x-site-refused');
        expect(answer.headers).not.toHaveProperty('x-envoy-immediate-health-check-fail');
      }
      await west.waitForPools('up', 'up');
    });

    test('the sidecar is killed and started again: nothing is lost, and no session moves', async () => {
      const edges = [east.url, west.url];
      const load = await Load.start({ homes: edges, edges, request: HOST });
      for (let count = 0; count < 3; count++) {
        await load.during(200);
        await east.sidecar.stop('SIGKILL');
        await load.during(200);
        await east.startSidecar();
        await east.waitForPools('up', 'up');
      }
      const report = await load.stop();
      record('sidecar killed, 3 times', report);
      expect(report.lost, report.losses.join('\n')).toBe(0);
      expect(report.moved).toBe(0);
    });

    test('without the sidecar Envoy answers the status URI by the local pool', async () => {
      await east.sidecar.stop('SIGKILL');
      await waitForStatus(east, 200);
      for (const app of east.apps) app.failProbes();
      await waitForStatus(east, 503);
      const answer = await newClient().request(east.url, { headers: { ...HOST.headers, 'x-site-hop': 'west' } });
      expect(answer.status).toBe(refusal);
      expect(answer.headers['x-site-refused']).toBe('east');
    });

    test("west's Envoy is killed, and its sessions are asked for at east", async () => {
      const load = await Load.start({ homes: [west.url], edges: [east.url], request: HOST });
      try {
        await load.during(200);
        await west.killEnvoy();
        await east.waitForPools('up', 'down');
        await load.during(400);
      } finally {
        await west.restartGateway();
      }
      const report = await load.stop();
      record("west's Envoy killed, GET", report);
      // The one in flight, and one that the kernel takes for a process that is just being killed.
      expect(report.mostLostByOneClient, report.losses.join('\n')).toBeLessThanOrEqual(2);
      expect(report.moved).toBe(8);
    });

    test('a draining site says so to the world, and goes on serving its sessions', async () => {
      const { client, server } = await sessionOf(east);
      const load = await Load.start({ homes: [east.url], edges: [east.url, west.url], request: HOST });
      expect((await east.cli('drain')).code).toBe(0);
      await waitForStatus(east, 503);
      await waitForStatus(east, 200, { 'x-site-hop': 'west' });
      // The drain outlives the sidecar.
      await east.sidecar.stop('SIGKILL');
      await east.startSidecar();
      await waitForStatus(east, 503);
      await west.waitForPools('up', 'up');
      expect(serverOf(await client.ask(west.url, HOST))).toBe(server);
      expect((await east.cli('undrain')).code).toBe(0);
      await waitForStatus(east, 200);
      const report = await load.stop();
      record('drain, and a restart of the sidecar', report);
      expect(report.lost, report.losses.join('\n')).toBe(0);
      expect(report.moved).toBe(0);
    });
  });
}

/** What doctor calls wrong at the running site. */
async function wrongs(site: GatewaySite): Promise<string[]> {
  const { stdout } = await site.cli('doctor', '--json');
  return findingsIn(stdout)
    .filter(({ mark }) => mark === 'wrong')
    .map(({ check, text }) => `${check}: ${text}`);
}
