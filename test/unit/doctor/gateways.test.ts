import { describe, expect, test } from 'vitest';
import type { Config } from '../../../src/config/config.ts';
import { snapshotOfBootstrap } from '../../../src/doctor/envoy-snapshot.ts';
import { examine } from '../../../src/doctor/examine.ts';
import { NOTHING_AROUND } from '../../../src/doctor/examine-overlay.ts';
import { PREVIOUS_PRIORITIES } from '../../../src/doctor/extension-types.ts';
import { renderBootstrap } from '../../../src/envoy-config/bootstrap.ts';
import { isTree, list, type Tree, tree } from '../../support/json-tree.ts';
import { CONFIG, describeTroubles, NOW_MS } from './fake-envoy.ts';

/** What gateways make of a route's config: filters are off in the connection manager, and each route switches them on. */

const EXT_PROC = 'envoy.filters.http.ext_proc';
const STATEFUL_SESSION = 'envoy.filters.http.stateful_session';
const HCM = ['static_resources', 'listeners', 'name=edge', 'filter_chains', 0, 'filters', 0, 'typed_config'] as const;

const SWITCHED_ON = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', config: {} };
const PER_ROUTE = 'type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute';

function sessionBy(type: string, settings: Tree): Tree {
  const typed_config = { '@type': `type.googleapis.com/envoy.extensions.http.stateful_session.${type}`, ...settings };
  return { '@type': PER_ROUTE, stateful_session: { session_state: { name: 'x', typed_config } } };
}

const BY_COOKIE = sessionBy('cookie.v3.CookieBasedSessionState', { cookie: { name: 'KVAAVROI', path: '/' } });
/** On for the sake of sessions that are adopted, and without a cookie. */
const BY_HEADER = sessionBy('header.v3.HeaderBasedSessionState', { name: 'x-none' });

const routesOf = (bootstrap: Tree) =>
  list(bootstrap, ...HCM, 'route_config', 'virtual_hosts', 0, 'routes').filter(isTree);
const settingsOf = (route: Tree) => tree(route, 'typed_per_filter_config');
const isSteady = (route: Tree) => isTree(tree(route, 'match').runtime_fraction);
const isRemote = ({ name }: Tree) => /remote_pool$/.test(String(name)) && !String(name).includes('adopted_from');

function asGateway(config: Config = CONFIG): Tree {
  const bootstrap = tree(JSON.parse(JSON.stringify(renderBootstrap(config))));
  for (const name of [EXT_PROC, STATEFUL_SESSION])
    tree(bootstrap, ...HCM, 'http_filters', `name=${name}`).disabled = true;
  for (const route of routesOf(bootstrap)) {
    const before = isTree(route.typed_per_filter_config) ? route.typed_per_filter_config : {};
    route.typed_per_filter_config = {
      [EXT_PROC]: SWITCHED_ON,
      ...before,
      [STATEFUL_SESSION]: isRemote(route) ? BY_HEADER : BY_COOKIE,
    };
  }
  return bootstrap;
}

function troublesOf(bootstrap: Tree, config: Config = CONFIG): string[] {
  return describeTroubles(examine(config, snapshotOfBootstrap(bootstrap), { ...NOTHING_AROUND, nowMs: NOW_MS })).filter(
    (text) => /^(wrong|warn)/.test(text),
  );
}

describe('filters that the routes switch on', () => {
  test('are as good as others', () => {
    expect(routesOf(asGateway()).some(isRemote)).toBe(true);
    expect(troublesOf(asGateway())).toEqual([]);
  });

  test('but for a route to the servers that does not switch stickiness on', () => {
    const bootstrap = asGateway();
    for (const route of routesOf(bootstrap)) if (!isRemote(route)) delete settingsOf(route)[STATEFUL_SESSION];
    expect(troublesOf(bootstrap)).toContainEqual(expect.stringMatching(/^wrong stickiness: /));
  });

  test('but for a route to another site without them, where sessions that are adopted would get no cookie', () => {
    const bootstrap = asGateway();
    for (const route of routesOf(bootstrap)) if (isRemote(route)) delete settingsOf(route)[STATEFUL_SESSION];
    expect(troublesOf(bootstrap)).toContainEqual(
      expect.stringMatching(
        /^wrong stickiness: .* does not switch .* on: a session that is adopted there gets no cookie/,
      ),
    );
  });

  test("but for a route to another site that gives this site's cookie", () => {
    const bootstrap = asGateway();
    for (const route of routesOf(bootstrap)) if (isRemote(route)) settingsOf(route)[STATEFUL_SESSION] = BY_COOKIE;
    expect(troublesOf(bootstrap)).toContainEqual(
      expect.stringMatching(/^wrong stickiness off: .* gives clients of another site this site's cookie/),
    );
  });

  test('but for a route that asks no sidecar', () => {
    const bootstrap = asGateway();
    const asking = routesOf(bootstrap).find((route) => !isSteady(route));
    if (asking !== undefined) delete settingsOf(asking)[EXT_PROC];
    expect(troublesOf(bootstrap)).toContainEqual(expect.stringMatching(/^wrong present: .* switched off/));
  });
});

describe('refusal_status: 421', () => {
  const config = { ...CONFIG, refusalStatus: 421 };

  function byStatus(statuses: readonly number[]): Tree {
    const bootstrap = asGateway(config);
    for (const route of routesOf(bootstrap)) {
      const policy = isTree(route.route) && isTree(route.route.retry_policy) ? route.route.retry_policy : {};
      if (!String(policy.retry_on).includes('retriable-headers')) continue;
      policy.retry_on = String(policy.retry_on).replace('retriable-headers', 'retriable-status-codes');
      policy.retriable_status_codes = statuses;
      delete policy.retriable_headers;
    }
    return bootstrap;
  }

  test('is as good to go by as the header', () => {
    expect(troublesOf(byStatus([421]), config)).toEqual([]);
  });

  test('is not, where another status is retried, or the status is 503 as that of an application', () => {
    const lost = expect.stringMatching(/^wrong retry on refusal: .* what the other site refuses is lost/);
    expect(troublesOf(byStatus([425]), config)).toContainEqual(lost);
    expect(troublesOf(byStatus([503]))).toContainEqual(lost);
  });

  test('a fallback may be a locality of a higher priority in the cluster itself', () => {
    const bootstrap = byStatus([421]);
    const west = tree(bootstrap, 'static_resources', 'clusters', 'name=remote_pool');
    for (const route of routesOf(bootstrap)) {
      if (isTree(route.route) && isRemote(route)) {
        delete route.route.inline_cluster_specifier_plugin;
        route.route.cluster = 'remote_pool';
        tree(route.route, 'retry_policy').retry_priority = {
          name: 'envoy.retry_priorities.previous_priorities',
          typed_config: { '@type': `type.googleapis.com/${PREVIOUS_PRIORITIES}` },
        };
      }
    }
    const nowhere = expect.stringMatching(/^warn retry on refusal: .* has nowhere to go/);
    expect(troublesOf(bootstrap, config)).toContainEqual(nowhere);
    const localities = list(west, 'load_assignment', 'endpoints');
    localities.push({ priority: 1, lb_endpoints: [] });
    expect(troublesOf(bootstrap, config)).not.toContainEqual(nowhere);
  });

  test("is for Envoy's own refusals as well", () => {
    const bootstrap = asGateway(config);
    for (const mapper of list(bootstrap, ...HCM, 'local_reply_config', 'mappers')) {
      if (isTree(mapper) && mapper.status_code === 421) delete mapper.status_code;
    }
    expect(troublesOf(bootstrap, config)).toContainEqual(expect.stringMatching(/^warn refusal: .* are not 421/));
  });
});

describe('health_cluster', () => {
  const config: Config = {
    ...CONFIG,
    applications: CONFIG.applications.map((application) => ({
      ...application,
      remotePools: application.remotePools.map((pool) => ({ ...pool, healthCluster: 'west_alone' })),
    })),
  };

  function withHealthCluster(): Tree {
    const bootstrap = asGateway();
    const clusters = list(bootstrap, 'static_resources', 'clusters');
    const west = tree(clusters, 'name=remote_pool');
    clusters.push({ ...west, name: 'west_alone' });
    delete west.health_checks;
    return bootstrap;
  }

  test('has the health checks, and the cluster of the route need not have them', () => {
    expect(troublesOf(withHealthCluster(), config)).toEqual([]);
    expect(troublesOf(withHealthCluster())).toContainEqual(expect.stringMatching(/^wrong health check: remote_pool/));
  });

  test('must be there, and must have them', () => {
    expect(troublesOf(asGateway(), config)).toContainEqual('wrong clusters: Envoy has no cluster west_alone, for west');
    const bootstrap = withHealthCluster();
    delete tree(bootstrap, 'static_resources', 'clusters', 'name=west_alone').health_checks;
    expect(troublesOf(bootstrap, config)).toContainEqual(expect.stringMatching(/^wrong health check: west_alone/));
  });
});
