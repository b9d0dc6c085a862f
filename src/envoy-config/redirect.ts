import { isDeepStrictEqual } from 'node:util';
import type { Application, RemotePoolConfig } from '../config/config.ts';
import { HOP_HEADER, REFUSED_HEADER } from '../contract.ts';
import { escapeRegex } from '../envoy-admin/regex.ts';
import { canStandIn } from './can-stand-in.ts';
import { noLimits, overwrite } from './cluster-parts.ts';
import { minHealthy, routerFilter } from './filters.ts';
import { HEADER_LIMITS_BEHIND_EDGE } from './header-limits.ts';
import { httpOptions } from './http-options.ts';
import { connectionManagerFilter, internalListener } from './internal-listener.ts';
import { type JsonObject, typed } from './json.ts';
import { hasStatus } from './local-replies.ts';
import { redirectOrProxy, redirectTo, standIn } from './names.ts';
import { aggregate, waysTo } from './remote-clusters.ts';
import { OWN_SERVER_HEADER } from './request-rules.ts';
import {
  carriesCookie,
  HAS_SMALL_BODY,
  isAbsent,
  isNot,
  type NamedRoute,
  nextClusterOnRetry,
  seemsWithoutCookie,
} from './route-parts.ts';

// Clients whose session lives at another site are sent to that site's own address, and do not come here again.
//
// A redirect can't fall back: a client that is sent to a site that is down has nowhere to go, while a request that is proxied is
// served here. So Envoy itself must see the site up at that moment, with or without a sidecar. No route can ask for that, but the
// health_check filter can, so the redirect comes from an internal listener that has one. What it refuses is proxied as before.

type Redirecting = RemotePoolConfig & { readonly redirect: string };

function redirecting({ remotePools }: Application): Redirecting[] {
  return remotePools.filter((pool): pool is Redirecting => pool.redirect !== null);
}

/** A remote route, and before it the one by which what may be redirected is. */
export function orRedirect(application: Application, pool: RemotePoolConfig, route: NamedRoute): NamedRoute[] {
  if (pool.redirect === null) return [route];
  const matchers = route.match.headers ?? [];
  const more = mayBeRedirected(application, pool).filter(
    (matcher) => !matchers.some((each) => isDeepStrictEqual(each, matcher)),
  );
  return [
    {
      ...route,
      name: `${route.name}_redirect`,
      match: { ...route.match, headers: [...matchers, ...more] },
      route: { timeout: '0s', ...nextClusterOnRetry(redirectOrProxy(pool)) },
      response_headers_to_remove: [REFUSED_HEADER, HEALTH_CHECKED_HEADER],
    },
    route,
  ];
}

/** The health_check filter's own, with the name of the site. */
const HEALTH_CHECKED_HEADER = 'x-envoy-upstream-healthchecked-cluster';

/** All else is proxied: what could go round, and what clients do not follow. */
function mayBeRedirected(application: Application, pool: RemotePoolConfig): JsonObject[] {
  const { localPool, remotePools, envoy } = application;
  const others = remotePools.filter((other) => other !== pool);
  return [
    carriesCookie(pool.cookie, envoy.version),
    isAbsent(HOP_HEADER),
    // With the cookies of two sites each might send it to the other.
    ...[localPool, ...others].flatMap(seemsWithoutCookie),
    // A client that was sent to a site stays there, wherever that name leads.
    isNot(':authority', { safe_regex: { regex: `(?i)(${redirecting(application).map(authorityOf).join('|')})` } }),
    isAbsent('upgrade'),
    isNot('content-type', { prefix: 'application/grpc' }),
    // Of a browser only what it navigates to: a page's own requests may not go to another origin (CORS, CSP).
    ...[isEmptyOr('sec-fetch-dest', 'document|i?frame'), isNot(':method', { exact: 'OPTIONS' })],
    HAS_SMALL_BODY,
  ];
}

function isEmptyOr(header: string, pattern: string): JsonObject {
  return {
    name: header,
    string_match: { safe_regex: { regex: `(${pattern})?` } },
    treat_missing_header_as_empty: true,
  };
}

/** As clients write it: with the port where it is not the usual one, and as fully qualified as they like. */
function authorityOf({ redirect }: Redirecting): string {
  const { hostname, port } = new URL(redirect);
  return `${escapeRegex(hostname)}\\.?${port === '' ? '(:(80|443))?' : `:${port}`}`;
}

/** The internal listeners that answer with a redirect while the other site is up, and refuse otherwise. */
export function renderRedirectListeners(application: Application): JsonObject[] {
  return redirecting(application).map((pool) =>
    internalListener(redirectTo(pool), connectionManagerFilter(connectionManager(application, pool))),
  );
}

function connectionManager({ site }: Application, pool: Redirecting): JsonObject {
  return {
    stat_prefix: 'redirect',
    codec_type: 'HTTP1',
    // The edge has let it in, and added headers since.
    use_remote_address: false,
    skip_xff_append: true,
    max_request_headers_kb: HEADER_LIMITS_BEHIND_EDGE.kb,
    common_http_protocol_options: { max_headers_count: HEADER_LIMITS_BEHIND_EDGE.count },
    ...OWN_SERVER_HEADER,
    http_filters: [
      {
        name: 'envoy.filters.http.health_check',
        typed_config: typed('envoy.extensions.filters.http.health_check.v3.HealthCheck', {
          pass_through_mode: false,
          headers: [{ name: ':path', present_match: true }],
          cluster_min_healthy_percentages: minHealthy(pool),
        }),
      },
      routerFilter(),
    ],
    local_reply_config: {
      mappers: [
        {
          filter: hasStatus(200),
          status_code: 307,
          headers_to_add: [
            // A path begins with a slash, or the edge has refused it, so it can't become part of the host.
            overwrite('location', `${pool.redirect}%REQ(:PATH)%`),
            overwrite('cache-control', 'no-store'),
          ],
        },
        { filter: hasStatus(503), headers_to_add: [overwrite(REFUSED_HEADER, site)] },
      ],
    },
    // The filter answers all that comes.
    route_config: { name: redirectTo(pool), virtual_hosts: [] },
  };
}

export function renderRedirectClusters(application: Application): JsonObject[] {
  return redirecting(application).flatMap((pool) => {
    const name = redirectTo(pool);
    const others = application.remotePools.filter((other) => other !== pool);
    const proxying = canStandIn(application)
      ? [standIn(application), ...others.flatMap((other) => waysTo(application, other))]
      : [];
    return [
      {
        name,
        circuit_breakers: noLimits(),
        ...httpOptions('http1', { limits: HEADER_LIMITS_BEHIND_EDGE, idleTimeoutMs: null }),
        load_assignment: {
          cluster_name: name,
          endpoints: [
            { lb_endpoints: [{ endpoint: { address: { envoy_internal_address: { server_listener_name: name } } } }] },
          ],
        },
      },
      aggregate(redirectOrProxy(pool), [name, ...waysTo(application, pool), ...proxying], application),
    ];
  });
}
