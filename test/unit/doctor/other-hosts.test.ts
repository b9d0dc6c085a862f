import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { list, paste, type Tree, tree } from '../../support/json-tree.ts';
import { type FakeEnvoy, fakeEnvoy, findingsOf, managerOf, troublesOf } from './fake-envoy.ts';

// One application takes every host, so that a virtual host is told to be of something else by where its routes lead.

const FILTER = 'type.googleapis.com/envoy.extensions.filters.http';
const OFF = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', disabled: true };
const NOT_ASKED = { '@type': `${FILTER}.ext_proc.v3.ExtProcPerRoute`, disabled: true };
const NOT_STICKY = { '@type': `${FILTER}.stateful_session.v3.StatefulSessionPerRoute`, disabled: true };
const EXT_PROC = 'envoy.filters.http.ext_proc';
const HEALTH_CHECK = 'envoy.filters.http.health_check';
const STICKY = 'envoy.filters.http.stateful_session';
const ALL_OFF = { [EXT_PROC]: OFF, [HEALTH_CHECK]: OFF, [STICKY]: NOT_STICKY };

const ROUTE = { match: { prefix: '/' }, route: { cluster: 'cdn' } };

/** With a virtual host of something else. */
function withOther(more: Tree): FakeEnvoy {
  const envoy = fakeEnvoy();
  const hosts = list(managerOf(envoy), 'route_config', 'virtual_hosts');
  hosts.push({ name: 'cdn', domains: ['cdn.example.com'], routes: [ROUTE], ...more });
  return envoy;
}

const SIDECAR = "the sidecar takes its requests for this site's";
const STATUS = 'health_check answers /local_pool_status there';
const READS = 'stateful_session sends its requests by the cookie KVAAVROI';
const SETS = 'stateful_session gives its clients the cookie KVAAVROI';

test.each<[string, Tree, string, readonly string[]]>([
  ['all filters on', {}, 'wrong', [SIDECAR, STATUS, READS]],
  ['all off', { typed_per_filter_config: ALL_OFF }, 'ok', []],
  ['all off at its routes', { routes: [{ ...ROUTE, typed_per_filter_config: ALL_OFF }] }, 'ok', []],
  [
    'off at some of its routes',
    { routes: [{ ...ROUTE, typed_per_filter_config: ALL_OFF }, ROUTE] },
    'wrong',
    [SIDECAR],
  ],
  ['ExtProcPerRoute', { typed_per_filter_config: { ...ALL_OFF, [EXT_PROC]: NOT_ASKED } }, 'ok', []],
  ['the sidecar on', { typed_per_filter_config: { ...ALL_OFF, [EXT_PROC]: {} } }, 'wrong', [SIDECAR]],
  ['the status URI on', { typed_per_filter_config: { ...ALL_OFF, [HEALTH_CHECK]: {} } }, 'wrong', [STATUS]],
  ['the cookie on', { typed_per_filter_config: { ...ALL_OFF, [STICKY]: {} } }, 'warn', [READS]],
  ['a redirect', { routes: [{ match: { prefix: '/' }, redirect: { https_redirect: true } }] }, 'ok', []],
])('a virtual host of something else with %s', (_, more, mark, says) => {
  const envoy = withOther(more);
  const finding = findingsOf(envoy).find(({ check }) => check === 'others');
  expect(finding).toMatchObject({ mark });
  for (const text of says) expect(finding?.text).toContain(text);
  expect(troublesOf(envoy)).toHaveLength(mark === 'ok' ? 0 : 1);
  if (finding?.fix === null || finding === undefined) return;

  expect(finding.fix.where).toBe('in virtual host cdn of route config sites:');
  const host = tree(managerOf(envoy), 'route_config', 'virtual_hosts', 'name=cdn');
  // As at the virtual host, so at its routes.
  host.routes = [ROUTE];
  paste(host, parse(finding.fix.lines));
  expect(troublesOf(envoy)).toEqual([]);
});

test('a cookie that is set on whatever answer is set by a server of something else as well', () => {
  const envoy = withOther({ typed_per_filter_config: { [EXT_PROC]: OFF, [HEALTH_CHECK]: OFF } });
  const filter = tree(managerOf(envoy), 'http_filters', `name=${STICKY}`);
  filter.typed_config = tree(filter, 'typed_config', 'extension_config').typed_config;
  expect(troublesOf(envoy)).toContainEqual(expect.stringMatching(new RegExp(`^wrong others: .* but .*${SETS}`)));
});

test('the fix goes by the names of the filters that are there', () => {
  const envoy = withOther({});
  const filters = list(managerOf(envoy), 'http_filters');
  for (const [from, to] of [
    [EXT_PROC, 'decide'],
    [HEALTH_CHECK, 'status'],
    [STICKY, 'sticky'],
  ] as const) {
    tree(filters, `name=${from}`).name = to;
  }
  const fix = findingsOf(envoy).find(({ check }) => check === 'others')?.fix;
  expect(parse(fix?.lines ?? '')).toEqual({
    typed_per_filter_config: { decide: OFF, status: OFF, sticky: NOT_STICKY },
  });
});

test('filters that are off but where a virtual host switches them on are right, and need nothing at the others', () => {
  const envoy = withOther({});
  const filters = list(managerOf(envoy), 'http_filters');
  for (const name of [EXT_PROC, HEALTH_CHECK, STICKY]) tree(filters, `name=${name}`).disabled = true;
  const own = tree(managerOf(envoy), 'route_config', 'virtual_hosts', 0);
  own.typed_per_filter_config = { [EXT_PROC]: ON, [HEALTH_CHECK]: ON, [STICKY]: ON };
  expect(troublesOf(envoy)).toEqual([]);
  own.typed_per_filter_config = {};
  expect(troublesOf(envoy).map((trouble) => trouble.replace(/:.*/, ''))).toEqual([
    'wrong present',
    'wrong stickiness',
    'warn status URI',
  ]);
});

const ON = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', config: {} };

test('what none of its routes takes is said to be answered all the same', () => {
  const envoy = withOther({
    routes: [{ match: { prefix: '/api/' }, route: { cluster: 'cdn' } }],
    typed_per_filter_config: ALL_OFF,
  });
  expect(findingsOf(envoy).find(({ check }) => check === 'others')).toMatchObject({
    mark: 'ok',
    text: 'virtual host cdn is left alone; /local_pool_status is answered there all the same, for it has no route',
  });
});

test('config of a route that switches a filter on there has to go, for it comes first', () => {
  const envoy = withOther({ routes: [{ ...ROUTE, typed_per_filter_config: { [EXT_PROC]: ON } }] });
  expect(findingsOf(envoy).find(({ check }) => check === 'others')?.fix?.where).toBe(
    'in virtual host cdn of route config sites, and in place of such lines at its routes:',
  );
});
