import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Client, serverOf } from '../support/client.ts';
import { freePorts } from '../support/free-ports.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { EAST_COOKIE, patchYaml, startTwoSites, type TwoSites } from '../support/two-sites.ts';

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

/** A connection keeps the filters that it began with. */
test.each(['1.36.4', '1.40.0'] as const)(
  'a session stays at its server on a connection that is kept, by whatever name and in whatever form its cookie is set (Envoy %s)',
  async (envoyVersion) => {
    const live = await startTwoSites({ envoyVersion, configDir: true });
    try {
      const keyFile = join(dirname(live.east.configFile), 'cookie.key');
      await writeFile(keyFile, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
      const opaque = { key_file: keyFile, accept_plain: true };
      const sessions: { client: Client; server: string }[] = [];
      for (let count = 0; count < 8; count++) {
        const client = new Client();
        sessions.push({ client, server: serverOf(await client.ask(live.east.url)) });
      }
      const changeCookie = async (cookie: object) => {
        for (const site of live.sites) {
          await writeConfig(site, (file) => {
            if (site.name === 'east') file.local_pool.cookie = cookie;
            else file.remote_pools = file.remote_pools.map((pool) => ({ ...pool, cookie }));
          });
          await reload(site);
        }
      };
      for (const cookie of [
        { name: EAST_COOKIE, also: ['EASTNEW'] },
        { name: 'EASTNEW', also: [EAST_COOKIE] },
        { name: 'EASTNEW', also: [EAST_COOKIE], opaque },
      ]) {
        await changeCookie(cookie);
        for (const { client, server } of sessions) expect(serverOf(await client.ask(live.east.url))).toBe(server);
      }
      for (const { client, server } of sessions) {
        expect([...client.cookies.keys()]).toEqual(['EASTNEW']);
        expect(serverOf(await client.ask(live.west.url))).toBe(server);
        // A new session on the same connection.
        client.cookies.clear();
        const next = serverOf(await client.ask(live.east.url));
        expect(Buffer.from(client.cookies.get('EASTNEW') ?? '', 'base64').toString()).not.toContain('127.0.0.1');
        for (const { url } of [live.east, live.west]) expect(serverOf(await client.ask(url))).toBe(next);
        client.close();
      }
    } finally {
      await live.close();
    }
  },
);
