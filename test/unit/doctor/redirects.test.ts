import { expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.ts';
import { list, type Tree, tree } from '../../support/json-tree.ts';
import { fakeEnvoy, managerOf, troublesOf } from './fake-envoy.ts';

const POOLS = `
local_pool: { cluster: local_pool, cookie: KVAAVROI, servers: ["127.0.0.1:3001"] }
remote_pools:
  - { site: west, cluster: remote_pool, cookie: DDVHSLLQ, servers: ["west.example.com:443"], redirect: "https://shop.west.example.com" }`;

const configOf = (settings: string, pools = POOLS) =>
  parseConfig(`site: east\n${settings}\nenvoy: { listen: "127.0.0.1:80" }${pools}`, 'site.yaml', 'rendering');

const CONFIG = configOf('');

/** Troubles with the routes of the edge changed. */
function troublesWith(change: (route: Tree) => unknown[]): string[] {
  const envoy = fakeEnvoy(CONFIG);
  const host = tree(managerOf(envoy), 'route_config', 'virtual_hosts', 0);
  host.routes = list(host, 'routes').flatMap((route) => change(tree(route)));
  return troublesOf(envoy, CONFIG);
}

const isRedirect = ({ name }: Tree) => String(name).endsWith('_redirect');

/** As somebody writes it who has an Envoy of their own. */
function native(route: Tree, response_code: object, dropped: readonly string[] = []): unknown[] {
  if (!isRedirect(route)) return [route];
  const headers = list(route, 'match', 'headers').filter((matcher) => !dropped.includes(String(tree(matcher).name)));
  const redirect = { host_redirect: 'shop.west.example.com', https_redirect: true, ...response_code };
  const { typed_per_filter_config } = route;
  return [{ name: route.name, match: { ...tree(route, 'match'), headers }, redirect, typed_per_filter_config }];
}

const TEMPORARY = { response_code: 'TEMPORARY_REDIRECT' };

test.each(['adopt', 'keep', 'refuse'])('what is rendered is fine, on_owner_down: %s', (onOwnerDown) => {
  const settings = `on_owner_down: ${onOwnerDown}`;
  const one = configOf(settings);
  expect(troublesOf(fakeEnvoy(one), one)).toEqual([]);
  const listed = `\napplications:\n  - name: shop\n    hosts: [shop.example.com]${POOLS.replaceAll('\n', '\n    ')}`;
  const several = configOf(settings, listed);
  expect(troublesOf(fakeEnvoy(several), several)).toEqual([]);
});

test('a session that is proxied in spite of it is told', () => {
  expect(troublesWith((route) => (isRedirect(route) ? [] : [route]))).toEqual([
    'warn redirects: route "decided_remote_pool" proxies sessions of west, though remote_pools[].redirect is https://shop.west.example.com',
  ]);
});

test("Envoy's own redirect is as good, as long as nothing can go round and browsers do not keep it", () => {
  const isAsked = (route: Tree) => !String(route.name).startsWith('steady_') || !isRedirect(route);
  const asked = (route: Tree, ...rest: [object, string[]?]) => (isAsked(route) ? native(route, ...rest) : []);
  expect(troublesWith((route) => asked(route, TEMPORARY))).toEqual([]);
  expect(troublesWith((route) => asked(route, {}))).toEqual([
    'wrong redirects: route "decided_remote_pool_redirect" redirects for good: a browser keeps that, and a session that moves is not found again',
  ]);
  expect(troublesWith((route) => asked(route, TEMPORARY, ['x-site-hop']))).toContain(
    'wrong redirects: route "decided_remote_pool_redirect" redirects what another site has forwarded: it could loop',
  );
  expect(troublesWith((route) => asked(route, TEMPORARY, ['cookie']))).toContain(
    'wrong redirects: route "decided_remote_pool_redirect" redirects a client with the cookies of both sites: it could loop',
  );
});
