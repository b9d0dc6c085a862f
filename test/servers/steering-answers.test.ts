import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Client } from '../support/client.ts';
import { Load } from '../support/load.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

/** Headers of an answer that Envoy itself obeys, from an application that reflects what a client sends. */
describe.each(['1.40.0', '1.36.4'] as const)("an application's answer steers nothing (Envoy %s)", (envoyVersion) => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({ envoyVersion });
  });
  afterAll(async () => await lab?.close());

  test.each(['east', 'west'] as const)('x-envoy-immediate-health-check-fail, by the edge of %s', async (edge) => {
    const attacker = new Client();
    await attacker.ask(lab.west.url);
    const load = await Load.start({ homes: [lab.west.url], edges: [lab[edge].url] });
    for (let count = 0; count < 20; count++) {
      const answer = await attacker.request(`${lab[edge].url}/set-headers?x-envoy-immediate-health-check-fail=true`);
      expect(answer.headers).not.toHaveProperty('x-envoy-immediate-health-check-fail');
      expect(JSON.parse(answer.body)).toMatchObject({ site: 'west' });
      await load.during(40);
    }
    const report = await load.stop();
    expect(report.lost, report.losses.join('\n')).toBe(0);
    expect(report.moved).toBe(0);
    expect(await lab.east.stat('cluster.remote_pool.membership_healthy')).toBe(1);
    expect(await lab.west.stat('cluster.local_pool.membership_healthy')).toBe(2);
    attacker.close();
  });
});
