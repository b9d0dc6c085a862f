import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { EAST_COOKIE, startTwoSites } from '../support/two-sites.ts';

/** Servers with settings and faults of their own, beside or instead of the lab's. */

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function startServer(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> {
  const server = createServer(answer);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

const portOf = (server: Server) => (server.address() as AddressInfo).port;
const addressOf = (server: Server) => `127.0.0.1:${portOf(server)}`;

const json = (response: ServerResponse, value: object) => void response.end(JSON.stringify(value));

test('a server that closes its idle connections loses no request that meets the closing', async () => {
  const IDLE_MS = 3_000;
  const server = await startServer((request, response) => {
    request.resume().once('end', () => json(response, { site: 'east', server: 'closing' }));
  });
  server.keepAliveTimeout = IDLE_MS;
  const lab = await startTwoSites({
    configure: (file, site) => {
      if (site === 'east') Object.assign(file.local_pool, { servers: [addressOf(server)], idle_timeout: '1s' });
    },
  });
  try {
    const edges = [lab.east, lab.west];
    const clients = await Promise.all(
      Array.from({ length: 60 }, async () => {
        const client = new Client();
        await client.ask(lab.east.url);
        return client;
      }),
    );
    let asked = 0;
    for (let round = 0; round < 4; round++) {
      // Each around the moment at which the server closes.
      const answers = clients.map(async (client, index) => {
        const until = performance.now() + IDLE_MS - 60 + index * 2;
        await waitUntil(() => performance.now() >= until, { what: 'the moment of closing', intervalMs: 1 });
        asked++;
        return await client.request(edges[index % 2]?.url ?? '', { method: 'POST', body: 'x' });
      });
      for (const answer of await Promise.all(answers)) expect(answer.status, answer.body).toBe(200);
    }
    expect(asked).toBe(240);
    for (const client of clients) client.close();
  } finally {
    await lab.close();
  }
});

test('a server that passes its health checks and answers 5xx to all else is ejected', async () => {
  let failures = 0;
  const gray = await startServer((request, response) => {
    if (request.url === '/healthz') return void response.end();
    failures++;
    return void response.writeHead(500).end();
  });
  const lab = await startTwoSites({
    configure: (file, site) => {
      if (site !== 'east') return;
      const others = file.local_pool.servers as string[];
      Object.assign(file.local_pool, { servers: [...others, addressOf(gray)], eject: { errors: 3, for: '30s' } });
    },
  });
  try {
    const clients = Array.from({ length: 20 }, () => new Client());
    for (let round = 0; round < 20; round++) {
      for (const client of clients) await client.request(lab.east.url);
    }
    // In 400 requests of 20 sessions, a third of which would stay at that server.
    expect(failures).toBeGreaterThan(0);
    expect(failures).toBeLessThanOrEqual(10);
    for (const client of clients) client.close();
  } finally {
    await lab.close();
  }
});

test('180 cookies over HTTP/1.1 and an upload as large as can be repeated are served through a refusal', async () => {
  const lab = await startTwoSites();
  try {
    const client = new Client();
    await client.ask(lab.east.url);
    const session = `${EAST_COOKIE}=${client.cookies.get(EAST_COOKIE)}`;
    const many = Array.from({ length: 180 }, (_, index) => `c${index}=v`).join('; ');
    const answer = await client.request(lab.west.url, { headers: { cookie: `${many}; ${session}` } });
    expect(answer.status).toBe(200);
    // East's pool dies: what is forwarded there is refused, and the body is sent again here.
    for (const mb of [1, 2, 4, 7]) {
      await lab.east.stopPool();
      const upload = await new Client().request(lab.west.url, {
        method: 'POST',
        body: Buffer.alloc(mb * 1024 * 1024, 'x'),
        headers: { cookie: session },
        timeoutMs: 20_000,
      });
      expect(upload.status, `${mb} MB: ${upload.body.slice(0, 100)}`).toBe(200);
      expect(JSON.parse(upload.body)).toMatchObject({ site: 'west', bodyBytes: mb * 1024 * 1024 });
      await lab.east.waitForStatus(503);
      await lab.east.startPool();
      await lab.ready();
    }
    // Past the limit nobody can send it again; it is still a plain 503.
    await lab.east.stopPool();
    const tooLarge = await new Client().request(lab.west.url, {
      method: 'POST',
      body: Buffer.alloc(30 * 1024 * 1024, 'x'),
      headers: { cookie: session },
      timeoutMs: 20_000,
    });
    expect([200, 503], tooLarge.body.slice(0, 100)).toContain(tooLarge.status);
    expect(tooLarge.headers).not.toHaveProperty('x-site-refused');
    client.close();
  } finally {
    await lab.close();
  }
});
