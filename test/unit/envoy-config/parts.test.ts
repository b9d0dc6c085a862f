import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { renderBootstrap } from '../../../src/envoy-config/bootstrap.ts';
import { asResources, PARTS, type Part, renderPart } from '../../../src/envoy-config/parts.ts';
import { printPart } from '../../../src/envoy-config/print.ts';
import { isTree, list, type Tree, tree } from '../../support/json-tree.ts';
import { EVERY_KEY } from '../config/good-configs.ts';

const application = (name: string) => `
  - name: ${name}
    hosts: [${name}.example.com]
    local_pool: { cookie: ${name}EAST, servers: [127.0.0.1:3001], protocol: downstream, close_when_down: true }
    remote_pools: [{ site: west, cookie: ${name}WEST, servers: [127.0.0.1:81], protocol: http1 }]`;
const SEVERAL = `site: east\napplications:${application('shop')}${application('mail')}\n`;

const read = (text: string): Config => parseConfig(text, 'site.yaml', 'parts');
const several = read(`${SEVERAL}envoy: { listen: 127.0.0.1:80 }\n`);

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

function partOf(
  config: Config,
  part: Part,
  { application = null, prefix = '' }: { application?: string | null; prefix?: string } = {},
) {
  return plain(renderPart(config, { part, application, prefix }));
}

const namesOf = (items: unknown): unknown[] => list(items).map((item) => tree(item).name);

test.each<[string, Config]>([
  ['several applications', several],
  ['every key', read(EVERY_KEY)],
])('the parts of a config with %s are the whole of it', (_, config) => {
  const whole = tree(plain(renderBootstrap(config)));
  const manager = tree(whole, 'static_resources', 'listeners', 0, 'filter_chains', 0, 'filters', 0, 'typed_config');
  const { layered_runtime, bootstrap_extensions } = whole;
  expect(partOf(config, 'bootstrap')).toEqual({ layered_runtime, bootstrap_extensions });
  expect(partOf(config, 'clusters')).toEqual(tree(whole, 'static_resources').clusters);
  expect(partOf(config, 'listeners')).toEqual(tree(whole, 'static_resources').listeners);
  expect(partOf(config, 'filters')).toEqual(manager.http_filters);
  expect(partOf(config, 'routes')).toEqual(tree(manager, 'route_config').virtual_hosts);
  const { '@type': _type, stat_prefix, http_filters, route_config, ...settings } = manager;
  const { name, virtual_hosts, ...ofRoutes } = tree(route_config);
  const rest = Object.keys(ofRoutes).length === 0 ? settings : { ...settings, route_config: ofRoutes };
  expect(partOf(config, 'manager')).toEqual(rest);
});

test('without envoy.listen there is no edge, which is the operator’s own', () => {
  const names = namesOf(partOf(read(SEVERAL), 'listeners'));
  expect(names).toContain('site_persistence_stand_in_shop');
  expect(names).not.toContain('edge');
});

test('of one application what it needs, and what all share', () => {
  const names = ['clusters', 'listeners', 'routes'] as const;
  for (const part of names) {
    const own = namesOf(partOf(several, part, { application: 'shop' })).map(String);
    expect(own.filter((name) => name.includes('mail'))).toEqual([]);
    const all = namesOf(partOf(several, part)).map(String);
    expect(own).toEqual(all.filter((name) => !name.includes('mail')));
  }
});

/** Every name of a cluster or listener that some part refers to. */
function references(value: unknown, key = ''): string[] {
  if (Array.isArray(value)) {
    const items: unknown[] = value;
    return items.flatMap((item) => (key === 'clusters' && typeof item === 'string' ? [item] : references(item)));
  }
  if (isTree(value)) return Object.entries(value).flatMap(([name, item]) => references(item, name));
  const isReference = ['cluster', 'cluster_name', 'server_listener_name'].includes(key);
  return isReference && typeof value === 'string' ? [value] : [];
}

describe.each<[string, Config]>([
  ['several applications', several],
  ['every key', read(EVERY_KEY)],
])('with a prefix, of a config with %s,', (_, config) => {
  const prefix = 'sp_';
  const parts = Object.fromEntries(
    ['clusters', 'listeners', 'filters', 'routes'].map((part) => [part, partOf(config, part as Part, { prefix })]),
  );
  const names = [...namesOf(parts.clusters), ...namesOf(parts.listeners)].map(String);

  test('each name that is referred to is there', () => {
    expect([...new Set(references(parts))].filter((name) => !names.includes(name))).toEqual([]);
  });

  test('only pools and what is called after them have none', () => {
    const pools = config.applications.flatMap(({ localPool, remotePools }) =>
      [localPool, ...remotePools].map(({ cluster }) => cluster),
    );
    const isPool = (name: string) => pools.some((pool) => name === pool || name.startsWith(`${pool}_`));
    expect(names.filter((name) => !isPool(name) && !name.startsWith(prefix))).toEqual([]);
    expect(names.filter((name) => isPool(name) && name.startsWith(prefix))).toEqual([]);
    expect(names).toContain('sp_site_persistence');
  });

  test('nothing else has changed', () => {
    const text = JSON.stringify(parts).replaceAll('"sp_', '"');
    const without = Object.fromEntries(Object.keys(parts).map((part) => [part, partOf(config, part as Part)]));
    expect(text).toBe(JSON.stringify(without));
  });
});

test('what an overlay adds is in the parts, with its own names', () => {
  const content: Tree = { static_resources: { clusters: [{ name: 'cdn' }] } };
  const overlay = { kind: 'overlay', file: 'extra.yaml', text: '', content } as const;
  const config = { ...several, envoy: { ...several.envoy, overlay } };
  expect(namesOf(partOf(config, 'clusters', { prefix: 'sp_', application: 'shop' }))).toContain('cdn');
});

test('as files for Envoy to watch each resource has its type', () => {
  const resources = (part: Part) => {
    const made = asResources(part, renderPart(several, { part, application: null, prefix: '' }));
    return made === null ? null : [...new Set(list(plain(made), 'resources').map((item) => tree(item)['@type']))];
  };
  expect(resources('clusters')).toEqual(['type.googleapis.com/envoy.config.cluster.v3.Cluster']);
  expect(resources('listeners')).toEqual(['type.googleapis.com/envoy.config.listener.v3.Listener']);
  expect(resources('routes')).toEqual(['type.googleapis.com/envoy.config.route.v3.RouteConfiguration']);
  for (const part of ['bootstrap', 'filters', 'manager'] as const) expect(resources(part)).toBeNull();
});

test.each(Object.keys(PARTS))('%s is printed as it is rendered, without references', (name) => {
  const part = name as Part;
  const rendered = renderPart(several, { part, application: null, prefix: 'sp_' });
  const printed = printPart(rendered, several, { what: part, prefix: 'sp_' });
  expect(parse(printed, { version: '1.1' })).toEqual(plain(rendered));
  expect(printed).not.toMatch(/[&*]\w+\b(?=$|\n)/m);
});
