import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { runCli } from '../integration/cli-process.ts';
import { type Answer, Client, type RequestOptions } from '../support/client.ts';
import { type RawRequest, sendBytes, sendRaw } from '../support/raw-http.ts';
import { EAST_COOKIE, type SiteLab, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';
import { openWebSocket } from '../support/web-socket.ts';

const WESTS = { cookie: `a=1; ${WEST_COOKIE}=x` };
const OF_BOTH = { cookie: `${EAST_COOKIE}=x; ${WEST_COOKIE}=x` };

describe.each([
  ['1.40.0', true],
  ['1.36.4', false],
] as const)(
  'a session of another site with an address of its own, Envoy %s, fast_path: %s',
  (envoyVersion, fastPath) => {
    let lab: TwoSites;
    let east: SiteLab;
    let west: SiteLab;
    beforeAll(async () => {
      lab = await startTwoSites({
        envoyVersion,
        fastPath,
        configure: ({ remote_pools: [pool] }) => {
          if (pool !== undefined) pool.redirect = `http://${String(pool.servers)}`;
        },
      });
      ({ east, west } = lab);
    });
    afterAll(async () => await lab?.close());
    afterEach(async () => await lab.restore());

    async function send(path: string, options: RequestOptions = {}): Promise<Answer> {
      const client = new Client();
      const answer = await client.request(`${east.url}${path}`, options);
      client.close();
      return answer;
    }

    test('is counted as forwarded', async () => {
      for (let time = 0; time < 3; time++) expect((await send('/', { headers: WESTS })).status).toBe(307);
      await waitUntil(async () => (await east.state()).decisions.forward.total === 3, {
        what: 'the redirects to be counted',
      });
    });

    test.each([
      ['GET', ''],
      ['HEAD', ''],
      ['POST', 'x'.repeat(5_000)],
    ])('a %s is answered with a 307 to the same path there, without a cookie, and logged', async (method, body) => {
      const path = `/from-${method}/b?x=%2F&y=a+b`;
      const { status, headers } = await send(path, { method, body, headers: WESTS });
      expect([status, headers.location]).toEqual([307, `${west.url}${path}`]);
      expect(headers['cache-control']).toBe('no-store');
      const known = ['location', 'cache-control', 'date', 'content-length', 'transfer-encoding', 'connection'];
      const others = Object.keys(headers).filter((name) => !known.includes(name));
      expect(others).toEqual(['x-envoy-upstream-service-time']);
      const line = await east.envoy?.waitForLine(new RegExp(`/from-${method}/`));
      expect(JSON.parse(line ?? '{}')).toMatchObject({ decision: 'forward', owner: 'west', status: 307 });
      expect(west.envoy?.lines.some((each) => each.includes(`/from-${method}/`))).toBe(false);
    });

    test('no request steers where to: the path is that which the application would see', async () => {
      const paths = [
        '//evil.example/',
        '/\\evil.example',
        '/a/../b//c',
        '/%0d%0aSet-Cookie:%20a=b',
        '/?u=https://evil.example/#',
      ];
      for (const path of paths) {
        for (const protocol of ['HTTP/1.1', 'HTTP/2'] as const) {
          const ask = (cookie: string): RawRequest => ({ path, headers: [['cookie', cookie]] });
          const proxied = await sendRaw('HTTP/1.1', east.url, ask(OF_BOTH.cookie));
          const answer = await sendRaw(protocol, east.url, ask(WESTS.cookie));
          if (protocol === 'HTTP/2') continue;
          if (proxied.status !== 200) expect(answer.status, path).toBe(proxied.status);
          else expect(locationOf(answer), path).toBe(west.url + JSON.parse(proxied.body).path);
        }
      }
      for (const target of ['http://evil.example/x', '/x']) {
        const head = [`GET ${target} HTTP/1.1`, 'Host: evil.example', `Cookie: ${WEST_COOKIE}=x`, 'Connection: close'];
        const answer = await sendBytes(east.url, `${head.join('\r\n')}\r\n\r\n`);
        expect(locationOf(answer)).toBe(`${west.url}/x`);
      }
    });

    test('what could go round, or what clients do not follow, is proxied', async () => {
      const cases: Record<string, RequestOptions> = {
        both: { headers: OF_BOTH },
        'own address': { headers: { ...WESTS, host: west.url.slice('http://'.length) } },
        gRPC: { method: 'POST', headers: { ...WESTS, 'content-type': 'application/grpc' } },
        'by a script': { headers: { ...WESTS, 'sec-fetch-dest': 'empty' } },
        preflight: { method: 'OPTIONS', headers: WESTS },
        large: { method: 'POST', headers: WESTS, body: Buffer.alloc(1_000_000) },
        'of no length': { method: 'POST', headers: { ...WESTS, 'transfer-encoding': 'chunked' }, body: 'x' },
      };
      for (const [name, options] of Object.entries(cases)) {
        const { status, body } = await send('/', options);
        expect([name, status, status === 200 ? JSON.parse(body).site : body]).toEqual([name, 200, 'west']);
      }
      const forwarded = await send('/', { headers: { ...WESTS, 'x-site-hop': 'west' } });
      expect([forwarded.status, JSON.parse(forwarded.body).site]).toEqual([200, 'east']);
      const socket = await openWebSocket(east.url, WESTS.cookie);
      expect(socket.greeting).toMatch(/^west\//);
      socket.close();
      expect((await send('/local_pool_status', { headers: WESTS })).status).toBe(200);
    });

    test('without the sidecar Envoy redirects as long as it sees that site up, and serves here otherwise', async () => {
      await east.sidecar().stop('SIGKILL');
      for (const [method, body] of [
        ['GET', ''],
        ['POST', 'x'],
      ] as const) {
        const { status, headers } = await send('/?alone', { method, body, headers: WESTS });
        expect([status, headers.location]).toEqual([307, `${west.url}/?alone`]);
      }
      expect((await send('/', { headers: OF_BOTH })).status).toBe(200);
      await west.envoy?.stop('SIGKILL');
      await waitUntil(async () => (await east.stat('cluster.remote_pool.membership_healthy')) === 0, {
        what: "east's Envoy to see west down",
      });
      for (const [method, body] of [
        ['GET', ''],
        ['POST', 'x'.repeat(900_000)],
        // Longer than Envoy keeps a body to send it once more.
        ['PUT', Buffer.alloc(10_000_000)],
      ] as const) {
        const client = new Client();
        client.cookies.set(WEST_COOKIE, 'x');
        const headers: Record<string, string> = method === 'PUT' ? { 'transfer-encoding': 'chunked' } : {};
        expect((await client.ask(east.url, { method, body, headers })).site).toBe('east');
        expect([...client.cookies.keys()]).toEqual([EAST_COOKIE]);
        client.close();
      }
    });

    // What is of no version, and what Envoys before 1.40 can't do: serve at once when a pool has just died.
    if (envoyVersion !== '1.40.0') return;

    test('explain says so', async () => {
      const { stdout } = await runCli(['explain', '/x', '--cookie', WESTS.cookie, '--config', east.configFile]);
      const said = `answers 307 to ${west.url}, with the path and query, while Envoy sees west up, and else goes on as to remote_pool`;
      expect(stdout).toContain(said);
      expect(stdout).toContain('a redirect sets and expires no cookie');
    });

    /** As a browser does, from each site and with each set of cookies. @returns what does not end well */
    async function follow(): Promise<string[]> {
      const bad: string[] = [];
      for (const site of lab.sites) {
        for (const names of [[], [EAST_COOKIE], [WEST_COOKIE], [EAST_COOKIE, WEST_COOKIE]]) {
          for (const method of ['GET', 'POST']) {
            const client = new Client();
            for (const name of names) client.cookies.set(name, 'x');
            let url = `${site.url}/followed`;
            let answer = await client.request(url, { method });
            let redirects = 0;
            for (; answer.status === 307 && redirects < 5; redirects++) {
              url = answer.headers.location ?? '';
              answer = await client.request(url, { method });
            }
            const held = [...client.cookies.keys()].filter((name) => [EAST_COOKIE, WEST_COOKIE].includes(name));
            if (answer.status !== 200 || redirects > 1 || held.length !== 1) {
              bad.push(`${method} at ${site.name} with ${names}: ${redirects} times, ${answer.status}, ${held}`);
            }
            client.close();
          }
        }
      }
      return bad;
    }

    test('a client that follows ends after one redirect at most, with one cookie, whatever is up', async () => {
      expect(await follow()).toEqual([]);
      await west.stopPool();
      // Before anybody has noticed it, and after.
      expect(await follow()).toEqual([]);
      await east.waitForRemote('down');
      expect(await follow()).toEqual([]);
    });
  },
);

function locationOf({ heads }: { readonly heads: readonly string[] }): string {
  return /\r\nlocation: (.*)\r\n/i.exec(heads[0] ?? '')?.[1] ?? `none in ${heads[0]}`;
}
