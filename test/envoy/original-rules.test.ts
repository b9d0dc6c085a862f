import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Client, serverOf } from '../support/client.ts';
import { sendBytes } from '../support/raw-http.ts';
import { EAST_COOKIE, type EnvoyRelease, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

const RELEASES: readonly EnvoyRelease[] = ['1.36.4', '1.38.3', '1.40.0'];

describe.each(RELEASES)('the original rules through two Envoys %s', (envoyVersion) => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ envoyVersion });
  });
  afterAll(async () => await lab?.close());

  test('a new client is served locally and stays at one server', async () => {
    for (const site of lab.sites) {
      const client = new Client();
      const first = await client.ask(site.url);
      expect(first.site).toBe(site.name);
      expect(first.hop).toBeNull();
      expect([...client.cookies.keys()]).toEqual([site.name === 'east' ? EAST_COOKIE : WEST_COOKIE]);
      for (let count = 0; count < 10; count++) expect(serverOf(await client.ask(site.url))).toBe(serverOf(first));
      client.close();
    }
  });

  test.each([
    ['east', 'west'],
    ['west', 'east'],
  ] as const)('a session of %s asked for at %s is served by its own server, 10 of 10', async (owner, edge) => {
    const client = new Client();
    const first = await client.ask(lab[owner].url);
    for (let count = 0; count < 10; count++) {
      const answer = await client.ask(lab[edge].url);
      expect(serverOf(answer)).toBe(serverOf(first));
      expect(answer.hop).toBe(edge);
    }
    expect(client.cookies.size).toBe(1);
    client.close();
  });

  test('a POST body of 200 kB crosses to the other site', async () => {
    const client = new Client();
    await client.ask(lab.east.url);
    const answer = await client.ask(`${lab.west.url}/form`, { method: 'POST', body: Buffer.alloc(200_000, 'x') });
    expect(answer).toMatchObject({ site: 'east', method: 'POST', bodyBytes: 200_000 });
    client.close();
  });

  test.each(['GET', 'HEAD', 'POST'])('the status URI answers %s exactly, with and without a query', async (method) => {
    const client = new Client();
    for (const path of ['/local_pool_status', '/local_pool_status?x=1', '/local%5Fpool_status']) {
      const answer = await client.request(lab.east.url + path, { method });
      expect(answer.status).toBe(200);
      expect(answer.headers['content-type']).toBe('text/html');
      expect(answer.body).toBe(method === 'HEAD' ? '' : 'LOCAL POOL STATE: UP');
    }
    const other = await client.request(`${lab.east.url}/local_pool_status/x`);
    expect(other.body).not.toContain('LOCAL POOL STATE');
    client.close();
  });

  test.each([true, false])("a client's own x-site-pool has no effect, sidecar running: %s", async (isRunning) => {
    if (!isRunning) await lab.east.sidecar().stop('SIGKILL');
    try {
      for (const value of ['remote_pool', 'remote_pool_or_local', 'nonsense']) {
        for (const headers of [{ 'x-site-pool': value }, { 'X-Site-Pool': [value, 'remote_pool'] }]) {
          const client = new Client();
          const answer = await client.ask(lab.east.url, { headers });
          expect(answer.site).toBe('east');
          expect(answer.headers).not.toHaveProperty('x-site-pool');
          client.close();
        }
      }
    } finally {
      if (!isRunning) {
        await lab.east.startSidecar();
        await lab.ready();
      }
    }
  });

  test.each([true, false])('a cookie counts in whatever line it stands, sidecar running: %s', async (isRunning) => {
    if (!isRunning) await lab.east.sidecar().stop('SIGKILL');
    try {
      const cookie = `Cookie: ${WEST_COOKIE}=x`;
      for (const lines of [
        [cookie],
        [cookie, 'Cookie: a=1'],
        ['Cookie: a=1', cookie],
        ['Cookie: a="', cookie, 'Cookie: b'],
      ]) {
        // Node's own client makes them one line.
        const head = ['GET / HTTP/1.1', 'Host: app', 'Connection: close', ...lines].join('\r\n');
        const { body } = await sendBytes(lab.east.url, `${head}\r\n\r\n`);
        expect(body, head).toContain('"site":"west"');
      }
    } finally {
      if (!isRunning) {
        await lab.east.startSidecar();
        await lab.ready();
      }
    }
  });

  test('nothing but the hop header is added for the application', async () => {
    const client = new Client();
    await client.ask(lab.east.url);
    const direct = await client.ask(lab.east.url);
    const forwarded = await client.ask(lab.west.url);
    const ours = (answer: { headers: object }) => Object.keys(answer.headers).filter((name) => /site|pool/.test(name));
    expect(ours(direct)).toEqual([]);
    expect(ours(forwarded)).toEqual(['x-site-hop']);
    client.close();
  });

  describe('with pools down', () => {
    afterEach(async () => {
      for (const site of lab.sites) if (site.apps.some((app) => app.hasEnded)) await site.startPool();
      await lab.ready();
    });

    test('the sessions of a site that is down are served locally', async () => {
      const client = new Client();
      await client.ask(lab.west.url);
      await lab.west.stopPool();
      await lab.west.waitForStatus(503);
      await lab.east.waitForRemote('down');
      const adopted = await client.ask(lab.east.url);
      expect(adopted.site).toBe('east');
      expect([...client.cookies.keys()]).toEqual([EAST_COOKIE]);
      client.close();
    });

    test('with the local pool down all goes to the other site', async () => {
      await lab.east.stopPool();
      await lab.east.waitForStatus(503);
      for (let count = 0; count < 5; count++) {
        const client = new Client();
        const answer = await client.ask(lab.east.url);
        expect(answer).toMatchObject({ site: 'west', hop: 'east' });
        client.close();
      }
    });

    test('with both down every request gets a 503 at once and none is sent round', async () => {
      await Promise.all(lab.sites.map((site) => site.stopPool()));
      await lab.east.waitForStatus(503);
      await lab.west.waitForStatus(503);
      await lab.east.waitForRemote('down');
      await lab.west.waitForRemote('down');
      for (const cookie of ['', `${EAST_COOKIE}=x`, `${WEST_COOKIE}=x`, `${EAST_COOKIE}=x; ${WEST_COOKIE}=x`]) {
        const client = new Client();
        const answer = await client.request(`${lab.east.url}/round`, { headers: { cookie } });
        expect(answer.status).toBe(503);
        expect(answer.durationMs).toBeLessThan(5_000);
        expect(answer.headers['set-cookie']).toBeUndefined();
        client.close();
      }
      // Once this request stands in the other site's access log, all earlier ones would.
      await new Client().request(`${lab.west.url}/marker`);
      await lab.west.envoy?.waitForLine(/"path":"\/marker"/);
      expect(lab.west.envoy?.lines.filter((line) => line.includes('"path":"/round"'))).toEqual([]);
      const status = await new Client().request(`${lab.east.url}/local_pool_status`);
      expect(status).toMatchObject({ status: 503, body: 'LOCAL POOL STATE: DOWN' });
      expect(status.headers['content-type']).toBe('text/html');
    });
  });
});
