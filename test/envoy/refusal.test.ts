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
    readonly path: string;
    readonly attempts: number;
  }

  /** The lines of requests with this in their path in the access logs of both sites, once these are complete. */
  async function linesOf(mark: string): Promise<readonly Line[]> {
    const end = `/end?${mark}`;
    const client = new Client();
    for (const { url } of lab.sites) await client.request(`${url}${end}`);
    client.close();
    const all = () =>
      lab.sites.flatMap(({ envoy }) =>
        (envoy?.lines ?? []).filter((line) => line.includes(mark)).map((line): Line => JSON.parse(line)),
      );
    const isComplete = () => all().filter(({ path }) => path === end).length >= lab.sites.length;
    await waitUntil(isComplete, { what: 'the access logs' });
    return all().filter(({ path }) => path !== end);
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
      const lines = await linesOf(mark);
      expect(lines.map(({ attempts }) => attempts)).toEqual(Array.from({ length: edges }, () => 1));
    });
  });
});
