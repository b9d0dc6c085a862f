import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { DECIDERS, decideBy } from '../support/deciders.ts';
import { EAST_COOKIE, type EnvoyRelease, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/** Only a site says that it has not served a request; an application that says so has. */
describe.each<EnvoyRelease>(['1.36.4', '1.40.0'])("an application's own x-site-refused, Envoy %s", (envoyVersion) => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ envoyVersion });
  });
  afterAll(async () => await lab?.close());

  interface Line {
    readonly attempts: number;
  }

  /** The lines of a request with this in its path in the access logs of both sites, once each edge that it has passed has one. */
  async function linesOf(mark: string, edges: number): Promise<readonly Line[]> {
    const all = () =>
      lab.sites.flatMap(({ envoy }) =>
        (envoy?.lines ?? []).filter((line) => line.includes(mark)).map((line): Line => JSON.parse(line)),
      );
    await waitUntil(() => all().length >= edges, { what: 'the access logs' });
    return all();
  }

  describe.each(DECIDERS)('decided by %s', (decider) => {
    decideBy(decider, () => lab);

    test.each([
      ['where its client comes to', {}, 1],
      ['from the other site', { cookie: `${WEST_COOKIE}=x` }, 2],
    ] as const)('%s: a POST is done once, and the client does not see it', async (where, headers, edges) => {
      const mark = `mark=${DECIDERS.indexOf(decider)}-${edges}`;
      const { url } = edges === 1 ? lab.west : lab.east;
      const client = new Client();
      const answer = await client.request(`${url}/set-headers?x-site-refused=west&${mark}`, {
        method: 'POST',
        body: 'order',
        headers,
      });
      client.close();
      expect(answer.status, where).toBe(200);
      expect(JSON.parse(answer.body)).toMatchObject({ site: 'west', method: 'POST' });
      expect(answer.headers['x-site-refused']).toBeUndefined();
      const lines = await linesOf(mark, edges);
      // The first edge has one line whatever it tried, so its attempts tell of a second time elsewhere, too.
      expect(lines.map(({ attempts }) => attempts)).toEqual(Array.from({ length: edges }, () => 1));
    });
  });
});

/** As a gateway has it that can retry on a status only. */
describe('refusal_status: 421', () => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ configure: (file) => Object.assign(file, { refusal_status: 421 }) });
  });
  afterAll(async () => await lab?.close());

  async function ask(url: string, headers: Record<string, string> = {}) {
    const client = new Client();
    const answer = await client.request(url, { headers });
    client.close();
    return [answer.status, answer.headers['x-site-refused']];
  }

  describe.each(DECIDERS)('decided by %s', (decider) => {
    decideBy(decider, () => lab);

    test('another site is told so, and a client is served elsewhere, or gets a 503', async () => {
      await Promise.all(lab.east.apps.map((app) => app.stop('SIGKILL')));
      // At once, when only a connection shows it, and when all have seen it.
      expect(await ask(lab.east.url, { 'x-site-hop': 'west' })).toEqual([421, 'east']);
      await waitUntil(async () => (await ask(`${lab.east.url}/local_pool_status`))[0] === 503, {
        what: 'east to be down',
      });
      expect(await ask(lab.east.url, { 'x-site-hop': 'west' })).toEqual([421, 'east']);
      expect(await ask(lab.west.url, { cookie: `${EAST_COOKIE}=x` })).toEqual([200, undefined]);
      expect(await ask(lab.east.url)).toEqual([200, undefined]);
      await Promise.all(lab.west.apps.map((app) => app.stop('SIGKILL')));
      await waitUntil(async () => (await ask(lab.east.url))[0] === 503, { what: 'both sites to be down' });
      expect(await ask(lab.east.url)).toEqual([503, undefined]);
      for (const site of lab.sites) await Promise.all(site.apps.map((_, index) => site.startApp(index)));
      await waitUntil(
        async () =>
          (await Promise.all(lab.sites.map((site) => ask(`${site.url}/local_pool_status`)))).every(
            ([status]) => status === 200,
          ) &&
          (await Promise.all(lab.sites.map((site) => site.stat('cluster.remote_pool.membership_healthy')))).every(
            (count) => count === 1,
          ),
        { what: 'both sites to be up, to each other as well' },
      );
    });
  });
});
