import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.ts';
import { list, tree } from '../../support/json-tree.ts';
import { type FakeEnvoy, fakeEnvoy, findingsOf, managerOf, troublesOf } from './fake-envoy.ts';

const POOLS = `
local_pool: { cookie: { name: EASTNEW, also: [EASTOLD, EAST] }, cluster: local, servers: ["127.0.0.1:3001"] }
remote_pools: [{ site: west, cluster: west, cookie: { name: WESTNEW, also: [WESTOLD] }, servers: ["127.0.0.1:81"] }]`;

const ONE = parseConfig(`site: east\nenvoy: { listen: "127.0.0.1:80" }${POOLS}\n`, 'site.yaml', 'rendering');

const SEVERAL = parseConfig(
  `
site: east
envoy: { listen: "127.0.0.1:80" }
applications:
  - name: wiki
    hosts: [wiki.example.com]
    local_pool: { cookie: { name: EASTOLD, also: [WIKIOLD] }, servers: ["127.0.0.1:3001"] }
    remote_pools: [{ site: west, cookie: WIKIWEST, servers: ["127.0.0.1:81"] }]
  - name: shop
    hosts: ["*"]${POOLS.replaceAll('\n', '\n    ')}
`,
  'site.yaml',
  'rendering',
);

const EDGE_FILTERS = (envoy: FakeEnvoy) => list(managerOf(envoy), 'http_filters');
const without = (filters: unknown[], name: string) =>
  filters.splice(
    filters.findIndex((filter) => tree(filter).name === name),
    1,
  );

describe("doctor and a cookie's other names", () => {
  test.each([
    ['one application', ONE],
    // The name of one application's cookie may be another name of the other's.
    ['several', SEVERAL],
  ])('finds nothing in what is printed for %s', (_, config) => {
    expect(troublesOf(fakeEnvoy(config), config)).toEqual([]);
    const said = findingsOf(fakeEnvoy(config), config).map(({ text }) => text);
    expect(said.join('\n')).toContain('a session whose cookie is still called EASTOLD or EAST stays at its server');
  });

  test('tells of a name that no filter reads, at the edge and behind the stand-in listener', () => {
    const envoy = fakeEnvoy(ONE);
    without(EDGE_FILTERS(envoy), 'site_persistence.also.2');
    const standIn = list(envoy.dump, 'ListenersConfigDump', 'static_listeners')
      .map((item) => tree(item, 'listener'))
      .find(({ name }) => name === 'site_persistence_stand_in');
    without(list(standIn, 'filter_chains', 0, 'filters', 0, 'typed_config', 'http_filters'), 'site_persistence.also.1');
    expect(troublesOf(envoy, ONE)).toEqual([
      'warn stickiness: virtual host application: a session whose cookie is still called EAST gets another server, for no filter reads that name',
      'warn stickiness: listener site_persistence_stand_in: a session whose cookie is still called EASTOLD gets another server, for no filter reads that name',
    ]);
  });

  test('tells of a name that counts before the one that the cookie is set under', () => {
    const envoy = fakeEnvoy(ONE);
    const filters = EDGE_FILTERS(envoy);
    const [first] = without(filters, 'site_persistence.also.1');
    filters.splice(-1, 0, first);
    expect(troublesOf(envoy, ONE)).toEqual([expect.stringContaining('still called EASTOLD')]);
  });

  test('tells of a virtual host that does not say the name', () => {
    const envoy = fakeEnvoy(SEVERAL);
    const hosts = list(managerOf(envoy), 'route_config', 'virtual_hosts');
    delete tree(hosts, 'name=shop', 'typed_per_filter_config')['site_persistence.also.1'];
    expect(troublesOf(envoy, SEVERAL)).toEqual([
      expect.stringMatching(/^warn stickiness: shop: virtual host shop: .* still called EASTOLD/),
    ]);
  });

  test('tells of routes and an Envoy that know only the old name', () => {
    const before = parseConfig(
      `site: east\nenvoy: { listen: "127.0.0.1:80" }${POOLS.replace(/\{ name: (\w+), also: \[(\w+).*?\] \}/g, '$2')}\n`,
      'site.yaml',
      'rendering',
    );
    const troubles = troublesOf(fakeEnvoy(before), ONE).join('\n');
    expect(troubles).toMatch(/wrong stickiness: .*cookie\.name is EASTOLD, not EASTNEW/);
    expect(troubles).toMatch(/warn undecided: without a sidecar, west: /);
  });
});
