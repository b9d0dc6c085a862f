import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DEFAULT_APPLICATION } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { siteKey } from '../../../src/contract.ts';
import { readSnapshot } from '../../../src/doctor/envoy-snapshot.ts';
import { CHECK_GROUPS, examine } from '../../../src/doctor/examine.ts';
import type { AdminAnswers } from '../../../src/envoy-admin/admin-answers.ts';
import { isTree, list, type Tree, tree } from '../../support/json-tree.ts';
import {
  AROUND,
  answersOf,
  aroundOf,
  CONFIG,
  describeTroubles,
  type FakeEnvoy,
  fakeEnvoy,
  managerOf,
  NOW_MS,
  troublesOf,
} from './fake-envoy.ts';

const SEVERAL = parseConfig(
  `
site: east
applications:
  - name: shop
    hosts: [shop.example.com]
    local_pool: { cookie: SHOPEAST, servers: ["127.0.0.1:3001"] }
    remote_pools: [{ site: west, cookie: SHOPWEST, servers: ["127.0.0.1:81"] }]
  - name: wiki
    hosts: ["*"]
    local_pool: { cookie: WIKIEAST, servers: ["127.0.0.1:3001"] }
    remote_pools: [{ site: west, cookie: WIKIWEST, servers: ["127.0.0.1:81"] }]
envoy: { listen: "127.0.0.1:80" }
`,
  'site.yaml',
  'rendering',
);

const FAST_PATH_KEY = siteKey(DEFAULT_APPLICATION, 'east');

test('what is printed is fine', () => {
  expect(troublesOf(fakeEnvoy())).toEqual([]);
});

test('what is printed with a limit of the heap is fine', () => {
  const { envoy, ...rest } = CONFIG;
  const limited = { ...rest, envoy: { ...envoy, limits: { ...envoy.limits, heapBytes: 1_073_741_824 } } };
  expect(troublesOf(fakeEnvoy(limited), limited)).toEqual([]);
});

test('every check says something, whatever it finds', () => {
  const findings = examine(CONFIG, readSnapshot(answersOf(fakeEnvoy())), AROUND);
  for (const group of CHECK_GROUPS) {
    for (const check of group.checks) {
      expect(findings.some((finding) => finding.group === group.name && finding.check === check.name)).toBe(true);
    }
  }
});

describe('a server that drains', () => {
  const draining = parseConfig(
    `
site: east
local_pool:
  cluster: local_pool
  cookie: KVAAVROI
  servers: [{ address: 127.0.0.1:3001, drain: true }, 127.0.0.1:3002]
remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ, servers: ["127.0.0.1:81"] }]
envoy: { listen: "127.0.0.1:80" }
`,
    'site.yaml',
    'rendering',
  );

  test('is fine where it drains in Envoy as well', () => {
    expect(troublesOf(fakeEnvoy(draining), draining)).toEqual([]);
  });

  test('in one of the two only gets new sessions, or none', () => {
    expect(troublesOf(fakeEnvoy(), draining)).toEqual([
      'wrong servers: local_pool lacks 127.0.0.1:3002, which the config file lists',
      expect.stringMatching(
        /^wrong draining servers: 127\.0\.0\.1:3001 of local_pool drains in the config file and not/,
      ),
    ]);
  });

  test('loses its sessions where the stickiness cookie is not obeyed', () => {
    const envoy = fakeEnvoy(draining);
    const clusters = list(envoy.dump, 'ClustersConfigDump', 'static_clusters').map((item) => tree(item, 'cluster'));
    for (const { common_lb_config } of clusters) {
      if (isTree(common_lb_config)) delete common_lb_config.override_host_status;
    }
    expect(troublesOf(envoy, draining)).toEqual([
      'wrong draining servers: local_pool: override_host_status lacks DRAINING: the sessions of 127.0.0.1:3001 move to other servers at once',
    ]);
  });
});

test.each([
  ['1.40.3', []],
  ['1.41.0', ['warn version: 1.41.0 is not tested with this version (1.36 to 1.40 are); checked as 1.40']],
  ['1.40.1-dev', []],
  ['1.39.2', ['wrong version: 1.39.2, but envoy.version is "1.40", for which another config is right']],
])('Envoy %s', (version, expected) => {
  const envoy = { ...fakeEnvoy(), version };
  expect(troublesOf(envoy).filter((trouble) => trouble.includes(' version: '))).toEqual(expected);
});

test('an Envoy older than all that are known is wrong, and checked as the oldest', () => {
  const envoy = { ...fakeEnvoy(), version: '1.29.1' };
  expect(troublesOf(envoy)).toEqual([
    'wrong version: 1.29.1 is older than all that this version is made for (1.36 to 1.40)',
    expect.stringMatching(/^wrong graceful close: .* is on: before Envoy 1\.40/),
  ]);
});

test('a version that is not rendered for but has the same config is warned of', () => {
  const envoy = { ...fakeEnvoy(), version: '1.37.0' };
  envoy.runtime.clear();
  const config = { ...CONFIG, envoy: { ...CONFIG.envoy, version: '1.36' } as const };
  expect(troublesOf(envoy, config)).toEqual([
    'warn version: 1.37.0, but envoy.version is "1.36", for which the same config is rendered',
  ]);
});

test.each([
  [{ pipe: { path: '/run/envoy/admin.sock', mode: 0o660 } }, []],
  [{ pipe: { path: '/run/envoy/admin.sock', mode: 0o666 } }, ['wrong']],
  [{ socket_address: { address: '::1', port_value: 9901 } }, []],
  [{ socket_address: { address: '10.1.2.3', port_value: 9901 } }, ['warn']],
  [{ socket_address: { address: '172.31.0.1', port_value: 9901 } }, ['warn']],
  [{ socket_address: { address: '172.32.0.1', port_value: 9901 } }, ['wrong']],
  [{ socket_address: { address: 'fd12::1', port_value: 9901 } }, ['warn']],
  [{ socket_address: { address: '::', port_value: 9901 } }, ['wrong']],
  [{ socket_address: { address: '203.0.113.9', port_value: 9901 } }, ['wrong']],
  [undefined, ['unchecked']],
])('an admin interface at %j: %s', (address, marks) => {
  const envoy = fakeEnvoy();
  tree(envoy.bootstrap, 'admin').address = address;
  expect(troublesOf(envoy).map((trouble) => trouble.split(' ')[0])).toEqual(marks);
});

test.each([
  ['1.40.0', { allow_paths: [{ prefix: '/' }] }, ['warn']],
  ['1.40.0', { allow_paths: [{ prefix: '/stats' }, { prefix: '/runtime_modify' }] }, []],
  ['1.40.0', { allow_paths: [], address: { pipe: { path: '/run/admin.sock', mode: 0o660 } } }, []],
  ['1.37.0', { allow_paths: [] }, []],
])('the admin interface of Envoy %s with %j: %j', (version, admin, marks) => {
  const envoy = { ...fakeEnvoy(), version };
  Object.assign(tree(envoy.bootstrap, 'admin'), admin);
  const troubles = troublesOf(envoy).filter((trouble) => trouble.includes(' admin paths: '));
  expect(troubles.map((trouble) => trouble.split(' ')[0])).toEqual(marks);
});

test('with the fast path off, an admin interface that does not let the runtime be written is only warned of', () => {
  const config = { ...CONFIG, envoy: { ...CONFIG.envoy, fastPath: false } };
  const envoy = fakeEnvoy(config);
  tree(envoy.bootstrap, 'admin').allow_paths = [{ prefix: '/stats' }, { exact: '/runtime' }];
  expect(troublesOf(envoy, config)).toEqual([
    'warn admin paths: allow_paths refuses /runtime_modify: no sidecar can set site_persistence.drain.default, so a drain is that of one sidecar',
  ]);
});

test('an update that Envoy has refused is told', () => {
  const envoy = fakeEnvoy();
  tree(envoy.dump, 'ListenersConfigDump').dynamic_listeners = [
    { name: 'broken', error_state: { details: 'no such filter\nmore' } },
  ];
  tree(envoy.dump, 'ClustersConfigDump').dynamic_warming_clusters = [
    { cluster: { name: 'slow' }, error_state: { details: 'no such host' } },
  ];
  expect(troublesOf(envoy)).toEqual([
    'warn updates: Envoy refused an update and keeps the old config: cluster slow: no such host',
    'warn updates: Envoy refused an update and keeps the old config: listener broken: no such filter',
  ]);
});

test.each([
  [30, 'listener_edge_certificate', []],
  [
    3,
    'listener_edge_certificate',
    ['warn certificates: listener_edge_certificate of listener [::]_443 expires on 2026-06-04'],
  ],
  [-1, 'listener_edge_ca', ['warn certificates: listener_edge_ca of listener [::]_443 has expired on 2026-05-31']],
  [
    -1,
    'listener_edge_certificate',
    ['wrong certificates: listener_edge_certificate of listener [::]_443 has expired on 2026-05-31'],
  ],
  // It may be the system's, some CA of which has always ended.
  [-1, 'unnamed_ca_cert_e3b0c442', []],
])("a certificate of Envoy's that ends in %s days: %s", (days, name, troubles) => {
  const envoy = fakeEnvoy();
  const seconds = NOW_MS / 1_000 + days * 86_400;
  envoy.stats.set(`listener.[::]_443.ssl.certificate.${name}.expiration_unix_time_seconds`, seconds);
  expect(troublesOf(envoy)).toEqual(troubles);
});

test('a certificate that Envoy could not take is told until another is in use, and what it refused later', () => {
  const envoy = fakeEnvoy();
  const fixed = 'listener_hop_edge_certificate';
  envoy.stats.set(`listener.[::]_8443.ssl.certificate.${fixed}.expiration_unix_time_seconds`, NOW_MS);
  envoy.stats.set('sds.cluster_remote_pool_ca.key_rotation_failed', 2);
  for (const [secret, success, rejected] of [
    ['listener_edge_certificate', 0, 1],
    [fixed, 0, 1],
    ['cluster_remote_pool_ca', 1, 1],
    ['cluster_remote_pool_certificate', 0, 0],
  ] as const) {
    envoy.stats.set(`sds.${secret}.update_success`, success);
    envoy.stats.set(`sds.${secret}.update_rejected`, rejected);
  }
  expect(troublesOf(envoy)).toEqual([
    'wrong certificates: Envoy takes none of what listener_edge_certificate leads to: no connection with it',
    'warn renewals: Envoy refused 2 times what it found of cluster_remote_pool_ca, and went on with what it had',
  ]);
});

test('what comes by scoped routes, VHDS or a match tree, or has not come yet, is said to be unread', () => {
  const unread = (change: (manager: ReturnType<typeof managerOf>) => void) => {
    const envoy = fakeEnvoy();
    change(managerOf(envoy));
    return troublesOf(envoy).find((trouble) => trouble.startsWith('unchecked present'));
  };
  expect(
    unread((manager) => {
      delete manager.route_config;
      manager.scoped_routes = { name: 'scopes' };
    }),
  ).toContain('listener edge: not read: scoped routes');
  expect(
    unread((manager) => {
      delete manager.route_config;
      manager.rds = { route_config_name: 'late' };
    }),
  ).toContain('routes late, which have not come over RDS');
  expect(
    unread((manager) => {
      tree(manager, 'route_config').vhds = {};
    }),
  ).toContain('virtual hosts that come by VHDS');
  expect(
    unread((manager) => {
      tree(manager, 'route_config', 'virtual_hosts', 0).matcher = {};
    }),
  ).toContain('the match tree of virtual host application');
  expect(
    unread((manager) => {
      list(manager, 'http_filters').push({ name: 'late', config_discovery: {} });
    }),
  ).toContain('the config of filter late');
});

test("a filter that asks by Google's gRPC client is found, and its cluster cannot be checked", () => {
  const envoy = fakeEnvoy();
  const service = tree(managerOf(envoy), 'http_filters', 0, 'typed_config', 'grpc_service');
  delete service.envoy_grpc;
  service.google_grpc = { target_uri: '127.0.0.1:9002' };
  const troubles = troublesOf(envoy);
  expect(troubles).toHaveLength(8);
  expect(troubles[0]).toBe("unchecked cluster: Google's gRPC client (google_grpc) has no cluster: use envoy_grpc");
});

test('an ext_proc filter of somebody else is not taken for ours', () => {
  const envoy = fakeEnvoy();
  const filters = list(managerOf(envoy), 'http_filters');
  const other = structuredClone(tree(filters, 0));
  other.name = 'waf';
  tree(other, 'typed_config', 'grpc_service', 'envoy_grpc').cluster_name = 'waf';
  filters.unshift(other);
  expect(troublesOf(envoy)).toEqual([]);
  filters.splice(1, 1);
  expect(troublesOf(envoy)[0]).toBeDefined();
  expect(troublesOf(envoy).find((trouble) => trouble.startsWith('wrong present'))).toBe(
    'wrong present: no listener has an ext_proc filter that asks 127.0.0.1:9002; those that are there (waf) ask others',
  );
});

test('a cluster of sidecars without a host is wrong', () => {
  const answers = answersOf(fakeEnvoy());
  const clusters = list(answers.clusters, 'json', 'cluster_statuses');
  delete tree(clusters, 'name=site_persistence').host_statuses;
  expect(describeTroubles(examine(CONFIG, readSnapshot(answers), AROUND))).toEqual([
    'wrong answering: no sidecar answers, so no request is decided: 0 of 0 up',
  ]);
});

test('a filter behind a matcher is found', () => {
  const envoy = fakeEnvoy();
  const filter = tree(managerOf(envoy), 'http_filters', 0);
  filter.typed_config = {
    '@type': 'type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher',
    extension_config: { name: 'inner', typed_config: filter.typed_config },
  };
  expect(troublesOf(envoy)).toEqual([]);
});

// Its hop header comes from the cluster, which the route names itself.
test('one route that takes its cluster from the pool header is right for every decision', () => {
  const envoy = fakeEnvoy();
  const routes = list(managerOf(envoy), 'route_config', 'virtual_hosts', 0, 'routes');
  for (const name of ['decided_remote_pool', 'decided_local']) {
    // One for GET and HEAD, and one for the others.
    for (let count = 0; count < 2; count++) routes.splice(routes.indexOf(tree(routes, `name=${name}`)), 1);
  }
  routes.splice(2, 0, {
    name: 'by_header',
    match: { prefix: '/', headers: [{ name: 'X-Site-Pool', present_match: true }] },
    route: { cluster_header: 'x-site-pool' },
  });
  const troubles = troublesOf(envoy);
  expect(troubles.filter((trouble) => / (decided|undecided|forwarded):/.test(trouble))).toEqual([]);
  expect(troubles.filter((trouble) => trouble.startsWith('wrong'))).toEqual([
    expect.stringContaining('stickiness off: route "by_header" gives clients'),
    expect.stringContaining('retry on refusal: route "by_header": retry_policy is not set: '),
  ]);
});

test('a fallback route that does not read whether its site is held', () => {
  const envoy = fakeEnvoy();
  for (const item of list(managerOf(envoy), 'route_config', 'virtual_hosts', 0, 'routes')) {
    const route = tree(item);
    if (route.name === 'undecided_remote_pool') delete tree(route, 'match').runtime_fraction;
  }
  expect(troublesOf(envoy)).toEqual([
    'warn held: route "undecided_remote_pool" does not read site_persistence.hold_open.default.west: without a sidecar a hold of west is not obeyed',
  ]);
});

test('a site that is held is no trouble', () => {
  const envoy = fakeEnvoy();
  envoy.runtime.set('site_persistence.hold.default.west', '9999999999');
  envoy.runtime.set('site_persistence.hold_open.default.west', '0');
  expect(troublesOf(envoy)).toEqual([]);
});

test('weights between pools are no decision', () => {
  const envoy = fakeEnvoy();
  const route = tree(
    managerOf(envoy),
    'route_config',
    'virtual_hosts',
    0,
    'routes',
    'name=decided_remote_pool',
    'route',
  );
  delete route.cluster;
  route.weighted_clusters = { clusters: [{ name: 'remote_pool' }, { name: 'local_pool' }] };
  expect(troublesOf(envoy)).toContainEqual(
    expect.stringMatching(/^wrong decided: decided for remote_pool: .* to remote_pool or local_pool$/),
  );
});

test('aggregate clusters that lead to each other are followed to an end', () => {
  const envoy = fakeEnvoy();
  const clusters = list(envoy.dump, 'ClustersConfigDump', 'static_clusters').map((item) => tree(item, 'cluster'));
  const aggregate = clusters.find(({ name }) => name === 'remote_pool_or_local');
  tree(aggregate, 'cluster_type', 'typed_config').clusters = ['remote_pool_or_local', 'remote_pool_or_local'];
  expect(troublesOf(envoy)).toContainEqual(expect.stringMatching(/^wrong decided: decided for remote_pool/));
});

test('a stale key of the fast path is wrong, with the command that takes it away, by a Unix socket too', () => {
  const admin = { kind: 'unix', path: '/run/admin.sock' } as const;
  const config = { ...CONFIG, envoy: { ...CONFIG.envoy, fastPath: false, admin } };
  const envoy = fakeEnvoy(config);
  envoy.runtime.set(FAST_PATH_KEY, '100');
  const found = examine(config, readSnapshot(answersOf(envoy)), AROUND).find(({ mark }) => mark === 'wrong');
  expect(found?.fix?.lines).toBe(
    'curl -X POST --unix-socket /run/admin.sock "http://envoy/runtime_modify?site_persistence.default.east=0"',
  );
});

test('when nothing but the version is answered, each check says so or cannot be checked', () => {
  const refused = { why: 'GET /x was answered 403' };
  const answers: AdminAnswers = {
    ...answersOf(fakeEnvoy()),
    configDump: refused,
    clusters: refused,
    listeners: refused,
    runtime: refused,
    stats: refused,
  };
  const findings = examine(CONFIG, readSnapshot(answers), { ...AROUND, duplicateCookies: null });
  expect(describeTroubles(findings).filter((trouble) => trouble.startsWith('wrong'))).toEqual([
    'wrong admin answers: GET /x was answered 403: most of what follows cannot be checked',
    'wrong admin answers: GET /x was answered 403: the sidecar needs it',
    'wrong admin answers: GET /x was answered 403: the sidecar needs it',
  ]);
  const notOfEnvoy = ['certificates', 'cookie lifetime'];
  expect(
    findings.filter(({ mark, check }) => mark === 'ok' && check !== 'version' && !notOfEnvoy.includes(check)),
  ).toEqual([]);
});

test.each([
  ['one application', CONFIG],
  ['several', SEVERAL],
])('whatever Envoy answers, every finding is one line and nothing is thrown, with %s', (_, config) => {
  const original = JSON.stringify(answersOf(fakeEnvoy(config)));
  const junk = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom('', '[', '(?<', 0, -1, null, [], {}, 'local_pool'),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(), junk), { minLength: 1, maxLength: 5 }), (changes) => {
      const answers: AdminAnswers = JSON.parse(original);
      for (const [position, value] of changes) replaceAt(answers, position, value);
      for (const { text, fix, mark } of examine(config, readSnapshot(answers), aroundOf(config))) {
        expect(text).not.toBe('');
        if (mark === 'wrong') expect(fix?.lines).not.toBe('');
      }
    }),
    { numRuns: 40 },
  );
});

/** Puts a value in place of one member, whichever the position comes to, but keeps what is an answer. */
function replaceAt(answers: AdminAnswers, position: number, value: unknown): void {
  const places: (() => void)[] = [];
  const visit = (node: unknown, depth: number) => {
    if (typeof node !== 'object' || node === null) return;
    for (const key of Object.keys(node)) {
      if (depth > 1) places.push(() => Reflect.set(node, key, value));
      visit(Reflect.get(node, key), depth + 1);
    }
  };
  visit(answers, 0);
  places[position % places.length]?.();
}

test('TLS to the sidecars must be as the sidecars have it', () => {
  const listenTls = { certFile: '/c.pem', keyFile: '/c.key', clientCaFile: '/ca.pem' };
  const sidecarTls = { sni: 'sidecar.test', caFile: '/ca.pem', certFile: '/e.pem', keyFile: '/e.key' };
  const withTls = { ...CONFIG, listenTls, envoy: { ...CONFIG.envoy, sidecarTls } };
  expect(troublesOf(fakeEnvoy(withTls), withTls)).toEqual([]);
  expect(troublesOf(fakeEnvoy(), withTls)).toEqual([
    'wrong TLS: site_persistence does not speak TLS as listen_tls asks for, so no request is decided',
  ]);
  expect(troublesOf(fakeEnvoy(), { ...CONFIG, listenTls })).toHaveLength(1);
  expect(troublesOf(fakeEnvoy(withTls), CONFIG)).toEqual([
    'wrong TLS: site_persistence speaks TLS and the sidecar does not, so no request is decided',
  ]);
});

describe('the cookie', () => {
  const upstreamFilter = (envoy: FakeEnvoy) => {
    const clusters = list(envoy.bootstrap, 'static_resources', 'clusters');
    const options = tree(clusters, 'name=local_pool', 'typed_extension_protocol_options');
    return tree(Object.values(options)[0], 'http_filters', 0, 'typed_config', 'mutations');
  };
  const sharesDump = (envoy: FakeEnvoy, change: (mutations: Tree) => void) => {
    change(upstreamFilter(envoy));
    envoy.dump.ClustersConfigDump = {
      static_clusters: list(envoy.bootstrap, 'static_resources', 'clusters').map((cluster) => ({ cluster })),
    };
    return troublesOf(envoy);
  };

  test('that is set on every answer is warned of', () => {
    const envoy = fakeEnvoy();
    const filters = list(managerOf(envoy), 'http_filters');
    const wrapped = tree(filters, 'name=envoy.filters.http.stateful_session');
    wrapped.typed_config = tree(wrapped, 'typed_config', 'extension_config').typed_config;
    expect(troublesOf(envoy)).toEqual([
      expect.stringMatching(
        /^warn own answers: this site's cookie is also set on answers that no server of this site gave/,
      ),
    ]);
  });

  test('that waits for a mark which the local pool does not set is wrong', () => {
    const troubles = sharesDump(fakeEnvoy(), (mutations) => {
      mutations.response_mutations = list(mutations, 'response_mutations').filter((item) => !('append' in tree(item)));
    });
    expect(troubles).toContainEqual(
      expect.stringMatching(
        /^wrong own answers: the stateful_session filter waits for a mark that local_pool does not set/,
      ),
    );
  });

  test('beside headers that an application may not say to Envoy: each that is let through is warned of', () => {
    const troubles = sharesDump(fakeEnvoy(), (mutations) => {
      mutations.response_mutations = list(mutations, 'response_mutations').filter((item) => 'append' in tree(item));
    });
    expect(troubles).toEqual([
      expect.stringMatching(/^warn the servers' own: .* lacks x-site-refused: .* gets the request again/),
      expect.stringMatching(/^warn the servers' own: .* lacks x-envoy-immediate-health-check-fail: .* is taken out/),
    ]);
  });

  test('that came twice is warned of', () => {
    const findings = examine(CONFIG, readSnapshot(answersOf(fakeEnvoy())), {
      ...AROUND,
      duplicateCookies: new Map([[DEFAULT_APPLICATION, 7]]),
    });
    expect(describeTroubles(findings)).toEqual([
      expect.stringMatching(/^warn cookies: 7 requests carried KVAAVROI twice/),
    ]);
  });
});

describe('the protocol', () => {
  const HTTP1 = {
    cluster: 'local_pool',
    address: '127.0.0.1:3001',
    http1: true,
    http2: false,
    isOverTls: false,
    isOther: false,
    why: '',
  };
  const HTTP2 = { ...HTTP1, http1: false, http2: true, why: 'its answer is not HTTP/1.1' };
  const BOTH = { ...HTTP1, http2: true };

  function troublesOf(pools: string, spoken: (typeof HTTP1)[]): string[] {
    const text = `
site: east
local_pool: { cluster: local_pool, cookie: KVAAVROI, servers: ["127.0.0.1:3001"], ${pools.split(';')[0]} }
remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ, servers: ["127.0.0.1:81"], ${pools.split(';')[1] ?? ''} }]
envoy: { listen: "127.0.0.1:80" }
`;
    const config = parseConfig(text, 'site.yaml', 'rendering');
    return describeTroubles(examine(config, readSnapshot(answersOf(fakeEnvoy(config))), { ...AROUND, spoken }));
  }

  test.each([
    ['protocol: http1', HTTP1],
    ['protocol: http1', BOTH],
    ['protocol: http2', HTTP2],
    ['protocol: http2', BOTH],
    ['protocol: downstream', BOTH],
  ])('%s is right for a server that speaks it', (pools, spoken) => {
    expect(troublesOf(pools, [spoken])).toEqual([]);
  });

  test.each([
    ['protocol: http1', HTTP2, 'HTTP/1.1, only HTTP/2'],
    ['protocol: http2', HTTP1, 'HTTP/2, only HTTP/1.1'],
    ['protocol: downstream', HTTP1, 'HTTP/2, only HTTP/1.1'],
    ['protocol: downstream', HTTP2, 'HTTP/1.1, only HTTP/2'],
  ])('%s is wrong for a server that does not speak it', (pools, spoken, what) => {
    expect(troublesOf(pools, [spoken])).toEqual([
      expect.stringContaining(`wrong local pool: 127.0.0.1:3001 does not speak ${what}`),
    ]);
  });

  test('of a server that speaks something else, such as TLS, is wrong', () => {
    expect(
      troublesOf('protocol: http1', [{ ...HTTP1, http1: false, isOther: true, why: 'connection closed' }]),
    ).toEqual(['wrong local pool: 127.0.0.1:3001 speaks neither HTTP/1.1 nor HTTP/2 in clear text: connection closed']);
  });

  test('is said of what Envoy speaks, which may be clear text though the config file has TLS by now', () => {
    const spoken = { ...HTTP1, http1: false, isOther: true, why: 'its answer is not HTTP/1.1' };
    expect(troublesOf('tls: { sni: a.test }', [spoken])).toContain(
      'wrong local pool: 127.0.0.1:3001 speaks neither HTTP/1.1 nor HTTP/2 in clear text: its answer is not HTTP/1.1',
    );
    expect(troublesOf('tls: { sni: a.test }', [{ ...spoken, isOverTls: true }])).toContain(
      'wrong local pool: 127.0.0.1:3001 speaks neither HTTP/1.1 nor HTTP/2 over TLS: its answer is not HTTP/1.1',
    );
  });

  test('between sites is wrong where gRPC does not pass it', () => {
    expect(troublesOf('protocol: http2; protocol: http1', [HTTP2])).toEqual([
      expect.stringMatching(/^wrong between sites: Envoy speaks HTTP\/1.1 to west: gRPC/),
    ]);
  });
});

test.each([
  ['1.36.4', '1.36', 'warn'],
  ['1.40.0', '1.40', 'wrong'],
])('a certificate that Envoy 1.38 and later refuse, with Envoy %s', (version, minor, mark) => {
  const config = configWith({ minor });
  const envoy = { ...fakeEnvoy(config), version };
  const peers = [
    { address: '192.0.2.1:443', site: 'west', sni: 'west.test', why: 'its keyUsage lacks digitalSignature' },
  ];
  expect(describeTroubles(examine(config, readSnapshot(answersOf(envoy)), { ...AROUND, peers }))).toEqual(
    expect.arrayContaining([`${mark} certificates: that of 192.0.2.1:443 (west): its keyUsage lacks digitalSignature`]),
  );
});

test.each([
  ['1.36', 'warn', /in use or not; Envoy 1\.36 counts that by its machine's uptime/],
  ['1.40', 'ok', /in use or not$/],
])('what the ttl of the cookie does is said, with Envoy %s', (minor, mark, text) => {
  const config = configWith({ minor });
  const envoy = { ...fakeEnvoy(config), version: `${minor}.0` };
  const findings = examine(config, readSnapshot(answersOf(envoy)), AROUND);
  expect(findings.find(({ check }) => check === 'cookie lifetime')).toMatchObject({
    mark,
    text: expect.stringMatching(text),
  });
});

/** With a ttl of the cookie, and TLS to west. */
function configWith({ minor }: { minor: string }) {
  return parseConfig(
    `
site: east
local_pool: { cluster: local_pool, cookie: { name: KVAAVROI, ttl: 1h }, servers: ["127.0.0.1:3001"] }
remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ, servers: ["127.0.0.1:81"], tls: { sni: west.test } }]
envoy: { listen: "127.0.0.1:80", version: "${minor}" }
`,
    'site.yaml',
    'rendering',
  );
}
