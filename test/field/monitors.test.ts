import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { startAdminProxy } from '../support/admin-proxy.ts';
import { Client } from '../support/client.ts';
import { sendBytes } from '../support/raw-http.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

/** What load balancers' monitors send, byte by byte, and what they look for in the answer. */
const MONITORS: readonly (readonly [who: string, bytes: string])[] = [
  ['Avi and HAProxy (HTTP/1.0, no Host)', 'GET /local_pool_status HTTP/1.0\r\n\r\n'],
  ['HTTP/1.0 with keep-alive', 'GET /local_pool_status HTTP/1.0\r\nConnection: close\r\nUser-Agent: monitor\r\n\r\n'],
  ['HAProxy (OPTIONS)', 'OPTIONS /local_pool_status HTTP/1.0\r\n\r\n'],
  ['F5 (HTTP/0.9)', 'GET /local_pool_status\r\n\r\n'],
  ['HTTP/0.9, one line end', 'GET /local_pool_status\r\n'],
  ['HTTP/1.1', 'GET /local_pool_status HTTP/1.1\r\nHost: east.example.com\r\nConnection: close\r\n\r\n'],
  [
    "Java's HttpClient (offers TLS)",
    'GET /local_pool_status HTTP/1.1\r\nHost: east\r\nConnection: Upgrade, close\r\nUpgrade: TLS/1.2\r\n\r\n',
  ],
];

describe.each(['1.40.0', '1.36.4'] as const)('monitors (Envoy %s)', (envoyVersion) => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ envoyVersion });
  });
  afterAll(async () => await lab?.close());
  afterEach(async () => {
    if (lab.east.sidecar().hasEnded) await lab.east.startSidecar();
    if (lab.east.apps.some((app) => app.hasEnded)) await lab.east.startPool();
    await lab.ready();
  });

  async function expectAnswers(state: 'UP' | 'DOWN'): Promise<void> {
    for (const [who, bytes] of MONITORS) {
      const { heads, body } = await sendBytes(lab.east.url, bytes);
      expect(`${who}: ${heads[0]?.split('\r\n', 1)[0]} ${body}`).toMatch(
        new RegExp(
          `: HTTP/1\\.[01] ${state === 'UP' ? '200 OK' : '503 Service Unavailable'} LOCAL POOL STATE: ${state}$`,
        ),
      );
      expect(heads[0]).toMatch(/\r\ncontent-type: text\/html\r\n/i);
      expect(heads[0]).toMatch(/\r\ncache-control: no-store\r\n/i);
    }
  }

  test.each([true, false])('find the status URI, sidecar running: %s', async (isRunning) => {
    if (!isRunning) await lab.east.sidecar().stop('SIGKILL');
    await expectAnswers('UP');
    await lab.east.stopPool();
    await lab.east.waitForStatus(503);
    await expectAnswers('DOWN');
  });

  test('pages are served to clients without a Host, here and at another site', async () => {
    const { heads, body } = await sendBytes(lab.east.url, 'GET /page HTTP/1.0\r\n\r\n');
    expect(heads[0]).toMatch(/^HTTP\/1\.[01] 200 /);
    expect(JSON.parse(body)).toMatchObject({ site: 'east', headers: { host: 'localhost' } });
    const client = new Client();
    await client.ask(lab.west.url);
    const [[name, value] = []] = client.cookies;
    const forwarded = await sendBytes(lab.east.url, `GET / HTTP/1.0\r\nCookie: ${name}=${value}\r\n\r\n`);
    expect(JSON.parse(forwarded.body)).toMatchObject({ site: 'west', hop: 'east' });
    client.close();
  });

  test.each(['TLS/1.2', 'TLS/1.2, HTTP/1.1', 'tls/1.3', 'HTTP/2.0', 'h2c', 'foo/1, bar', 'h2,h2c'])(
    'a client that offers to go on with %s is served as it came, here and at another site',
    async (protocols) => {
      const client = new Client();
      await client.ask(lab.west.url);
      const [[name, value] = []] = client.cookies;
      client.close();
      const offer = `Host: a\r\nConnection: Upgrade, close\r\nUpgrade: ${protocols}\r\n`;
      const at = async (head: string) => (await sendBytes(lab.east.url, `${head}${offer}\r\n`)).body;
      expect(await at('GET /local_pool_status HTTP/1.1\r\n')).toBe('LOCAL POOL STATE: UP');
      expect(JSON.parse(await at('GET / HTTP/1.1\r\n'))).toMatchObject({ site: 'east' });
      expect(JSON.parse(await at(`GET / HTTP/1.1\r\nCookie: ${name}=${value}\r\n`))).toMatchObject({ site: 'west' });
    },
  );
});

test("while both sidecars have lost Envoy's admin interface no site goes off the world and no session moves", async () => {
  const lab = await startTwoSites();
  const proxies = await Promise.all(lab.sites.map((site) => startAdminProxy(site.adminUrl)));
  try {
    for (const [index, site] of lab.sites.entries()) {
      await site.moveAdmin(proxies[index]?.url ?? '');
      await site.sidecar().stop();
      await site.startSidecar();
    }
    await lab.ready();
    const client = new Client();
    const home = await client.ask(lab.east.url);
    for (const proxy of proxies) proxy.mood = 'silent';
    for (const site of lab.sites) {
      await waitUntil(async () => !(await site.state()).health_known, { what: 'health to be unknown' });
    }
    // The other sites' health checks come by several times.
    const checks = await lab.west.stat('cluster.remote_pool.health_check.attempt');
    await waitUntil(async () => (await lab.west.stat('cluster.remote_pool.health_check.attempt')) > checks + 3, {
      what: 'three more health checks',
    });
    for (const site of lab.sites) {
      const status = await client.request(`${site.url}/local_pool_status`);
      expect([status.status, status.body]).toEqual([200, 'LOCAL POOL STATE: UP']);
      expect(await client.ask(site.url)).toMatchObject({ site: 'east', server: home.server });
    }
    // Nobody knows whether another site is up, so a drain is forced, and takes effect as soon as Envoy can be told.
    const drain = async (query: string) => (await fetch(`${lab.east.opsUrl}/drain${query}`, { method: 'POST' })).status;
    expect([await drain(''), await drain('?force')]).toEqual([409, 200]);
    for (const proxy of proxies) proxy.mood = 'well';
    await lab.east.waitForStatus(503);
    const forSites = { headers: { 'x-site-hop': 'west' } };
    expect((await client.request(`${lab.east.url}/local_pool_status`, forSites)).status).toBe(200);
    client.close();
  } finally {
    await Promise.all(proxies.map((proxy) => proxy.close()));
    await lab.close();
  }
});

/** As Tomcat and Django are: a Host that is no host name is a 400. */
function startStrictServer(status: number): Promise<Server> {
  const server = createServer((request, response) => {
    const isName = /^[A-Za-z0-9.-]+(:\d+)?$/.test(request.headers.host ?? '');
    response.writeHead(isName ? status : 400).end();
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

test.each([
  [200, {}, 3],
  // By default a redirect to a login page is as good.
  [302, {}, 3],
  [302, { expect: '200' }, 2],
  [418, { expect: '200,418' }, 3],
  [404, {}, 2],
])('a health check answered %i, with %j: %i of 3 servers are up', async (status, settings, up) => {
  const server = await startStrictServer(status);
  const { port } = server.address() as AddressInfo;
  const lab = await startTwoSites({
    configure: (file, site) => {
      if (site !== 'east') return;
      file.local_pool.servers = [...(file.local_pool.servers as string[]), `127.0.0.1:${port}`];
      file.local_pool.health_check = { path: '/healthz', ...settings };
    },
  });
  try {
    await waitUntil(async () => (await lab.east.stat('cluster.local_pool.health_check.attempt')) >= 6, {
      what: 'two checks of each server',
    });
    await waitUntil(async () => (await lab.east.stat('cluster.local_pool.membership_healthy')) === up, {
      what: `${up} servers to be up`,
    });
  } finally {
    await lab.close();
    server.close();
  }
});
