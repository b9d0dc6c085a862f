import { describe, expect, test } from 'vitest';
import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { list, tree } from '../../support/json-tree.ts';
import { withCookieKeys } from '../../support/with-cookie-keys.ts';
import { type FakeEnvoy, fakeEnvoy, findingsOf, managerOf, troublesOf } from './fake-envoy.ts';

const FILTER = 'site_persistence.opaque_cookie';
const KEYS = ['new key '.repeat(4), 'old key '.repeat(4)];

const POOLS = `
local_pool: { cookie: { name: EAST, also: [OLD], opaque: { key_file: k } }, cluster: local, servers: ["127.0.0.1:3001"] }
remote_pools: [{ site: west, cluster: west, cookie: WEST, servers: ["127.0.0.1:81"] }]`;

const ONE = opaque(`site: east\nenvoy: { listen: "127.0.0.1:80" }${POOLS}\n`);

/** One of them is opaque. */
const SEVERAL = opaque(`
site: east
envoy: { listen: "127.0.0.1:80" }
applications:
  - name: wiki
    hosts: [wiki.example.com]
    local_pool: { cookie: WIKIEAST, servers: ["127.0.0.1:3001"] }
    remote_pools: [{ site: west, cookie: WIKIWEST, servers: ["127.0.0.1:81"] }]
  - name: shop
    hosts: ["*"]${POOLS.replaceAll('\n', '\n    ')}
`);

function opaque(text: string): Config {
  return withCookieKeys(parseConfig(text, 'site.yaml', 'rendering'), KEYS);
}

const filtersOfEdge = (envoy: FakeEnvoy) => list(managerOf(envoy), 'http_filters');
const standIn = (envoy: FakeEnvoy) =>
  list(envoy.dump, 'ListenersConfigDump', 'static_listeners')
    .map((item) => tree(item, 'listener'))
    .find(({ name }) => name === 'site_persistence_stand_in');

describe('doctor and an opaque cookie', () => {
  test.each([
    ['one application', ONE],
    ['several', SEVERAL],
  ])('finds nothing in what is printed for %s', (_, config) => {
    expect(troublesOf(fakeEnvoy(config), config)).toEqual([]);
    const said = findingsOf(fakeEnvoy(config), config).map(({ text }) => text);
    expect(said.join('\n')).toContain("EAST tells no server's address");
  });

  test.each<[string, (envoy: FakeEnvoy) => void, RegExp]>([
    [
      'without the filter',
      (envoy) => filtersOfEdge(envoy).splice(indexIn(envoy), 1),
      /^wrong opaque cookie: listener edge, virtual host application: there is no filter site_persistence\.opaque_cookie: EAST tells the address/,
    ],
    [
      'with the filter behind that of stateful_session',
      (envoy) => filtersOfEdge(envoy).splice(-1, 0, ...filtersOfEdge(envoy).splice(indexIn(envoy), 1)),
      /^wrong opaque cookie: .* comes behind stateful_session: no client stays at its server/,
    ],
    [
      'whose virtual host has no script',
      (envoy) => {
        delete tree(managerOf(envoy), 'route_config', 'virtual_hosts', 0, 'typed_per_filter_config')[FILTER];
      },
      /^wrong opaque cookie: .* does nothing there: EAST tells the address of a server/,
    ],
    [
      'whose stand-in listener has no filter',
      (envoy) => {
        const manager = tree(standIn(envoy), 'filter_chains', 0, 'filters', 0, 'typed_config');
        list(manager, 'http_filters').splice(
          list(manager, 'http_filters').findIndex((filter) => tree(filter).name === FILTER),
          1,
        );
      },
      /^wrong opaque cookie: listener site_persistence_stand_in, virtual host application: there is no filter/,
    ],
  ])('tells of an Envoy %s', (_, change, message) => {
    const envoy = fakeEnvoy(ONE);
    change(envoy);
    expect(troublesOf(envoy, ONE)).toEqual([expect.stringMatching(message)]);
  });

  test('tells of an Envoy with another key', () => {
    const envoy = fakeEnvoy(withCookieKeys(ONE, KEYS.slice(1)));
    expect(troublesOf(envoy, ONE)).toEqual([
      expect.stringMatching(/^wrong opaque cookie: listener edge, .* goes by other keys, servers or names than/),
      expect.stringMatching(/^wrong opaque cookie: listener site_persistence_stand_in, .* goes by other keys/),
    ]);
  });
});

function indexIn(envoy: FakeEnvoy): number {
  return filtersOfEdge(envoy).findIndex((filter) => tree(filter).name === FILTER);
}
