import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { AppAnswer } from '../../lab/app-server.ts';
import { type Answer, Client } from '../support/client.ts';
import { EAST_COOKIE, type SiteLab, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/**
 * After any answer that a server gave the client holds exactly the cookie of that server's site; an answer that no server
 * gave sets and expires nothing. Above all in the moment in which a pool is dead and nobody has noticed.
 */

const COOKIE_OF: Readonly<Record<string, string>> = { east: EAST_COOKIE, west: WEST_COOKIE };

/** Its session cookies must be those that the answer calls for, whichever of its Set-Cookie lines is read first. */
function expectOneOwner(client: Client, before: readonly string[], answer: Answer): void {
  const lines = answer.headers['set-cookie'] ?? [];
  if (answer.status !== 200) {
    expect(lines, answer.body).toEqual([]);
    return;
  }
  const { site } = JSON.parse(answer.body) as AppAnswer;
  expect([...client.cookies.keys()], lines.join('\n')).toEqual([COOKIE_OF[site]]);
  const names = lines.map((line) => line.split('=', 1)[0]);
  expect(new Set(names).size, `${before} → ${lines.join('\n')}`).toBe(names.length);
}

async function ask(client: Client, url: string): Promise<Answer> {
  const before = [...client.cookies.keys()];
  const answer = await client.request(url);
  expectOneOwner(client, before, answer);
  return answer;
}

async function sessions(count: number, site: SiteLab): Promise<Client[]> {
  return await Promise.all(
    Array.from({ length: count }, async () => {
      const client = new Client();
      await client.ask(site.url);
      return client;
    }),
  );
}

describe.each(['1.40.0', '1.36.4'] as const)('Envoy %s', (envoyVersion) => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ envoyVersion });
  });
  afterAll(async () => await lab?.close());
  afterEach(async () => await lab.restore());

  test.each([
    [true, true],
    [true, false],
    [false, true],
    [false, false],
  ])("the local pool dies unnoticed, this site's sidecar running: %s, the other's: %s", async (here, there) => {
    const old = await sessions(30, lab.east);
    if (!here) await lab.east.sidecar().stop('SIGKILL');
    if (!there) await lab.west.sidecar().stop('SIGKILL');
    await lab.east.stopPool();
    const all = [...old, ...Array.from({ length: 30 }, () => new Client())];
    let served = 0;
    // Envoy before 1.40 has nowhere to go until its health check has noticed, and alone none of them has.
    for (let round = 0; round < 6 || (here && served === 0); round++) {
      for (const client of all) if ((await ask(client, lab.east.url)).status === 200) served++;
    }
    for (const client of all) client.close();
  });

  test.each([true, false])("both sites' cookies, sidecars running: %s", async (isRunning) => {
    const values = await Promise.all(lab.sites.map(async (site) => [...((await sessions(1, site))[0]?.cookies ?? [])]));
    if (!isRunning) for (const site of lab.sites) await site.sidecar().stop('SIGKILL');
    for (const edge of lab.sites) {
      const client = new Client();
      for (const [name, value] of values.flat()) client.cookies.set(name, value);
      expect((await ask(client, edge.url)).status).toBe(200);
      client.close();
    }
  });

  test.each(['application/json', 'application/grpc'])(
    'an answer that no server gave to %s has no cookie',
    async (type) => {
      const client = new Client();
      await client.ask(lab.west.url);
      const before = [...client.cookies];
      await lab.west.stopPool();
      await lab.east.waitForRemote('down');
      // East adopts the session, as far as its sidecar knows: the cookie of west would expire.
      await lab.east.stopPool();
      for (const edge of lab.sites) {
        for (let count = 0; count < 8; count++) {
          const answer = await client.request(edge.url, { method: 'POST', headers: { 'content-type': type } });
          expect(answer.headers['set-cookie']).toBeUndefined();
          if (type === 'application/grpc') expect(answer.headers['grpc-status']).toBe('14');
          else expect(answer.status).toBe(503);
          expect(answer.headers['x-site-refused'], 'a refusal is between sites').toBeUndefined();
        }
      }
      expect([...client.cookies]).toEqual(before);
      client.close();
    },
  );

  test('the mark by which Envoy tells its own servers does not reach the client, and none can be forged', async () => {
    const client = new Client();
    const forged = await client.request(`${lab.east.url}/set-headers?proxy-connection=something-else`);
    expect(forged.headers).not.toHaveProperty('proxy-connection');
    expect([...client.cookies.keys()]).toEqual([EAST_COOKIE]);
    client.close();
  });
});
