import { describe, expect, test } from 'vitest';
import { type Config, ENVOY_VERSIONS } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { type EnvoySnapshot, snapshotOfBootstrap, snapshotOfDump } from '../../../src/doctor/envoy-snapshot.ts';
import { examine } from '../../../src/doctor/examine.ts';
import { examineOverlay, NOTHING_AROUND } from '../../../src/doctor/examine-overlay.ts';
import type { Finding } from '../../../src/doctor/finding.ts';
import { renderBootstrap } from '../../../src/envoy-config/bootstrap.ts';
import { EVERY_KEY } from '../config/good-configs.ts';
import { asDumped } from './as-dumped.ts';
import { answersOf, CONFIG, describeTroubles, fakeEnvoy, findingsOf, managerOf, NOW_MS } from './fake-envoy.ts';

const offline = (snapshot: EnvoySnapshot, config: Config = CONFIG): Finding[] =>
  examine(config, snapshot, { ...NOTHING_AROUND, nowMs: NOW_MS });

function dumpOf(envoy = fakeEnvoy()): unknown {
  const answer = answersOf(envoy).configDump;
  return 'json' in answer ? answer.json : undefined;
}

const bootstrapOf = (config: Config): unknown => JSON.parse(JSON.stringify(renderBootstrap(config)));

describe.each<[string, () => EnvoySnapshot]>([
  ['a config dump', () => snapshotOfDump(dumpOf())],
  ['a bootstrap', () => snapshotOfBootstrap(asDumped(bootstrapOf(CONFIG)))],
])('of %s', (_, snapshot) => {
  test('the same is said as of the running Envoy, or that it could not be seen', () => {
    const running = findingsOf(fakeEnvoy()).map(({ check, text }) => `${check}: ${text}`);
    const said = offline(snapshot());
    expect(said.filter(({ mark }) => mark === 'warn' || mark === 'wrong')).toEqual([]);
    const seen = said.filter(({ mark }) => mark === 'ok').map(({ check, text }) => `${check}: ${text}`);
    expect(seen.filter((text) => !running.includes(text))).toEqual([]);
    expect(seen.length).toBeGreaterThan(running.length / 2);
  });

  test('what only a running Envoy shows is unchecked', () => {
    const unchecked = offline(snapshot()).filter(({ mark }) => mark === 'unchecked');
    // A dump shows what Envoy has refused.
    const checks = new Set(unchecked.map(({ check }) => check).filter((check) => check !== 'updates'));
    expect([...checks]).toEqual([
      ...['admin answers', 'version', 'gauges', 'certificates', 'renewals', 'hosts'],
      ...['draining servers', 'answering', 'key'],
    ]);
  });
});

test('what is wrong in a running Envoy is wrong in its config dump', () => {
  const envoy = fakeEnvoy();
  managerOf(envoy).early_header_mutation_extensions = [];
  expect(describeTroubles(offline(snapshotOfDump(dumpOf(envoy)))).filter((text) => text.startsWith('wrong'))).toEqual([
    expect.stringMatching(/^wrong own pool header: /),
  ]);
});

test("a dump shows Envoy's version, and with ?include_eds the hosts of a cluster that came by EDS", () => {
  const cluster = { name: 'site_persistence', type: 'EDS' };
  const address = { socket_address: { address: '127.0.0.1', port_value: 9002 } };
  const endpoint_config = {
    cluster_name: 'site_persistence',
    endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }],
  };
  const version = { major_number: 1, minor_number: 38, patch: 3 };
  const snapshot = snapshotOfDump({
    configs: [
      { '@type': 'x.BootstrapConfigDump', bootstrap: { node: { user_agent_build_version: { version } } } },
      { '@type': 'x.ClustersConfigDump', dynamic_active_clusters: [{ cluster }] },
      { '@type': 'x.EndpointsConfigDump', dynamic_endpoint_configs: [{ endpoint_config }] },
    ],
  });
  expect(snapshot.version).toBe('1.38.3');
  expect(offline(snapshot).find(({ check, group }) => group === 'Sidecars' && check === 'cluster')?.mark).toBe(
    'unchecked',
  );
  expect(snapshot.clusters.get('site_persistence')).toEqual({ ...cluster, load_assignment: endpoint_config });
});

test('of a bootstrap whose listeners and clusters come by xDS nothing is called missing', () => {
  const snapshot = snapshotOfBootstrap({
    dynamic_resources: { lds_config: { path_config_source: { path: '/lds.yaml' } } },
  });
  const troubles = describeTroubles(offline(snapshot)).filter((text) => text.startsWith('wrong'));
  expect(troubles.filter((text) => !/graceful close|key/.test(text))).toEqual([]);
});

test.each<[string, unknown]>([
  ['null', null],
  ['a text', 'x'],
  ['an empty mapping', {}],
  ['other shapes', { static_resources: { listeners: [{ filter_chains: 1 }, null], clusters: [1] }, node: [] }],
  [
    'a dump of other shapes',
    { configs: [null, { '@type': 1 }, { '@type': 'x.ClustersConfigDump', static_clusters: 1 }] },
  ],
])('nothing is thrown for %s', (_, value) => {
  expect(() => offline(snapshotOfBootstrap(value))).not.toThrow();
  expect(() => offline(snapshotOfDump(value))).not.toThrow();
});

function withOverlay(content: object, config: Config = CONFIG): Config {
  const overlay = { kind: 'overlay', file: 'extra.yaml', text: JSON.stringify(content), content } as const;
  return { ...config, envoy: { ...config.envoy, overlay } };
}

/** Changes of the edge's connection manager. */
const ofManager = (typed_config: object) => ({
  static_resources: { listeners: [{ name: 'edge', filter_chains: [{ filters: [{ typed_config }] }] }] },
});

describe('an overlay', () => {
  test.each<[string, object, RegExp[]]>([
    ['changes nothing', {}, []],
    ['changes what no decision needs', ofManager({ request_headers_timeout: '5s' }), []],
    [
      'lets requests fail without a sidecar',
      ofManager({
        http_filters: [{ name: 'envoy.filters.http.ext_proc', typed_config: { failure_mode_allow: false } }],
      }),
      [/^wrong failure mode: /],
    ],
    [
      'takes the filter away',
      ofManager({ http_filters: [{ name: 'envoy.filters.http.ext_proc', $remove: true }] }),
      [/^wrong present: no listener has an ext_proc filter/],
    ],
    [
      'adds a route that takes everything',
      ofManager({
        route_config: {
          virtual_hosts: [
            {
              name: 'application',
              routes: [{ name: 'mine', match: { prefix: '/' }, route: { cluster: 'remote_pool' } }],
            },
          ],
        },
      }),
      [/^wrong decided: /],
    ],
    [
      'takes a route away, which another one then stands in for',
      ofManager({
        route_config: { virtual_hosts: [{ routes: [{ name: 'undecided_forwarded', $remove: true }] }] },
      }),
      [
        /^wrong taken away: what is rendered is no longer there: route undecided_forwarded of virtual host application of/,
      ],
    ],
    [
      'takes a cluster away to which something leads',
      { static_resources: { clusters: [{ name: 'remote_pool_closing', $remove: true }] } },
      [/^wrong taken away: .*: cluster remote_pool_closing; something still leads to cluster remote_pool_closing$/],
    ],
    [
      'takes a listener away: what is in it is not told',
      { static_resources: { listeners: [{ name: 'edge', $remove: true }] } },
      [/^warn taken away: what is rendered is no longer there: listener edge$/, /^wrong present: /],
    ],
    [
      'has the admin interface elsewhere',
      { admin: { address: { socket_address: { port_value: 1 } } } },
      [/^wrong admin address: Envoy's admin interface is not where envoy\.admin says/],
    ],
    ['lowers a limit', ofManager({ max_request_headers_kb: 60 }), [/^warn header limits: /]],
  ])('that %s', (_, content, expected) => {
    const troubles = describeTroubles(examineOverlay(withOverlay(content), NOW_MS));
    for (const pattern of expected) expect(troubles).toContainEqual(expect.stringMatching(pattern));
    if (expected.length === 0) expect(troubles).toEqual([]);
  });

  test.each(ENVOY_VERSIONS)('that changes nothing breaks nothing, with every key, for %s', (version) => {
    const config = parseConfig(EVERY_KEY.replace('"1.36"', `"${version}"`), 'site.yaml', 'rendering');
    expect(examineOverlay(withOverlay({}, config), NOW_MS)).toEqual([]);
  });

  test('is what the doctor expects of a running Envoy', () => {
    const config = withOverlay(
      ofManager({ http_filters: [{ name: 'envoy.filters.http.ext_proc', typed_config: { message_timeout: '3s' } }] }),
    );
    expect(describeTroubles(findingsOf(fakeEnvoy(config), config))).toEqual([]);
    expect(describeTroubles(findingsOf(fakeEnvoy(), config))).toEqual([
      expect.stringMatching(/^warn message timeout: /),
    ]);
  });
});
