import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ConfigError } from '../../../src/config/config-error.ts';
import { loadConfig } from '../../../src/config/load.ts';
import { examineOverlay } from '../../../src/doctor/examine-overlay.ts';
import type { JsonObject } from '../../../src/envoy-config/json.ts';
import { withOverlay } from '../../../src/envoy-config/overlay.ts';
import { printBootstrap } from '../../../src/envoy-config/print.ts';

const FIXTURES = fileURLToPath(new URL('../../fixtures/overlay/', import.meta.url));

describe('an overlay', () => {
  test.each(readdirSync(FIXTURES))('%s: comes to its envoy.yaml, and breaks nothing', async (name) => {
    const config = await loadConfig(join(FIXTURES, name, 'site.yaml'), 'rendering');
    await expect(printBootstrap(config)).toMatchFileSnapshot(join(FIXTURES, name, 'envoy.yaml'));
    expect(examineOverlay(config, 0)).toEqual([]);
  });
});

/** What is rendered, for the rules. */
const BASE = {
  admin: { port: 1, paths: ['a', 'b'] },
  chains: [{ filters: [{ name: 'hcm', config: { x: 1 } }] }],
  http_filters: [{ name: 'first' }, { name: 'envoy.filters.http.router' }],
  routes: [
    { name: 'get', route: { timeout: '0s' } },
    { name: 'get', route: { timeout: '1s' } },
    { name: 'get_other', route: {} },
  ],
  clusters: [{ name: 'one', a: 1 }, { name: 'two' }],
};

const merge = (text: string): JsonObject =>
  withOverlay(BASE, { kind: 'overlay', file: 'extra.yaml', text, content: parse(text) });

describe('withOverlay() merges', () => {
  test.each<[string, string, JsonObject]>([
    ['nothing', '{}', {}],
    ['mappings by key', 'admin: { port: 2, more: yes }', { admin: { ...BASE.admin, port: 2, more: 'yes' } }],
    ['null: a key is gone', 'admin: { paths: null }', { admin: { port: 1 } }],
    ['a list without names as a whole', 'admin: { paths: [c] }', { admin: { port: 1, paths: ['c'] } }],
    ['$append: behind a list', 'admin: { paths: { $append: [c] } }', { admin: { port: 1, paths: ['a', 'b', 'c'] } }],
    [
      '$append: to a list that is not there',
      'admin: { new: { $append: [c] } }',
      { admin: { ...BASE.admin, new: ['c'] } },
    ],
    ['an empty list', 'clusters: []', { clusters: [] }],
    [
      'a list of one into a list of one, and names within it',
      'chains: [{ filters: [{ name: hcm, config: { x: 2 } }] }]',
      { chains: [{ filters: [{ name: 'hcm', config: { x: 2 } }] }] },
    ],
    [
      'the only item of a list, without its name',
      'chains: [{ filters: [{ config: { y: 2 } }] }]',
      { chains: [{ filters: [{ name: 'hcm', config: { x: 1, y: 2 } }] }] },
    ],
    [
      'an entry into each thing of its name',
      'routes: [{ name: get, route: { timeout: 5s } }]',
      {
        routes: [
          { name: 'get', route: { timeout: '5s' } },
          { name: 'get', route: { timeout: '5s' } },
          { name: 'get_other', route: {} },
        ],
      },
    ],
    [
      'a star at the end of a name: into all that begin so',
      'routes: [{ name: "get*", a: 1 }]',
      { routes: BASE.routes.map((route) => ({ ...route, a: 1 })) },
    ],
    [
      'new ones: a filter before the router',
      'http_filters: [{ name: x }, { name: y }, { name: z, $before: first }]',
      { http_filters: ['z', 'first', 'x', 'y', 'envoy.filters.http.router'].map((name) => ({ name })) },
    ],
    [
      'new ones: a route before all others, in their order',
      'routes: [{ name: x }, { name: x }, { name: y }]',
      { routes: [{ name: 'x' }, { name: 'x' }, { name: 'y' }, ...BASE.routes] },
    ],
    ['new ones: anything else at the end', 'clusters: [{ name: x }]', { clusters: [...BASE.clusters, { name: 'x' }] }],
    ['$remove: a thing is gone', 'clusters: [{ name: one, $remove: true }]', { clusters: [{ name: 'two' }] }],
    ['$remove: each of that name', 'routes: [{ name: get, $remove: true }]', { routes: BASE.routes.slice(2) }],
  ])('%s', (_, text, changed) => {
    expect(merge(text)).toEqual({ ...BASE, ...changed });
  });

  test('and what comes of it depends on nothing but the two', () => {
    const before = JSON.stringify(BASE);
    merge('clusters: [{ name: one, a: 2 }]\nadmin: { port: 2 }');
    expect(JSON.stringify(BASE)).toBe(before);
  });
});

test.each<[string, string, string]>([
  ['a list for a mapping', 'admin: [1]', '1: admin: is a mapping in what is rendered, not a list'],
  ['a mapping for a list', '\nclusters:\n  one: {}', '2: clusters: is a list in what is rendered, not a mapping'],
  ['a value for a mapping', 'admin: no', '1: admin: is a mapping in what is rendered, not a single value'],
  [
    'no name in a list of named things',
    'clusters:\n  - name: one\n  - a: 1',
    '3: clusters[1]: needs a name, as all in this list have one: the names here are one, two',
  ],
  [
    'an unknown $before',
    'http_filters:\n  - name: x\n    $before: frist',
    '3: http_filters[0]."$before": there is no "frist" here: the names here are first, envoy.filters.http.router',
  ],
  [
    '$before for what is rendered',
    'clusters: [{ name: two, $before: one }]',
    '1: clusters[0]."$before": is for what is new: what is rendered keeps its place',
  ],
  [
    'nothing to remove',
    'clusters: [{ name: on, $remove: true }]',
    '1: clusters[0]: there is no "on" to remove: the names here are one, two',
  ],
  [
    '$remove with something else',
    'clusters: [{ name: one, a: 1, $remove: true }]',
    '1: clusters[0]."$remove": stands with the name alone',
  ],
  [
    '$remove: false',
    'clusters: [{ name: one, $remove: false }]',
    '1: clusters[0]."$remove": must be true, or be left out',
  ],
  [
    'a name like none',
    'routes: [{ name: put_* }]',
    '1: routes[0]: nothing has a name like "put_*": the names here are get, get_other',
  ],
  [
    'null for what is not there',
    'admin: { prot: null }',
    '1: admin.prot: is not rendered, so there is nothing to remove',
  ],
  [
    'a $word elsewhere',
    'admin: { $remove: true }',
    '1: admin."$remove": is not for this place: $before and $remove stand in a list of named things, beside the name',
  ],
  [
    '$append of no list',
    'admin: { paths: { $append: c } }',
    '1: admin.paths: $append takes a list and stands alone: { $append: [what is added] }',
  ],
  ['a key written otherwise', 'httpFilters: []', '1: httpFilters: write it as http_filters'],
])('withOverlay() refuses, by line: %s', (_, text, expected) => {
  let message = '';
  try {
    merge(text);
  } catch (error) {
    if (error instanceof ConfigError) message = error.message;
  }
  expect(message).toBe(`extra.yaml:${expected}`);
});
