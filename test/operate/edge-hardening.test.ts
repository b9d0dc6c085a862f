import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createAppServer } from '../../lab/app-server.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { HOST_NAME } from '../support/certificates.ts';
import { Client } from '../support/client.ts';
import { HopCertificates } from '../support/hop-certificates.ts';
import { sendBytes } from '../support/raw-http.ts';
import { withRenderedEnvoy } from '../support/rendered-envoy.ts';
import {
  type ConfigFile,
  ENVOY_RELEASES,
  type EnvoyRelease,
  type SiteLab,
  startTwoSites,
  type TwoSites,
  WEST_COOKIE,
} from '../support/two-sites.ts';

/** What the edge lets in, how much of it, and what it believes of its sender. */

const OLDEST_AND_NEWEST: readonly EnvoyRelease[] = ['1.36.4', '1.40.0'];

let directory: string;
let certificates: HopCertificates;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-hardening-'));
  certificates = await HopCertificates.create(directory);
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

/** Of a site with a listener for other sites. */
function hopListener(): Record<string, unknown> {
  const file = { envoy: {}, remote_pools: [] as Record<string, unknown>[] };
  certificates.configure(file as unknown as ConfigFile, 'east');
  const { secrets_dir: _, ...envoy } = file.envoy as Record<string, unknown>;
  return envoy;
}

const EVERY_RULE = {
  limits: { connections: 1_000, heap: '1GiB' },
  trusted_hops: 1,
  proxy_protocol: true,
  node_id: 'east-edge-7',
  headers_with_underscores: 'reject',
  merge_slashes: true,
  path_with_escaped_slashes: 'unescape_and_forward',
};

test.each(ENVOY_RELEASES)('Envoy %s starts without a warning', async (release) => {
  for (const envoy of [{}, { ...hopListener(), ...EVERY_RULE }]) {
    const file = {
      remote_pools: [{ site: 'west', cluster: 'remote_pool', cookie: WEST_COOKIE, servers: ['localhost:1'] }],
    };
    await withRenderedEnvoy({ release, directory, envoy, file }, async ({ admin, lines }) => {
      const { node } = (await (await fetch(`${admin}/server_info`)).json()) as { node: { id: string } };
      expect(node.id).toBe('trusted_hops' in envoy ? 'east-edge-7' : 'east-edge');
      expect(lines.filter((line) => /\[(warning|error|critical)\]/.test(line))).toEqual([]);
    });
  }
});

describe.each(OLDEST_AND_NEWEST)('Envoy %s', (release) => {
  test('takes no more connections of clients than it may, and still those of other sites and of the sidecar', async () => {
    const hop = hopListener();
    const envoy = { ...hop, limits: { connections: 3 } };
    await withRenderedEnvoy({ release, directory, envoy }, async ({ edgePort, admin }) => {
      const open = await Promise.all([1, 2, 3].map(() => openConnection(edgePort)));
      expect(open.map(({ answer }) => answer)).toEqual(Array(3).fill('HTTP/1.1 503'));
      expect((await openConnection(edgePort)).answer).toBe('closed');
      expect((await fetch(`${admin}/ready`)).status).toBe(200);
      const client = await certificates.ca.clientOf(certificates.filesOf('west'));
      const site = connectTls({ port: certificates.ports.east, servername: HOST_NAME, ...client });
      site.write('GET /local_pool_status HTTP/1.1\r\nhost: x\r\nx-site-hop: west\r\n\r\n');
      const [answer] = (await once(site, 'data')) as [Buffer];
      expect(answer.toString()).toContain('LOCAL POOL STATE: DOWN');
      site.destroy();
      open[0]?.socket.destroy();
      await waitUntil(async () => (await openConnection(edgePort)).answer === 'HTTP/1.1 503', { what: 'a free place' });
      for (const { socket } of open) socket.destroy();
    });
  });

  test('answers 503 when its heap is full, the status URI as well, so that other sites take it for down', async () => {
    const envoy = { limits: { heap: '64MiB' } };
    const patch = (text: string) => text.replace('max_heap_size_bytes: 67108864', 'max_heap_size_bytes: 1000');
    await withRenderedEnvoy({ release, directory, envoy, patch }, async ({ edgePort, admin }) => {
      const client = new Client();
      const ask = async (path: string) => await client.request(`http://127.0.0.1:${edgePort}${path}`);
      await waitUntil(async () => (await ask('/')).body === 'envoy overloaded', { what: 'requests to be refused' });
      expect(await ask('/local_pool_status')).toMatchObject({ status: 503, body: 'LOCAL POOL STATE: DOWN' });
      expect((await fetch(`${admin}/ready`)).status).toBe(200);
      client.close();
    });
  });

  test('believes the PROXY protocol of its load balancer, and takes no client without', async () => {
    const envoy = { proxy_protocol: true };
    await withRenderedEnvoy({ release, directory, envoy }, async ({ edgePort, serverPort, lines }) => {
      const app = createAppServer({ application: 'app', site: 'east', server: 'app-1', port: serverPort });
      await once(app.listen(serverPort, '127.0.0.1'), 'listening');
      const request = 'GET /of-proxy HTTP/1.1\r\nhost: x\r\nx-forwarded-proto: https\r\nconnection: close\r\n\r\n';
      const ask = async (before: string) =>
        await sendBytes(`http://127.0.0.1:${edgePort}`, `${before}${request}`).catch(() => ({ status: 0, body: '' }));
      const preface = 'PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n';
      await waitUntil(async () => (await ask(preface)).status === 200, { what: 'the server to be up' });
      const { headers } = JSON.parse((await ask(preface)).body);
      expect(headers).toMatchObject({ 'x-forwarded-for': '198.51.100.7', 'x-forwarded-proto': 'http' });
      const logged = () => lines.find((line) => line.includes('/of-proxy'));
      await waitUntil(() => logged() !== undefined, { what: 'the access log' });
      expect(logged()).toContain('"client":"198.51.100.7:4711"');
      expect((await ask('')).status).toBe(0);
      app.closeAllConnections();
      app.close();
    });
  });

  describe('as it is by default', () => {
    const lab = useLab(release, () => {});

    test.each(['east', 'west'] as const)("the Server header of %s's application reaches the client", async (site) => {
      const client = await clientOf(lab(), site);
      const answer = await client.request(`${lab().east.url}/set-headers?server=app%2F1.0`);
      expect(answer.headers.server).toBe('app/1.0');
      const { headers } = await client.request(lab().east.url);
      expect(headers).not.toHaveProperty('server');
      client.close();
    });

    test('a header with an underscore reaches the application', async () => {
      const client = new Client();
      const { headers } = await client.ask(lab().east.url, { headers: { user_id: '7' } });
      expect(headers).toMatchObject({ user_id: '7' });
      client.close();
    });

    test.each([
      ['//a///b', '//a///b'],
      ['/a%2Fb%5Cc', '/a%2Fb%5Cc'],
      ['/a/./b/../c?d=/../e', '/a/c?d=/../e'],
      ['/a/%2e%2E/c', '/c'],
      ['/%7Ea', '/~a'],
    ])('the path %j reaches the application as %j', async (path, expected) => {
      for (const cookies of ['', `cookie: ${WEST_COOKIE}=x\r\n`]) {
        const { body } = await sendBytes(lab().east.url, `GET ${path} HTTP/1.1\r\nhost: x\r\n${cookies}\r\n`);
        expect(JSON.parse(body).path).toBe(expected);
      }
    });

    test('what a client says of itself is not believed, and its request id is kept', async () => {
      const client = await clientOf(lab(), 'west');
      const headers = {
        'x-forwarded-for': '198.51.100.1',
        'x-forwarded-proto': 'https',
        'x-request-id': `of-client-${release}`,
      };
      const answer = await client.ask(`${lab().east.url}/believed`, { headers });
      expect(answer).toMatchObject({ site: 'west', headers: { 'x-forwarded-proto': 'http' } });
      for (const site of lab().sites) {
        expect(await logged(site, '/believed')).toMatchObject({ request_id: `of-client-${release}` });
      }
      expect((await logged(lab().east, '/believed')).client).toMatch(/^127\.0\.0\.1:/);
      client.close();
    });
  });

  describe('behind a proxy, with a listener for other sites', () => {
    const lab = useLab(release, (file, site) => {
      certificates.configure(file, site);
      file.envoy.trusted_hops = 1;
    });

    test.each(['east', 'west'] as const)('%s sees the client and the scheme as the proxy has', async (site) => {
      const client = await clientOf(lab(), site);
      const path = `/behind-proxy-${site}`;
      const headers = {
        'x-forwarded-for': '203.0.113.9, 198.51.100.1',
        'x-forwarded-proto': 'https',
        'x-request-id': 'of-client',
      };
      const answer = await client.ask(`${lab().east.url}${path}`, { headers });
      expect(answer).toMatchObject({ site, headers: { 'x-forwarded-proto': 'https' } });
      expect(String(answer.headers['x-forwarded-for'])).toMatch(/^203\.0\.113\.9, ?198\.51\.100\.1, ?[0-9.]+/);
      const first = await logged(lab().east, path);
      expect(first.client).toMatch(/^198\.51\.100\.1:/);
      expect(first.request_id).toMatch(/^[0-9a-f-]{36}$/);
      if (site === 'west') {
        const second = await logged(lab().west, path);
        expect([second.client, second.request_id]).toEqual([first.client, first.request_id]);
      }
      client.close();
    });
  });

  test('a burst of requests over new connections to another site is served there, past the streams of one', async () => {
    const configure = (file: ConfigFile) => void Object.assign(file.remote_pools[0] ?? {}, { protocol: 'http2' });
    const sites = await startTwoSites({ envoyVersion: release, concurrency: 1, configure });
    const client = new Client();
    try {
      const post = { method: 'POST', body: 'x', headers: { cookie: `${WEST_COOKIE}=x` }, timeoutMs: 60_000 };
      const answers = Array.from({ length: 300 }, async () => await client.ask(`${sites.east.url}/?waitMs=500`, post));
      expect(new Set((await Promise.all(answers)).map(({ site }) => site))).toEqual(new Set(['west']));
      expect(await sites.east.stat('cluster.remote_pool.http2.rx_reset')).toBe(0);
    } finally {
      client.close();
      await sites.close();
    }
  });

  test('behind a proxy, without a listener for other sites, the scheme is kept at both', async () => {
    const sites = await startTwoSites({
      envoyVersion: release,
      configure: (file) => {
        file.envoy.trusted_hops = 1;
        file.envoy.headers_with_underscores = 'drop';
        file.envoy.path_with_escaped_slashes = 'unescape_and_forward';
        file.envoy.normalize_path = false;
        file.envoy.merge_slashes = true;
      },
    });
    try {
      const client = await clientOf(sites, 'west');
      const headers = { 'x-forwarded-for': '198.51.100.1', 'x-forwarded-proto': 'https', user_id: '7' };
      const answer = await client.ask(`${sites.east.url}/a%2F.//b`, { headers });
      expect(answer).toMatchObject({ site: 'west', path: '/a/./b', headers: { 'x-forwarded-proto': 'https' } });
      expect(answer.headers).not.toHaveProperty('user_id');
      // Nobody but the sidecar reads the escape.
      const { body } = await client.request(`${sites.east.url}/local%5Fpool_status`);
      expect(body).toBe('LOCAL POOL STATE: UP');
      client.close();
    } finally {
      await sites.close();
    }
  });
});

/** Two sites for the tests of a group. */
function useLab(envoyVersion: EnvoyRelease, configure: (file: ConfigFile, site: 'east' | 'west') => void) {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ envoyVersion, configure });
  });
  afterAll(async () => await lab?.close());
  return () => lab;
}

/** A client with a session at a site. */
async function clientOf(lab: TwoSites, site: 'east' | 'west'): Promise<Client> {
  const client = new Client();
  await client.ask(lab[site].url);
  return client;
}

/** What a site's access log says of a path that was asked for once. */
async function logged(site: SiteLab, path: string): Promise<{ client: string; request_id: string }> {
  const find = () => site.envoy?.lines.find((line) => line.includes(`"path":"${path}"`));
  await waitUntil(() => find() !== undefined, { what: `${site.name}'s log to have ${path}` });
  return JSON.parse(find() ?? '');
}

/** Asks on a connection of its own, which stays open. */
async function openConnection(port: number): Promise<{ socket: Socket; answer: string }> {
  const socket = connect(port, '127.0.0.1');
  const answer = new Promise<string>((resolve) => {
    socket.once('data', (data: Buffer) => resolve(data.toString().slice(0, 12)));
    socket.once('error', () => resolve('closed'));
    socket.once('close', () => resolve('closed'));
  });
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  return { socket, answer: await answer };
}
