import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { DECIDERS, decideBy } from '../support/deciders.ts';
import { type EnvoyRelease, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

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
