import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Client, serverOf } from '../support/client.ts';
import { freePorts } from '../support/free-ports.ts';
import { patchYaml, startTwoSites, type TwoSites } from '../support/two-sites.ts';

/** Of a bootstrap, what is changed. */
interface Bootstrap {
  readonly static_resources: {
    readonly clusters: readonly {
      readonly name: string;
      readonly load_assignment: { readonly endpoints: readonly { readonly lb_endpoints: readonly LbEndpoint[] }[] };
    }[];
  };
}
interface LbEndpoint {
  readonly endpoint: { health_check_config?: object };
}

describe.each([true, false])('with the fast path: %s', (fastPath) => {
  let lab: TwoSites;
  beforeAll(async () => {
    const [closed = 0] = await freePorts(1);
    lab = await startTwoSites({
      fastPath,
      // The checks of one cluster, which for a moment differ from another's whenever a server comes or goes.
      patchBootstrap: patchYaml<Bootstrap>(({ static_resources: { clusters } }) => {
        const first = clusters.find(({ name }) => name === 'local_pool')?.load_assignment.endpoints[0]?.lb_endpoints[0];
        if (first === undefined) throw new Error('the local pool has no server');
        first.endpoint.health_check_config = { port_value: closed };
      }),
    });
  });
  afterAll(async () => await lab?.close());

  test('a session that is forwarded stays at its server while the checks of two clusters disagree', async () => {
    for (const [home, other] of [
      [lab.east, lab.west],
      [lab.west, lab.east],
    ] as const) {
      for (let turn = 0; turn < 6; turn++) {
        const client = new Client();
        const server = serverOf(await client.ask(home.url));
        for (const { url } of [other, home, other]) expect(serverOf(await client.ask(url))).toBe(server);
        client.close();
      }
    }
  });
});
