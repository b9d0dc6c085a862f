import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Client } from '../support/client.ts';
import { EAST_COOKIE, type EnvoyRelease, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/** Whatever fits Envoy's own limits, 100 headers and 60 KiB, fits through the edges of both sites, with what they add. */
describe.each<EnvoyRelease>(['1.36.4', '1.40.0'])('at the limits of headers, Envoy %s', (envoyVersion) => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ envoyVersion });
  });
  afterAll(async () => await lab?.close());

  /** With `host`, `connection` and the pseudo headers these make so many. */
  const headersOf = (count: number) =>
    Object.fromEntries(Array.from({ length: count - 4 }, (_, at) => [`x-h-${at}`, '1']));

  const many = Object.entries(headersOf(97)).map(([name, value]) => `${name}=${value}`);
  /** What the application is asked to answer with; it has four headers besides. */
  const ANSWERS = [many.slice(0, 75), many.slice(0, 85), many, [`x-large=${'x'.repeat(55 * 1024)}`]];

  const OWNERS = [
    ['no session', {}],
    ['a session of this site', { cookie: `${EAST_COOKIE}=x` }],
    ['a session of the other site', { cookie: `${WEST_COOKIE}=x` }],
    ['sessions of both', { cookie: `${EAST_COOKIE}=x; ${WEST_COOKIE}=x` }],
  ] as const;

  test.each(OWNERS)('a request with as many as Envoy takes, and %s', async (_, cookies) => {
    const client = new Client();
    for (let count = 80; count <= 100; count++) {
      client.cookies.clear();
      const headers = { ...headersOf(count - Object.keys(cookies).length), ...cookies };
      expect((await client.request(lab.east.url, { headers })).status, `${count} headers`).toBe(200);
    }
    client.close();
  });

  test.each(OWNERS)('a request with as much as Envoy takes, and %s', async (_, cookies) => {
    const client = new Client();
    for (const kb of [50, 56, 58, 59]) {
      client.cookies.clear();
      const headers = { 'x-large': 'x'.repeat(kb * 1024), ...cookies };
      expect((await client.request(lab.east.url, { headers })).status, `${kb} KiB`).toBe(200);
    }
    client.close();
  });

  test.each(OWNERS)('an answer with as many and as much as Envoy takes, and %s', async (_, cookies) => {
    const client = new Client();
    for (const query of ANSWERS) {
      client.cookies.clear();
      const url = `${lab.east.url}/set-headers?${query.join('&')}`;
      const answer = await client.request(url, { headers: cookies });
      expect([answer.status, Object.keys(answer.headers).length >= query.length]).toEqual([200, true]);
    }
    client.close();
  });

  test('an answer with as many and as much as Envoy takes, of this site in the place of the other one, which is gone', async () => {
    await lab.west.envoy?.stop('SIGKILL');
    await lab.east.sidecar().stop('SIGKILL');
    const client = new Client();
    const cookie = `${WEST_COOKIE}=x`;
    for (const count of [80, 90, 95, 100]) {
      const answer = await client.request(lab.east.url, { headers: { ...headersOf(count - 1), cookie } });
      expect(answer.status, `${count} headers`).toBe(200);
      client.cookies.clear();
    }
    for (const query of ANSWERS) {
      const answer = await client.request(`${lab.east.url}/set-headers?${query.join('&')}`, { headers: { cookie } });
      expect([answer.status, Object.keys(answer.headers).length >= query.length]).toEqual([200, true]);
      client.cookies.clear();
    }
    client.close();
  });
});
