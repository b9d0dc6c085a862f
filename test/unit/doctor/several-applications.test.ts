import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseConfig } from '../../../src/config/load.ts';
import { list, paste, type Tree, tree } from '../../support/json-tree.ts';
import { describeTroubles, type FakeEnvoy, fakeEnvoy, findingsOf, managerOf } from './fake-envoy.ts';

const SITE = `
site: east
applications:
  - name: shop
    hosts: [shop.example.com, "*.shop.example.com"]
    local_pool: { cookie: SHOPEAST, servers: ["127.0.0.1:3001"] }
    remote_pools: [{ site: west, cookie: SHOPWEST, servers: ["127.0.0.1:81"] }]
  - name: wiki
    hosts: [wiki.example.com]
    local_pool: { cookie: WIKIEAST, servers: ["127.0.0.1:3001"] }
    remote_pools: [{ site: west, cookie: WIKIWEST, servers: ["127.0.0.1:81"] }]
envoy: { listen: "127.0.0.1:80", fast_path: FAST_PATH }
`;

const configWith = (fastPath: boolean) =>
  parseConfig(SITE.replace('FAST_PATH', `${fastPath}`), 'site.yaml', 'rendering');
const CONFIG = configWith(false);

const troublesOf = (envoy: FakeEnvoy) => describeTroubles(findingsOf(envoy, CONFIG));
const hosts = (envoy: FakeEnvoy) => list(managerOf(envoy), 'route_config', 'virtual_hosts');
const host = (envoy: FakeEnvoy, name: string) => tree(hosts(envoy), `name=${name}`);
const routes = (envoy: FakeEnvoy, name: string) => list(host(envoy, name), 'routes');
const cluster = (envoy: FakeEnvoy, name: string) =>
  list(envoy.dump, 'ClustersConfigDump', 'static_clusters')
    .map((item) => tree(item, 'cluster'))
    .find((item) => item.name === name);
const STICKY = 'envoy.filters.http.stateful_session';
const filters = (envoy: FakeEnvoy) => list(managerOf(envoy), 'http_filters');

test.each([false, true])('what is printed for several applications is fine, with fast_path: %s', (fastPath) => {
  const config = configWith(fastPath);
  expect(describeTroubles(findingsOf(fakeEnvoy(config), config))).toEqual([]);
});

interface Break {
  readonly what: string;
  readonly by: (envoy: FakeEnvoy) => void;
  /** All that is found. */
  readonly finds: readonly RegExp[];
  /** Where the lines of the first fix go: with them all is well again. */
  readonly at?: (envoy: FakeEnvoy) => unknown;
}

const BREAKS: readonly Break[] = [
  {
    what: "a virtual host gives another application's cookie",
    by: (envoy) => {
      host(envoy, 'wiki').typed_per_filter_config = structuredClone(host(envoy, 'shop').typed_per_filter_config);
    },
    finds: [/^wrong stickiness: wiki: virtual host wiki: cookie\.name is SHOPEAST, not WIKIEAST/],
    at: (envoy) => tree(host(envoy, 'wiki'), 'typed_per_filter_config'),
  },
  {
    what: 'a virtual host gives no cookie',
    by: (envoy) => {
      host(envoy, 'wiki').typed_per_filter_config = {};
    },
    finds: [/^wrong stickiness: wiki: virtual host wiki does not set the cookie WIKIEAST$/],
    at: (envoy) => tree(host(envoy, 'wiki'), 'typed_per_filter_config'),
  },
  {
    what: 'a virtual host switches stickiness off',
    by: (envoy) => {
      tree(host(envoy, 'shop'), 'typed_per_filter_config')[STICKY] = {
        '@type': 'type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute',
        disabled: true,
      };
    },
    finds: [/^wrong stickiness: shop: virtual host shop switches envoy\.filters\.http\.stateful_session off/],
    at: (envoy) => {
      const settings = tree(host(envoy, 'shop'), 'typed_per_filter_config');
      delete settings[STICKY];
      return settings;
    },
  },
  {
    what: 'a virtual host keeps its state by a header',
    by: (envoy) => {
      const settings = tree(
        host(envoy, 'shop'),
        'typed_per_filter_config',
        STICKY,
        'stateful_session',
        'session_state',
      );
      settings.typed_config = { '@type': 'type.googleapis.com/x.HeaderBasedSessionState' };
    },
    finds: [/^wrong stickiness: shop: virtual host shop keeps its state by x\.HeaderBasedSessionState/],
  },
  {
    what: 'the stand-in listener gives another cookie',
    by: (envoy) => {
      const listener = list(envoy.dump, 'ListenersConfigDump', 'static_listeners')
        .map((item) => tree(item, 'listener'))
        .find(({ name }) => name === 'site_persistence_stand_in_wiki');
      const filter = tree(listener, 'filter_chains', 0, 'filters', 0, 'typed_config', 'http_filters', `name=${STICKY}`);
      const session = tree(filter, 'typed_config', 'extension_config', 'typed_config', 'session_state');
      tree(session, 'typed_config', 'cookie').name = 'OTHER';
    },
    finds: [/^wrong stickiness: wiki: listener site_persistence_stand_in_wiki: cookie\.name is OTHER, not WIKIEAST/],
  },
  {
    what: "a decision leads to another application's pool",
    by: (envoy) => {
      for (const item of routes(envoy, 'shop')) {
        const route = tree(item);
        if (route.name === 'decided_shop_west') route.route = { cluster: 'wiki_west' };
      }
    },
    finds: [/^wrong decided: shop: decided for shop_west: route "decided_shop_west" sends .* to wiki_west$/],
  },
  {
    what: 'a pool has no health check',
    by: (envoy) => delete cluster(envoy, 'wiki_west')?.health_checks,
    finds: [/^wrong health check: wiki: wiki_west: health_checks is not set/],
  },
  {
    what: 'no route leads the status URI to a filter that answers',
    by: (envoy) => {
      const left = routes(envoy, 'wiki').filter((route) => tree(route).name !== 'undecided_status');
      host(envoy, 'wiki').routes = left;
    },
    finds: [/^warn status URI: wiki: no route leads \/local_pool_status to a health_check filter: without a sidecar/],
    at: (envoy) => routes(envoy, 'wiki'),
  },
  {
    what: 'an application has no virtual host',
    by: (envoy) => hosts(envoy).splice(0, 1),
    finds: [/^wrong own: shop: shop\.example\.com, \*\.shop\.example\.com has no virtual host: it is answered 404$/],
    at: hosts,
  },
  {
    what: 'a host has no virtual host',
    by: (envoy) => {
      host(envoy, 'shop').domains = ['shop.example.com'];
    },
    finds: [/^wrong own: shop: \*\.shop\.example\.com has no virtual host: it is answered 404$/],
    at: (envoy) => host(envoy, 'shop'),
  },
  {
    what: 'a host is given to another virtual host',
    by: (envoy) => {
      host(envoy, 'shop').domains = ['*.shop.example.com'];
      hosts(envoy).push(stranger({ domains: ['*.example.com'] }));
    },
    finds: [/^wrong own: shop: shop\.example\.com goes to virtual host cdn, which leads to none of its pools$/],
    at: (envoy) => host(envoy, 'shop'),
  },
  {
    what: "a virtual host of another host leads to an application's pools",
    by: (envoy) => {
      hosts(envoy).push({ ...structuredClone(host(envoy, 'wiki')), name: 'alias', domains: ['help.example.com'] });
    },
    finds: [/^warn others: virtual host alias leads to pools of wiki, but help\.example\.com is no host of it/],
  },
  {
    what: 'the virtual host depends on the port',
    by: (envoy) => delete tree(managerOf(envoy), 'route_config').ignore_port_in_host_matching,
    finds: [/^warn port of the host: a host with a port, such as shop\.example\.com:8443, /],
    at: (envoy) => tree(managerOf(envoy), 'route_config'),
  },
  {
    what: 'the sidecar is not told the host',
    by: (envoy) => {
      const rules = tree(filters(envoy)[0], 'typed_config', 'forward_rules', 'allowed_headers');
      rules.patterns = list(rules, 'patterns').filter((pattern) => tree(pattern).exact !== ':authority');
    },
    finds: [/^wrong headers sent: forward_rules lacks :authority: the sidecar finds no application/],
    at: (envoy) => tree(filters(envoy)[0], 'typed_config'),
  },
  {
    what: 'a key of the fast path is left over',
    by: (envoy) => envoy.runtime.set('site_persistence.wiki.east', '100'),
    finds: [/^wrong key: wiki: site_persistence\.wiki\.east is 100, though envoy\.fast_path is false/],
  },
];

test.each(BREAKS.map((each) => [each.what, each] as const))(
  '%s: found, named, and fixed by what is printed',
  (_, each) => {
    const envoy = fakeEnvoy(CONFIG);
    each.by(envoy);
    expect(troublesOf(envoy).filter((trouble) => !trouble.startsWith('unchecked'))).toEqual(
      each.finds.map((text) => expect.stringMatching(text)),
    );
    if (each.at === undefined) return;
    const fix = findingsOf(envoy, CONFIG).find(({ mark }) => mark === 'wrong' || mark === 'warn')?.fix;
    paste(each.at(envoy), parse(fix?.lines ?? ''));
    expect(troublesOf(envoy)).toEqual([]);
  },
);

test('a route of the fast path that is missing is named, though another application has one', () => {
  const config = configWith(true);
  const envoy = fakeEnvoy(config);
  const left = routes(envoy, 'wiki').filter((route) => tree(route).name !== 'steady_wiki_west');
  host(envoy, 'wiki').routes = left;
  expect(describeTroubles(findingsOf(envoy, config))).toEqual([
    'wrong route: wiki: no route reads site_persistence.wiki.west: such requests ask the sidecar',
  ]);
});

test('a virtual host of something else is found where wildcards of both kinds overlap', () => {
  // Of shop.some.org Envoy takes the end, and the sidecar, which knows no other hosts, the beginning.
  const text = SITE.replace('FAST_PATH', 'false').replace('"*.shop.example.com"', '"shop.*"');
  const config = parseConfig(text, 'site.yaml', 'rendering');
  const envoy = fakeEnvoy(config);
  hosts(envoy).push(stranger({ domains: ['*.org'] }));
  expect(describeTroubles(findingsOf(envoy, config))).toEqual([
    expect.stringMatching(
      /^wrong others: virtual host cdn leads to none of the pools, but the sidecar takes its requests/,
    ),
  ]);
});

/** A virtual host of something else, with what is said of it. */
function stranger(more: Tree = {}): Tree {
  return {
    ...{ name: 'cdn', domains: ['cdn.example.com'] },
    routes: [{ match: { prefix: '/' }, route: { cluster: 'cdn' } }],
    ...more,
  };
}

describe('a virtual host of something else', () => {
  test('is left alone: the sidecar has no opinion, and the filters say nothing themselves', () => {
    const envoy = fakeEnvoy(CONFIG);
    hosts(envoy).push(stranger());
    expect(findingsOf(envoy, CONFIG).find(({ check }) => check === 'others')).toMatchObject({
      mark: 'ok',
      text: expect.stringMatching(
        /^virtual host cdn is left alone; each of its requests asks the sidecar all the same/,
      ),
    });
    expect(troublesOf(envoy)).toEqual([]);
  });

  test('that an application takes by its wildcard, as the sidecar sees it, is not left alone', () => {
    const envoy = fakeEnvoy(CONFIG);
    hosts(envoy).push(stranger({ domains: ['cdn.shop.example.com'] }));
    expect(troublesOf(envoy)).toEqual([
      expect.stringMatching(/^wrong others: virtual host cdn leads to none of the pools, but the sidecar takes its/),
    ]);
  });
});

test("the sidecar's filter is found among others, whatever it and its cluster are called", () => {
  const envoy = fakeEnvoy(CONFIG);
  const [own] = filters(envoy);
  // Another's has the name of the cluster that is printed.
  const other = structuredClone(tree(own));
  Object.assign(tree(own), { name: 'decide' });
  tree(own, 'typed_config', 'grpc_service', 'envoy_grpc').cluster_name = 'deciders';
  tree(other).name = 'waf';
  filters(envoy).unshift(other);
  const dump = list(envoy.dump, 'ClustersConfigDump', 'static_clusters');
  for (const clusters of [list(envoy.bootstrap, 'static_resources', 'clusters'), dump]) {
    const wrapped = clusters === dump;
    const printed = clusters
      .map((item) => (wrapped ? tree(item, 'cluster') : tree(item)))
      .find(({ name }) => name === 'site_persistence');
    const deciders = { ...structuredClone(printed), name: 'deciders' };
    const address = tree(printed, 'load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address');
    address.socket_address = { address: '127.0.0.1', port_value: 7 };
    clusters.push(wrapped ? { cluster: deciders } : deciders);
  }
  expect(troublesOf(envoy)).toEqual([]);
  expect(findingsOf(envoy, CONFIG).find(({ check }) => check === 'present')?.text).toBe(
    'listener edge asks deciders (decide)',
  );
});

test.each([
  ['second', []],
  // What other sites forward comes by this one.
  ['hop_edge', ['wrong own: shop: listener hop_edge: shop.example.com, *.shop.example.com has no virtual host']],
])('an application on a listener of its own is looked for there: %s', (name, expected) => {
  const envoy = fakeEnvoy(CONFIG);
  const listeners = list(envoy.dump, 'ListenersConfigDump', 'static_listeners');
  const second = structuredClone(tree(listeners[0]));
  tree(second, 'listener').name = name;
  listeners.push(second);
  const route_config = tree(second, 'listener', 'filter_chains', 0, 'filters', 0, 'typed_config', 'route_config');
  route_config.virtual_hosts = [tree(list(route_config, 'virtual_hosts'), 'name=wiki')];
  hosts(envoy).splice(1, 1);
  const troubles = troublesOf(envoy).filter((trouble) => !/\/listeners|^unchecked/.test(trouble));
  expect(troubles.map((trouble) => trouble.replace(/: it is answered 404$/, ''))).toEqual(expected);
});
