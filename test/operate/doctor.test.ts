import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseConfig } from '../../src/config/load.ts';
import { GRACEFUL_CLOSE_FLAG } from '../../src/contract.ts';
import { type EnvoySnapshot, readSnapshot } from '../../src/doctor/envoy-snapshot.ts';
import { examine } from '../../src/doctor/examine.ts';
import { type AdminAnswers, askEnvoy } from '../../src/envoy-admin/admin-answers.ts';
import {
  cluster,
  clusters,
  extProc,
  filter,
  filters,
  manager,
  remove,
  route,
  routes,
  session,
} from '../support/bootstrap-parts.ts';
import { TestCa } from '../support/certificates.ts';
import { DOCTOR_CASES, type DoctorCase } from '../support/doctor-cases.ts';
import type { Changes, Ports } from '../support/doctor-file.ts';
import { ALL_WELL, outcome, roundTrip, troubles } from '../support/doctor-round-trip.ts';
import { DoctorSite } from '../support/doctor-site.ts';
import { isTree, list, type Tree, tree } from '../support/json-tree.ts';
import { answersOf, aroundOf, fakeEnvoyOf } from '../unit/doctor/fake-envoy.ts';

async function ask(url: string, times: number, cookies = '', hop = ''): Promise<void> {
  const headers = { ...(cookies === '' ? {} : { cookie: cookies }), ...(hop === '' ? {} : { 'x-site-hop': hop }) };
  for (let count = 0; count < times; count++) await (await fetch(url, { headers })).text();
}

const ON_ENVOY = DOCTOR_CASES.filter(({ real }) => real !== undefined);

/** Examines once the sidecars answer, but where the case is that none does. */
function examineIn(site: DoctorSite, { finds }: DoctorCase) {
  const withoutSidecars = finds.includes('answering: wrong');
  return async (changes: Changes) => await site.examine({ ...changes, withoutSidecars });
}

describe('on Envoy 1.40, broken in one way:', () => {
  let site: DoctorSite;
  beforeAll(async () => {
    site = await DoctorSite.start('1.40.0');
  });
  afterAll(async () => await site?.close());

  test.each(ON_ENVOY.map((each) => [each.name, each] as const))('%s', async (_, each) => {
    await roundTrip(each, examineIn(site, each));
  });

  // Unit tests examine what they make of a bootstrap in place of an Envoy's answers.
  test.each<[string, (bootstrap: Tree) => void]>([
    ['the printed bootstrap', () => {}],
    ['one that says what is so anyhow', sayDefaults],
  ])('of %s, what unit tests take for the answers of an Envoy is what it answers', async (_, change) => {
    const config = parseConfig(site.file.text(), 'site.yaml');
    let answers: AdminAnswers | undefined;
    const meanwhile = async () => {
      answers = await askEnvoy(config.envoy.admin, new AbortController().signal);
    };
    await site.examine({ bootstrap: change, meanwhile });
    if (answers === undefined) throw new Error('no Envoy was asked');
    const real = readSnapshot(answers);
    const fake = readSnapshot(answersOf(fakeEnvoyOf(site.file.bootstrap({ bootstrap: change }))));
    expect(shownConfig(real)).toEqual(shownConfig(fake));
    expect(examine(config, real, aroundOf(config))).toEqual(examine(config, fake, aroundOf(config)));
  });

  test('filters in another order: the order that is printed is right', async () => {
    const names = ['stateful_session', 'health_check', 'ext_proc', 'router'].map(
      (name) => `envoy.filters.http.${name}`,
    );
    const reorder = (bootstrap: Tree, order: readonly string[]) => {
      manager(bootstrap).http_filters = order.map((name) => tree(filters(bootstrap), `name=${name}`));
    };
    const { findings } = await site.examine({ bootstrap: (b) => reorder(b, names) });
    expect(troubles(findings)).toEqual(['order: wrong']);
    const lines: unknown = parse(findings.find(({ mark }) => mark === 'wrong')?.fix?.lines ?? '');
    const right = list(lines, 'http_filters').map((item) => String(tree(item).name));
    expect(outcome(await site.examine({ bootstrap: (b) => reorder(b, right) }))).toEqual(ALL_WELL);
  });

  test.each(['adopt', 'keep', 'refuse'])('on_owner_down: %s, as it is printed: all is well', async (on_owner_down) => {
    expect(outcome(await site.examine({ rendered: { on_owner_down } }))).toEqual(ALL_WELL);
  });

  test('with all that a config can say, all is well but for sites that are not there', async () => {
    const rendered = {
      status_uri: '/a.b(c)/status',
      local_pool: {
        cluster: 'local.pool:1',
        cookie: { name: '__Secure-KV.A', path: '/app', domain: 'example.com', same_site: 'None', secure: true },
      },
      remote_pools: [
        { site: 'west', cluster: 'west', cookie: 'DD$VH', servers: ['localhost:1'], tls: { sni: 'west.example.com' } },
        { site: 'north', cluster: 'north|pool', cookie: 'NN', servers: ['127.0.0.1:1', '127.0.0.1:2'] },
      ],
      envoy: { fast_path: true },
    };
    const { code, findings } = await site.examine({ rendered });
    expect({ code, troubles: troubles(findings) }).toEqual({ code: 0, troubles: ['hosts: warn', 'hosts: warn'] });
  });

  test('with TLS for clients and a listener for other sites: all is well while their certificates last', async () => {
    const ca = await TestCa.create(site.directory);
    const { certFile, keyFile } = await ca.issue('edge', { days: 30 });
    const own = { cert_file: certFile, key_file: keyFile };
    const envoy = {
      listen_tls: own,
      hop_listen: `127.0.0.1:${site.ports.second}`,
      hop_listen_tls: { ...own, client_ca_file: ca.certFile },
    };
    // The CA's own, which has no name, ends tomorrow; it might be one of the system's.
    expect(outcome(await site.examine({ rendered: { envoy } }))).toEqual(ALL_WELL);
    await ca.issue('edge');
    const { code, findings } = await site.examine({ rendered: { envoy } });
    expect(code).toBe(0);
    const bad = findings.filter(({ mark }) => mark !== 'ok').map(({ text }) => text.replace(/unnamed_cert_\w+/, 'it'));
    expect(new Set(bad.map((text) => text.replace(/\d{5}/, 'PORT')))).toEqual(
      new Set([expect.stringMatching(/^it of listener 127\.0\.0\.1_PORT expires on \d{4}-\d\d-\d\d$/)]),
    );
    expect(bad).toHaveLength(2);
  });

  test('with an Envoy config of the operator, in files of its own and under other names: all is well', async () => {
    expect(outcome(await site.examine({ bootstrap: (b, ports) => asOperatorsDo(b, ports, site.directory) }))).toEqual(
      ALL_WELL,
    );
  });

  test('what is wrong in one of several listeners is said of that one', async () => {
    const { findings } = await site.examine({
      bootstrap: (b, { second }) => {
        const listeners = list(b, 'static_resources', 'listeners');
        const other = structuredClone(tree(listeners, 'name=edge'));
        Object.assign(other, { name: 'other' });
        tree(other, 'address', 'socket_address').port_value = second;
        const config = tree(other, 'filter_chains', 0, 'filters', 0, 'typed_config');
        delete tree(config, 'http_filters', 'name=envoy.filters.http.ext_proc', 'typed_config').failure_mode_allow;
        listeners.push(other);
      },
    });
    expect(findings.filter(({ mark }) => mark !== 'ok').map(({ text }) => text)).toEqual([
      'listener other: failure_mode_allow is not set: without a sidecar every request fails',
    ]);
  });

  test('a listener that leads to the pools without a sidecar is warned of', async () => {
    const { code, findings } = await site.examine({
      bootstrap: (b, { second }) => {
        const listeners = list(b, 'static_resources', 'listeners');
        const other = structuredClone(tree(listeners, 'name=edge'));
        Object.assign(other, { name: 'other' });
        tree(other, 'address', 'socket_address').port_value = second;
        remove(
          list(other, 'filter_chains', 0, 'filters', 0, 'typed_config', 'http_filters'),
          'envoy.filters.http.ext_proc',
        );
        listeners.push(other);
      },
    });
    expect(code).toBe(0);
    expect(findings.filter(({ mark }) => mark !== 'ok').map(({ text }) => text)).toEqual([
      'listener other leads to the pools too, but asks no sidecar',
    ]);
  });

  test('an admin interface that lets only the sidecar work says what it does not show', async () => {
    const { code, findings } = await site.examine({
      bootstrap: (b) => {
        tree(b, 'admin').allow_paths = ['/stats', '/clusters', '/ready'].map((prefix) => ({ prefix }));
      },
    });
    expect(code).toBe(1);
    expect(findings.filter(({ mark }) => mark === 'wrong').map(({ text }) => text)).toEqual([
      'GET /config_dump was answered 403: most of what follows cannot be checked',
    ]);
    expect(findings.find(({ mark }) => mark === 'wrong')?.fix?.lines).toBe(
      'allow_paths:\n  - safe_regex:\n      regex: /config_dump(\\?.*)?',
    );
  });
});

describe.each(['1.36.4', '1.38.3', '1.40.0'])('on Envoy %s', (release) => {
  let site: DoctorSite;
  beforeAll(async () => {
    site = await DoctorSite.start(release);
  });
  afterAll(async () => await site?.close());

  test.each([false, true])('all is well with what is printed, under traffic, with fast_path: %s', async (fast_path) => {
    const meanwhile = async (edge: string) => {
      await ask(edge, 20);
      await ask(edge, 20, 'DDVHSLLQ=x');
      await ask(edge, 20, 'DDVHSLLQ=x', 'west');
    };
    expect(outcome(await site.examine({ rendered: { envoy: { fast_path } }, meanwhile }))).toEqual(ALL_WELL);
  });

  test('for people: a line for each finding, and the lines of the fixes below', async () => {
    const text = await site.print({ bootstrap: (b) => delete extProc(b).failure_mode_allow });
    expect(text).toContain(
      `site east, Envoy ${release} at http://127.0.0.1:${site.ports.admin}\n\nEnvoy\n  ok     admin`,
    );
    expect(text).toMatch(
      /\n {2}WRONG {2}failure mode +failure_mode_allow is not set: .*\n {9}in typed_config of the ext_proc filter:\n {11}failure_mode_allow: true\n/,
    );
    expect(text).toMatch(/\n\n\d+ ok, 0 warn, 1 wrong\n$/);
  });
});

test.each([
  ['1.36.4', 'wrong'],
  ['1.38.3', 'warn'],
])('the graceful close flag is not for Envoy %s', async (release, mark) => {
  const site = await DoctorSite.start(release);
  try {
    const { findings } = await site.examine({
      bootstrap: (b) => {
        list(b, 'layered_runtime', 'layers').unshift({ name: 'static', static_layer: { [GRACEFUL_CLOSE_FLAG]: true } });
      },
    });
    expect(troubles(findings)).toEqual([`graceful close: ${mark}`]);
    expect(findings.find((finding) => finding.mark === mark)?.fix?.lines).toBe(`${GRACEFUL_CLOSE_FLAG}: false`);
  } finally {
    await site.close();
  }
});

/** What Envoy leaves out of its config dump. */
function sayDefaults(bootstrap: Tree): void {
  Object.assign(extProc(bootstrap), {
    ...{ observability_mode: false, disable_immediate_response: false, route_cache_action: 'DEFAULT' },
    processing_mode: {
      ...tree(extProc(bootstrap), 'processing_mode'),
      ...{ request_body_mode: 'NONE', response_body_mode: 'NONE' },
    },
  });
  filter(bootstrap, 'ext_proc').disabled = false;
  session(bootstrap).strict = false;
  cluster(bootstrap, 'site_persistence').lb_policy = 'ROUND_ROBIN';
}

/** All but hosts and statistics, which are those of real servers, and what Envoy says of itself. */
function shownConfig({ hosts: _, stats: __, bootstrap, ...config }: EnvoySnapshot) {
  return { ...config, bootstrap: { ...tree(bootstrap), node: undefined } };
}

const OFF = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', disabled: true };

/** The same Envoy as an operator might have it: from files that Envoy watches, by other names, with more in it. */
function asOperatorsDo(bootstrap: Tree, { second }: Ports, directory: string): void {
  const write = (name: string, resources: unknown): Tree => {
    const path = join(directory, `${name}.json`);
    writeFileSync(path, JSON.stringify({ resources }));
    return { path_config_source: { path }, resource_api_version: 'V3' };
  };
  const type = (name: string) => ({ '@type': `type.googleapis.com/envoy.config.${name}` });

  tree(extProc(bootstrap), 'grpc_service', 'envoy_grpc').cluster_name = 'deciders';
  const sidecars = cluster(bootstrap, 'site_persistence');
  sidecars.name = 'deciders';
  tree(sidecars, 'load_assignment').cluster_name = 'deciders';
  filter(bootstrap, 'stateful_session').name = 'sticky';
  for (const item of routes(bootstrap)) {
    const settings = isTree(item) ? item.typed_per_filter_config : undefined;
    if (!isTree(item) || !isTree(settings)) continue;
    const names = new Map([
      ['envoy.filters.http.stateful_session', 'sticky'],
      ['envoy.filters.http.ext_proc', 'decide'],
    ]);
    const renamed = Object.entries(settings).map(([name, each]) => [names.get(name) ?? name, each]);
    item.typed_per_filter_config = Object.fromEntries(renamed);
  }
  const decide = filter(bootstrap, 'ext_proc');
  const config = decide.typed_config;
  decide.name = 'decide';
  delete decide.typed_config;
  const extension = { '@type': 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig', name: 'decide' };
  decide.config_discovery = {
    config_source: write('ecds', [{ ...extension, typed_config: config }]),
    type_urls: ['type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor'],
  };

  const host = tree(manager(bootstrap), 'route_config', 'virtual_hosts', 0);
  const shop = structuredClone(host);
  Object.assign(shop, { name: 'shop', domains: ['shop.example.com'] });
  list(shop, 'routes').unshift(
    { name: 'old', match: { prefix: '/old/' }, redirect: { path_redirect: '/' } },
    { name: 'robots', match: { path: '/robots.txt' }, direct_response: { status: 404 } },
    { name: 'metrics', match: { path_separated_prefix: '/metrics' }, route: { cluster: 'metrics' } },
  );
  const other = {
    name: 'other',
    domains: ['other.example.com'],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'metrics' } }],
    // The filters are for the applications' hosts only.
    typed_per_filter_config: {
      ...{ decide: OFF, 'envoy.filters.http.health_check': OFF },
      sticky: tree(route(bootstrap, 'undecided_local'), 'typed_per_filter_config').sticky,
    },
  };
  const routeConfig = { ...tree(manager(bootstrap), 'route_config'), virtual_hosts: [host, shop, other] };
  const inline = structuredClone(manager(bootstrap));
  delete manager(bootstrap).route_config;
  manager(bootstrap).rds = {
    route_config_name: 'sites',
    config_source: write('rds', [{ ...type('route.v3.RouteConfiguration'), ...routeConfig }]),
  };
  const edge = tree(list(bootstrap, 'static_resources', 'listeners'), 'name=edge');
  const tls = structuredClone(edge);
  Object.assign(tls, { name: 'second' });
  tree(tls, 'address', 'socket_address').port_value = second;
  tree(tls, 'filter_chains', 0, 'filters', 0).typed_config = inline;

  const metrics = { name: 'metrics', type: 'STATIC', load_assignment: { cluster_name: 'metrics', endpoints: [] } };
  bootstrap.dynamic_resources = {
    lds_config: write(
      'lds',
      [...list(bootstrap, 'static_resources', 'listeners'), tls].map((item) => ({
        ...type('listener.v3.Listener'),
        ...tree(item),
      })),
    ),
    cds_config: write(
      'cds',
      [...clusters(bootstrap), metrics].map((item) => ({ ...type('cluster.v3.Cluster'), ...tree(item) })),
    ),
  };
  delete bootstrap.static_resources;
}
