import { isDeepStrictEqual } from 'node:util';
import type { Config, EnvoyVersion, RemotePoolConfig } from '../config/config.ts';
import { FAST_PATH_KEY, HOP_HEADER, METADATA_NAMESPACE, POOL_HEADER, REFUSED_HEADER } from '../contract.ts';
import { escapeRegex } from '../envoy-admin/regex.ts';
import { canStandIn } from './can-stand-in.ts';
import { overwrite } from './cluster-parts.ts';
import { type Json, type JsonObject, typed } from './json.ts';
import { ANYWHERE, adoptedRoute, keptRoute, overHttp1, STAND_IN, withFallback } from './names.ts';
import { anotherHost } from './retries.ts';
import { hasPriorityGroups, joinsHeaderLines } from './versions.ts';

/**
 * Failures after which no server has seen the request, so that a retry is safe for any method. A connection that
 * breaks once the request was sent is not among them: a POST might be done twice.
 */
const RETRY_ON = 'connect-failure,refused-stream,reset-before-request';

/** A site's refusal is as safe: it says that nobody there has seen the request. */
const RETRY_ON_REFUSAL = `${RETRY_ON},retriable-headers`;

const RETRIES = 5;

const FAST = 'fast_local';

/** A decision or, without one, what Envoy can tell by itself; the first route that matches wins. */
export function renderRouteConfig(config: Config): JsonObject {
  return {
    name: 'sites',
    virtual_hosts: [
      {
        name: 'application',
        domains: ['*'],
        // Neither the application nor another site has any use for it.
        request_headers_to_remove: [POOL_HEADER],
        request_body_buffer_limit: BODY_BUFFER_BYTES,
        routes: [
          ...(config.envoy.fastPath ? [fastRoute(config)] : []),
          ...config.remotePools.map((pool) => remoteRoute(config, pool, decidedFor(pool.cluster))),
          ...decidedLocalRoutes(config),
          // No decision: the sidecar is gone or has no opinion.
          ...adoptingRoutes(config),
          forwardedRoute(config, 'undecided_forwarded', [isPresent(HOP_HEADER)]),
          ...config.remotePools.map((pool) =>
            remoteRoute(config, pool, carriesCookie(pool.cookie.name, config.envoy.version)),
          ),
          undecidedLocalRoute(config),
        ].flatMap((route) => [...upgradesOverHttp1(config, route), ...retriedOnReset(config, route), route]),
      },
    ],
  };
}

/** An upload so large can still be sent to another site when the first refuses it. It costs so much memory for each, until it is answered. */
export const BODY_BUFFER_BYTES = 8 * 1024 * 1024;

/**
 * The same for GET and HEAD, which may be repeated when a connection breaks (RFC 9110, 9.2.2). Once, so that a request that
 * kills its server kills two at most: the first retry of a local route leads to the stand-in listener, which does not repeat it,
 * and another site's edge answers for its own servers. A route that can't leave the local pool has one retry of any kind. With
 * `close_when_down` a connection that is refused is one that breaks, and the stand-in listener repeats it as well: three at most.
 */
export function retriedOnReset({ envoy, localPool }: Config, route: Route): Route[] {
  if (!envoy.retryOnReset) return [];
  const { match, route: action } = route;
  const retry_policy = {
    ...action.retry_policy,
    retry_on: `${action.retry_policy.retry_on},reset`,
    ...(action.cluster === localPool.cluster ? { num_retries: 1 } : {}),
  };
  return (route.name === FAST ? EACH_SAFE_METHOD : [ANY_SAFE_METHOD]).map((string_match) => ({
    ...route,
    match: { ...match, headers: [{ name: ':method', string_match }, ...(match.headers ?? [])] },
    route: { ...action, retry_policy },
  }));
}

const ANY_SAFE_METHOD = { safe_regex: { regex: 'GET|HEAD' } };

/** Where nearly every request comes by: a regular expression would take 0.6 % of all that Envoy does for one. */
const EACH_SAFE_METHOD = [{ exact: 'GET' }, { exact: 'HEAD' }];

/** The same for WebSockets, where the local pool speaks what the client does: few servers take them over HTTP/2 (RFC 8441). */
export function upgradesOverHttp1({ localPool }: Config, route: Route): JsonObject[] {
  if (localPool.protocol !== 'downstream') return [];
  const action = withCluster(route.route, localPool.cluster, overHttp1(localPool));
  if (isDeepStrictEqual(action, route.route)) return [];
  const match = { ...route.match, headers: [isPresent('upgrade'), ...(route.match.headers ?? [])] };
  return [{ ...route, match, route: action }];
}

/** The same with another cluster, wherever it is named. */
function withCluster(value: Json | undefined, from: string, to: string): Json {
  if (Array.isArray(value)) return value.map((item) => withCluster(item, from, to));
  if (typeof value !== 'object' || value === null) return value ?? null;
  const entries = Object.entries(value).map(([key, item]) => {
    const isName = (key === 'cluster' || key === 'cluster_name') && item === from;
    return [key, isName ? to : withCluster(item, from, to)] as const;
  });
  return Object.fromEntries(entries);
}

/** Here, and where no server here takes it at another site. */
function undecidedLocalRoute(config: Config): Route {
  if (!canStandIn(config)) return plainLocalRoute(config, 'undecided_local', []);
  return {
    name: 'undecided_local',
    match: matchAll([]),
    route: { timeout: '0s', ...nextClusterOnRetry(ANYWHERE) },
    ...withoutRefusal(),
    typed_per_filter_config: withoutStickiness(),
  };
}

/** What stays here with another site's cookie takes the way on which that is expired. */
function adoptingRoutes(config: Config): Route[] {
  if (config.onOwnerDown === 'keep') return [];
  const { version } = config.envoy;
  const local = carriesCookie(config.localPool.cookie.name, version).matcher;
  return config.remotePools.flatMap((pool) => {
    const remote = carriesCookie(pool.cookie.name, version).matcher;
    return [
      adoptingRoute(adoptedRoute(pool), [isPresent(HOP_HEADER), remote]),
      ...(config.bothCookies === 'local' ? [adoptingRoute(keptRoute(pool), [local, remote])] : []),
    ];
  });
}

function adoptingRoute(name: string, headers: readonly Json[]): Route {
  return {
    name,
    match: matchAll(headers),
    route: { cluster: STAND_IN, timeout: '0s', retry_policy: retryPolicy(RETRY_ON) },
    typed_per_filter_config: withoutStickiness(),
  };
}

type Route = JsonObject & { readonly match: RouteMatch; readonly route: RouteAction };
type RouteMatch = JsonObject & { readonly headers?: readonly Json[] };
type RouteAction = JsonObject & { readonly retry_policy: RetryPolicy };
type RetryPolicy = JsonObject & { readonly retry_on: string };

interface Condition {
  readonly name: string;
  readonly matcher: JsonObject;
}

function decidedFor(cluster: string): Condition {
  return { name: 'decided', matcher: { name: POOL_HEADER, string_match: { exact: cluster } } };
}

function isPresent(header: string): JsonObject {
  return { name: header, present_match: true };
}

/**
 * The same reading of the Cookie header as the sidecar's: the whole name, at the start or after a semicolon; where several
 * Cookie lines are one text to Envoy also after the comma between them. `\C` is any byte: a dot would not match one that is
 * no UTF-8, and so overlook the cookies after it.
 */
function carriesCookie(cookieName: string, version: EnvoyVersion): Condition {
  const separator = joinsHeaderLines(version) ? '[;,]' : ';';
  const regex = `(\\C*${separator})?[ \\t]*${escapeRegex(cookieName)}=\\C*`;
  return { name: 'undecided', matcher: { name: 'cookie', string_match: { safe_regex: { regex } } } };
}

function matchAll(headers: readonly Json[]): RouteMatch {
  return headers.length === 0 ? { prefix: '/' } : { prefix: '/', headers };
}

function remoteRoute(config: Config, pool: RemotePoolConfig, condition: Condition): Route {
  return {
    name: `${condition.name}_${pool.cluster}`,
    match: matchAll([condition.matcher]),
    route: { timeout: '0s', ...(canStandIn(config) ? remoteOrLocal(config, pool) : remoteOnly(pool)) },
    request_headers_to_add: [overwrite(HOP_HEADER, config.site)],
    ...withoutRefusal(),
    typed_per_filter_config: withoutStickiness(),
  };
}

/** The stickiness cookie names a server of this site: at another site, or behind the stand-in listener, it has its own filter. */
function withoutStickiness(): JsonObject {
  return {
    'envoy.filters.http.stateful_session': typed(
      'envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute',
      { disabled: true },
    ),
  };
}

/** The other site; where that cannot be reached or refuses this one, and then any other. */
function remoteOrLocal(config: Config, pool: RemotePoolConfig): RouteAction {
  if (!hasPriorityGroups(config.envoy.version)) return nextClusterOnRetry(withFallback(pool));
  const others = config.remotePools.filter((other) => other !== pool);
  return nextGroupOnRetry([withFallback(pool), STAND_IN, ...others.map(withFallback)]);
}

/** An aggregate, of which the first cluster that is up is tried, and then the next. */
function nextClusterOnRetry(cluster: string): RouteAction {
  return {
    cluster,
    retry_policy: {
      ...retryPolicy(RETRY_ON_REFUSAL),
      retry_priority: {
        name: 'envoy.retry_priorities.previous_priorities',
        typed_config: typed('envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig', {
          update_frequency: 1,
        }),
      },
    },
  };
}

/** One of these clusters for each try, whatever their health. */
function nextGroupOnRetry(clusters: readonly string[]): RouteAction {
  return {
    inline_cluster_specifier_plugin: {
      extension: {
        name: 'envoy.router.cluster_specifier_plugin.priority_group',
        typed_config: typed(
          'envoy.extensions.router.cluster_specifiers.priority_group.v3.PriorityGroupClusterSpecifier',
          {
            priority_groups: clusters.map((cluster, index) => ({
              name: `try_${index + 1}`,
              clusters: [{ cluster_name: cluster, weight: 1 }],
            })),
          },
        ),
      },
    },
    retry_policy: {
      ...retryPolicy(RETRY_ON_REFUSAL),
      num_retries: clusters.length - 1,
      refresh_cluster_on_retry: true,
    },
  };
}

function remoteOnly(pool: RemotePoolConfig): RouteAction {
  return { cluster: pool.cluster, retry_policy: retryPolicy(RETRY_ON) };
}

/**
 * What the sidecar would decide for the local pool does not ask it: no cookie of another site, not forwarded, not the
 * status URI. What only looks like one of these is left to the sidecar, so that the matchers can be cheap ones. The
 * sidecar keeps the runtime key set only while that is what it would decide.
 */
function fastRoute(config: Config): Route {
  const isNot = (header: string, string_match: JsonObject): JsonObject => ({
    name: header,
    string_match,
    invert_match: true,
    treat_missing_header_as_empty: true,
  });
  const matchers = [
    { ...isPresent(HOP_HEADER), invert_match: true },
    ...config.remotePools.map((pool) => isNot('cookie', { contains: `${pool.cookie.name}=` })),
    isNot(':path', { prefix: config.statusUri }),
    // An escape in the path, which might spell the status URI; in the query it can't.
    isNot(':path', { safe_regex: { regex: '[^?#]*%\\C*' } }),
  ];
  return {
    ...localRoute(config, FAST, []),
    match: {
      ...matchAll(matchers),
      runtime_fraction: {
        // Until the sidecar has set the key, every request asks it.
        default_value: { numerator: 0, denominator: 'HUNDRED' },
        runtime_key: FAST_PATH_KEY,
      },
    },
    // For the access log, which has no word of the sidecar's here.
    metadata: { filter_metadata: { [METADATA_NAMESPACE]: { decision: 'local' } } },
    // Not even made for such a request. ExtProcPerRoute.disabled makes the filter, and copies its config for the route.
    typed_per_filter_config: {
      'envoy.filters.http.ext_proc': typed('envoy.config.route.v3.FilterConfig', { disabled: true }),
      // The status URI does not come this way.
      'envoy.filters.http.health_check': typed('envoy.config.route.v3.FilterConfig', { disabled: true }),
    },
  };
}

function decidedLocalRoutes(config: Config): Route[] {
  const decided = decidedFor(config.localPool.cluster).matcher;
  return [
    // A forwarded request stays here: what this site can't serve goes back to the site that sent it.
    ...(canLeave(config) ? [forwardedRoute(config, 'decided_forwarded', [decided, isPresent(HOP_HEADER)])] : []),
    localRoute(config, 'decided_local', [decided]),
  ];
}

/** Here and nowhere else, by way of the stand-in listener where the first server does not take it. */
function forwardedRoute(config: Config, name: string, headers: readonly Json[]): Route {
  if (!canLeave(config)) return plainLocalRoute(config, name, headers);
  const route = { timeout: '0s', ...nextGroupOnRetry([config.localPool.cluster, STAND_IN]) };
  return { name, match: matchAll(headers), route };
}

/** A retry of what the local pool can't take may go to another site. */
function canLeave(config: Config): boolean {
  return hasPriorityGroups(config.envoy.version) && canStandIn(config);
}

/** To the local pool, and with a retry to another site where Envoy can do that. @param headers matchers that must all hold */
function localRoute(config: Config, name: string, headers: readonly Json[]): Route {
  if (!canLeave(config)) return plainLocalRoute(config, name, headers);
  return {
    name,
    match: matchAll(headers),
    route: { timeout: '0s', ...nextGroupOnRetry(clustersToTry(config)) },
    ...withoutRefusal(),
  };
}

/** A refusal is between sites: the last one, when no site serves, is a plain 503 to the client. */
function withoutRefusal(): JsonObject {
  return { response_headers_to_remove: [REFUSED_HEADER] };
}

/** A session whose server just died goes to another server here, by way of the stand-in listener, before it leaves the site. */
function clustersToTry(config: Config): string[] {
  return [config.localPool.cluster, STAND_IN, ...config.remotePools.map(withFallback)];
}

/** To the local pool and nowhere else. @param headers matchers that must all hold */
export function plainLocalRoute(config: Config, name: string, headers: readonly Json[]): Route {
  return {
    name,
    match: matchAll(headers),
    route: { cluster: config.localPool.cluster, timeout: '0s', retry_policy: retryPolicy(RETRY_ON) },
  };
}

function retryPolicy(retryOn: string): RetryPolicy {
  return {
    retry_on: retryOn,
    ...(retryOn === RETRY_ON_REFUSAL ? { retriable_headers: [{ name: REFUSED_HEADER, present_match: true }] } : {}),
    num_retries: RETRIES,
    retry_back_off: { base_interval: '0.005s', max_interval: '0.05s' },
    ...anotherHost(),
  };
}
