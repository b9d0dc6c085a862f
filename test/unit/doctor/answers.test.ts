import { describe, expect, test } from 'vitest';
import { CHECK_FAIL_HEADER } from '../../../src/contract.ts';
import { keepHeaders, cluster as ofBootstrap } from '../../support/bootstrap-parts.ts';
import { list, type Tree, tree } from '../../support/json-tree.ts';
import { type FakeEnvoy, fakeEnvoy, findingsOf, managerOf } from './fake-envoy.ts';

const REMOVES = { response_headers_to_remove: [CHECK_FAIL_HEADER] };

/** What is said of an answer's header by which a server, or this edge, would be taken out. */
function saidOf(change: (envoy: FakeEnvoy) => void): string[] {
  const envoy = fakeEnvoy();
  // One object, which both the dump and the bootstrap have.
  for (const name of ['local_pool', 'local_pool_or_elsewhere']) keepHeaders(envoy.bootstrap, name);
  change(envoy);
  const names = ["the servers' own", "the other sites' own"];
  return findingsOf(envoy)
    .filter(({ mark, check, text }) => mark === 'warn' && names.includes(check) && text.includes(CHECK_FAIL_HEADER))
    .map(({ text }) => text.replace(`response_mutations.remove lacks ${CHECK_FAIL_HEADER}`, '…'));
}

const cluster = ({ dump }: FakeEnvoy, name: string): Tree => {
  const found = list(dump, 'ClustersConfigDump', 'static_clusters').find((item) => tree(item, 'cluster').name === name);
  return tree(found, 'cluster');
};

function unchecked(envoy: FakeEnvoy): void {
  for (const name of ['local_pool', 'local_pool_or_elsewhere']) delete cluster(envoy, name).health_checks;
}

const routeConfigOf = (envoy: FakeEnvoy) => tree(managerOf(envoy), 'route_config');
const hostOf = (envoy: FakeEnvoy) => tree(routeConfigOf(envoy), 'virtual_hosts', 0);

describe('a server that says that it fails its health check', () => {
  const BOTH = 'a server that answers with it is taken out, and at the other sites this whole edge';
  const OWN = 'its own servers can take themselves out';
  const toBoth = (harm: string) => [`local_pool_or_elsewhere: …: ${harm}`, `local_pool: …: ${harm}`];

  test('is obeyed here and at the other sites', () => {
    expect(saidOf(() => {})).toEqual(toBoth(BOTH));
  });

  test('is obeyed at the other sites alone where Envoy checks no server', () => {
    expect(saidOf(unchecked)).toEqual(
      toBoth('a server that answers with it takes this whole edge out at the other sites'),
    );
  });

  test.each<[string, (envoy: FakeEnvoy) => void]>([
    ['the route config', (envoy) => Object.assign(routeConfigOf(envoy), REMOVES)],
    ['the virtual host', (envoy) => Object.assign(hostOf(envoy), REMOVES)],
    [
      'each route',
      (envoy) => {
        for (const each of list(hostOf(envoy), 'routes')) Object.assign(tree(each), REMOVES);
      },
    ],
    [
      'a filter',
      (envoy) =>
        list(managerOf(envoy), 'http_filters').unshift({
          name: 'without',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation',
            mutations: { response_mutations: [{ remove: CHECK_FAIL_HEADER }] },
          },
        }),
    ],
  ])('is obeyed here alone where %s takes the header off, and nowhere without a health check', (_, change) => {
    expect(saidOf(change)).toEqual(toBoth(OWN));
    expect(
      saidOf((envoy) => {
        change(envoy);
        unchecked(envoy);
      }),
    ).toEqual([]);
  });

  test('is obeyed at the other sites where only some routes take it off', () => {
    expect(saidOf((envoy) => Object.assign(tree(list(hostOf(envoy), 'routes')[0]), REMOVES))).toEqual(toBoth(BOTH));
  });
});

test('what an aggregate takes off, its members need not', () => {
  const envoy = fakeEnvoy();
  keepHeaders(envoy.bootstrap, 'remote_pool');
  expect(ofBootstrap(envoy.bootstrap, 'remote_pool')).not.toEqual(ofBootstrap(fakeEnvoy().bootstrap, 'remote_pool'));
  expect(findingsOf(envoy).filter(({ mark }) => mark !== 'ok')).toEqual([]);
});
