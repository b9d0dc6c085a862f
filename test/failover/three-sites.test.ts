import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { EAST_COOKIE, startTwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/** East and west are whole sites; of north there is what the others see of it. */

const NORTH_COOKIE = 'NNPOLEXY';
const WATCHED_MS = 6_000;
/** So many requests of each method are served meanwhile, or it goes on. */
const ENOUGH = 50;

/** Health checks take 1.5 s, and longer on a busy machine. */
const LAST_LOST_MS = 3_000;

let north: Server;
const rows: object[] = [];

beforeAll(async () => {
  north = createServer((request, response) => {
    if (request.url === '/local_pool_status') return void response.end('LOCAL POOL STATE: UP');
    response.setHeader('set-cookie', `${NORTH_COOKIE}=x; Path=/`);
    const seen = { site: 'north', server: 'north', hop: request.headers['x-site-hop'] ?? null };
    return void request.resume().once('end', () => response.end(JSON.stringify(seen)));
  });
  await new Promise<void>((resolve) => north.listen(0, '127.0.0.1', resolve));
});
afterAll(() => {
  north.closeAllConnections();
  north.close();
  console.table(rows);
});

test.each(['alive', 'dead'] as const)(
  'two of three pools are dead and the third serves, sidecars %s',
  async (sidecars) => {
    const servers = [`127.0.0.1:${(north.address() as AddressInfo).port}`];
    const lab = await startTwoSites({
      configure: (file) => {
        file.remote_pools.push({ site: 'north', cluster: 'north_pool', cookie: NORTH_COOKIE, servers });
      },
    });
    try {
      await waitUntil(async () => (await lab.east.stat('cluster.north_pool.membership_healthy')) === 1, {
        what: 'north',
      });
      if (sidecars === 'dead') for (const site of lab.sites) await site.sidecar().stop('SIGKILL');
      await Promise.all(lab.sites.map((site) => site.stopPool()));
      const killedAt = performance.now();
      const newCounts = () => ({ requests: 0, lost: 0, lastLostMs: 0, longestMs: 0 });
      const counts = { GET: newCounts(), POST: newCounts() };
      const isEnough = () => Object.values(counts).every(({ requests, lost }) => requests - lost > ENOUGH);
      while (performance.now() - killedAt < WATCHED_MS || !isEnough()) {
        for (const edge of lab.sites) {
          for (const cookie of ['a=1', `${EAST_COOKIE}=x`, `${WEST_COOKIE}=x`, `${NORTH_COOKIE}=x`]) {
            for (const method of ['GET', 'POST'] as const) {
              const client = new Client();
              const body = method === 'POST' ? { body: 'x' } : {};
              const answer = await client.request(edge.url, { method, headers: { cookie }, ...body });
              client.close();
              const seen = counts[method];
              seen.requests++;
              seen.longestMs = Math.max(seen.longestMs, Math.round(answer.durationMs));
              if (answer.status === 200) {
                expect(JSON.parse(answer.body)).toMatchObject({ site: 'north', hop: edge.name });
                expect(client.cookies.has(EAST_COOKIE) || client.cookies.has(WEST_COOKIE)).toBe(false);
              } else {
                seen.lost++;
                seen.lastLostMs = Math.round(performance.now() - killedAt);
              }
            }
          }
        }
      }
      for (const [method, { requests, lost, lastLostMs, longestMs }] of Object.entries(counts)) {
        const what = `three sites, two pools dead, sidecars ${sidecars}`;
        rows.push({ what, method, requests, lost, 'last lost after ms': lastLostMs, 'longest wait ms': longestMs });
        expect(lastLostMs).toBeLessThan(LAST_LOST_MS);
      }
    } finally {
      await lab.close();
    }
  },
);
