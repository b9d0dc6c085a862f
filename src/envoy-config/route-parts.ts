import { isDeepStrictEqual } from 'node:util';
import {
  type Application,
  type CookieConfig,
  cookieNamesOf,
  type EnvoyVersion,
  type RemotePoolConfig,
} from '../config/config.ts';
import { HOP_HEADER, POOL_HEADER, REFUSED_HEADER } from '../contract.ts';
import { escapeRegex } from '../envoy-admin/regex.ts';
import { canStandIn } from './can-stand-in.ts';
import { overwrite } from './cluster-parts.ts';
import { countedStickiness, keptStickiness, withoutStickiness } from './filters.ts';
import { type Json, type JsonObject, typed } from './json.ts';
import { orElsewhere, overHttp1, standIn, withFallback } from './names.ts';
import { anotherHost } from './retries.ts';
import { hasPriorityGroups, joinsHeaderLines } from './versions.ts';

// What routes are made of: whom they match, where they lead, and what is tried again.

/**
 * Failures after which no server has seen the request, so that a retry is safe for any method. A connection that
 * breaks once the request was sent is not among them: a POST might be done twice.
 */
export const RETRY_ON = 'connect-failure,refused-stream,reset-before-request';

/** A site's refusal is as safe: it says that nobody there has seen the request. */
const RETRY_ON_REFUSAL = `${RETRY_ON},retriable-headers`;

const RETRIES = 5;

/** An upload so large can still be sent to another site when the first refuses it. It costs so much memory for each, until it is answered. */
export const BODY_BUFFER_BYTES = 8 * 1024 * 1024;

export type Route = JsonObject & {
  readonly match: RouteMatch;
  readonly route: RouteAction;
  readonly typed_per_filter_config?: JsonObject;
};
export type NamedRoute = Route & { readonly name: string };
type RouteMatch = JsonObject & { readonly headers?: readonly Json[] };
type RouteAction = JsonObject & { readonly retry_policy: RetryPolicy };
type RetryPolicy = JsonObject & { readonly retry_on: string };

export function isDecidedFor(cluster: string): JsonObject {
  return { name: POOL_HEADER, string_match: { exact: cluster } };
}

export function isPresent(header: string): JsonObject {
  return { name: header, present_match: true };
}

export function isAbsent(header: string): JsonObject {
  return { ...isPresent(header), invert_match: true };
}

/**
 * The same reading of the Cookie header as the sidecar's: the whole name, at the start or after a semicolon; where several
 * Cookie lines are one text to Envoy also after the comma between them. `\C` is any byte: a dot would not match one that is
 * no UTF-8, and so overlook the cookies after it. Under any of the cookie's names.
 */
export function carriesCookie(cookie: CookieConfig, version: EnvoyVersion): JsonObject {
  return carriesOneOf(cookieNamesOf(cookie), version);
}

/** Cheap, and for most requests the end of it. */
export function seemsToCarry({ cookie }: WithCookie): JsonObject {
  return { name: 'cookie', string_match: { contains: `${cookie.name}=` } };
}

/** Of a route by which this site's own sessions alone go. */
export function withOwnCounted(application: Application, route: Route): Route {
  return { ...route, typed_per_filter_config: { ...route.typed_per_filter_config, ...countedStickiness(application) } };
}

/** The same route for this site's own sessions first, which are counted. */
export function ownCountedFirst(application: Application, name: string, route: Route): Route[] {
  const { localPool, envoy } = application;
  const carries = [seemsToCarry(localPool), carriesOneOf([localPool.cookie.name], envoy.version)];
  const match = { ...route.match, headers: [...(route.match.headers ?? []), ...carries] };
  return [withOwnCounted(application, { ...route, name, match }), ...keptFirst(application, route)];
}

/** Under `on_owner_down: keep` the same route for other sites' sessions first, which stay theirs. */
export function keptFirst(application: Application, route: Route): Route[] {
  const { localPool, remotePools, onOwnerDown, envoy } = application;
  if (onOwnerDown !== 'keep') return [route];
  const others = carriesOneOf(
    remotePools.flatMap(({ cookie }) => cookieNamesOf(cookie)),
    envoy.version,
  );
  const noneOfOurs = { ...carriesCookie(localPool.cookie, envoy.version), invert_match: true };
  const match = { ...route.match, headers: [...(route.match.headers ?? []), others, noneOfOurs] };
  const typed_per_filter_config = { ...route.typed_per_filter_config, ...keptStickiness(application) };
  return [{ ...route, name: `${route.name}_kept`, match, typed_per_filter_config }, route];
}

/** The same by names. */
export function carriesOneOf(names: readonly string[], version: EnvoyVersion): JsonObject {
  return carriesAfter(cookieSeparators(version), names);
}

/** @param separators between cookies, for a character class */
export function carriesAfter(separators: string, names: readonly string[]): JsonObject {
  const [first = '', ...others] = names.map(escapeRegex);
  const name = others.length === 0 ? first : `(${[first, ...others].join('|')})`;
  const regex = `(\\C*[${separators}])?[ \\t]*${name}=\\C*`;
  return { name: 'cookie', string_match: { safe_regex: { regex } } };
}

/** Not this value; a header that is missing is empty. */
export function isNot(header: string, string_match: JsonObject): JsonObject {
  return { name: header, string_match, invert_match: true, treat_missing_header_as_empty: true };
}

export type WithCookie = Pick<RemotePoolConfig, 'cookie'>;

/** Under none of its names. What merely looks like the cookie counts as it. */
export function seemsWithoutCookie({ cookie }: WithCookie): JsonObject[] {
  return cookieNamesOf(cookie).map(seemsWithout);
}

export function seemsWithout(cookieName: string): JsonObject {
  return isNot('cookie', { contains: `${cookieName}=` });
}

/** Between cookies, for a character class of a regular expression: also what stands between lines of the header where Envoy joins them. */
function cookieSeparators(version: EnvoyVersion): string {
  return joinsHeaderLines(version) ? ';,' : ';';
}

export function matchAll(headers: readonly Json[]): RouteMatch {
  return headers.length === 0 ? { prefix: '/' } : { prefix: '/', headers };
}

/** To another site, or here where that does not take it. @param headers matchers that must all hold */
export function remoteRoute(
  application: Application,
  pool: RemotePoolConfig,
  { name, headers }: { readonly name: string; readonly headers: readonly Json[] },
): NamedRoute {
  return {
    name,
    match: matchAll(headers),
    route: { timeout: '0s', ...(canStandIn(application) ? remoteOrLocal(application, pool) : remoteOnly(pool)) },
    request_headers_to_add: [overwrite(HOP_HEADER, application.site)],
    ...withoutRefusal(),
    typed_per_filter_config: withoutStickiness(application),
  };
}

/** The other site; where that cannot be reached or refuses this one, and then any other. */
function remoteOrLocal(application: Application, pool: RemotePoolConfig): RouteAction {
  if (!hasPriorityGroups(application.envoy.version)) return nextClusterOnRetry(withFallback(pool));
  const others = application.remotePools.filter((other) => other !== pool);
  return nextGroupOnRetry([withFallback(pool), standIn(application), ...others.map(withFallback)]);
}

/** An aggregate, of which the first cluster that is up is tried, and then the next. */
export function nextClusterOnRetry(cluster: string): RouteAction {
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
 * Here and nowhere else, by way of the stand-in listener where the first server does not take it. First by the cluster that sessions
 * have which come here by themselves: a check of another cluster would now and then find the session's server down when this one's
 * finds it up, and the session would go to and fro between two servers.
 */
export function forwardedRoute(application: Application, name: string, headers: readonly Json[]): Route {
  if (!canLeave(application)) return plainLocalRoute(application, name, headers);
  const route = { timeout: '0s', ...nextGroupOnRetry([orElsewhere(application.localPool), standIn(application)]) };
  return { name, match: matchAll(headers), route };
}

/** A retry of what the local pool can't take may go to another site. */
export function canLeave(application: Application): boolean {
  return hasPriorityGroups(application.envoy.version) && canStandIn(application);
}

/** To the local pool, and with a retry to another site where Envoy can do that. @param headers matchers that must all hold */
export function localRoute(application: Application, name: string, headers: readonly Json[]): Route {
  if (!canLeave(application)) return plainLocalRoute(application, name, headers);
  return {
    name,
    match: matchAll(headers),
    route: { timeout: '0s', ...nextGroupOnRetry(clustersToTry(application)) },
    ...withoutRefusal(),
  };
}

/** A refusal is between sites: the last one, when no site serves, is a plain 503 to the client. */
export function withoutRefusal(): JsonObject {
  return { response_headers_to_remove: [REFUSED_HEADER] };
}

/** A session whose server just died goes to another server here, by way of the stand-in listener, before it leaves the site. */
function clustersToTry(application: Application): string[] {
  return [orElsewhere(application.localPool), standIn(application), ...application.remotePools.map(withFallback)];
}

/** To the local pool and nowhere else. @param headers matchers that must all hold */
export function plainLocalRoute(application: Application, name: string, headers: readonly Json[]): Route {
  return {
    name,
    match: matchAll(headers),
    route: { cluster: application.localPool.cluster, timeout: '0s', retry_policy: retryPolicy(RETRY_ON) },
  };
}

export function retryPolicy(retryOn: string): RetryPolicy {
  return {
    retry_on: retryOn,
    ...(retryOn === RETRY_ON_REFUSAL ? { retriable_headers: [{ name: REFUSED_HEADER, present_match: true }] } : {}),
    num_retries: RETRIES,
    retry_back_off: { base_interval: '0.005s', max_interval: '0.05s' },
    ...anotherHost(),
  };
}

/**
 * The same for GET and HEAD, which may be repeated when a connection breaks (RFC 9110, 9.2.2). Once, so that a request that
 * kills its server kills two at most: the first retry of a local route leads to the stand-in listener, which does not repeat it,
 * and another site's edge answers for its own servers. A route that can't leave the local pool has one retry of any kind. With
 * `close_when_down` a connection that is refused is one that breaks, and the stand-in listener repeats it as well: three at most.
 */
export function retriedOnReset(application: Application, route: Route): Route[] {
  if (application.envoy.retryOnReset) return [ofSafeMethod(retrying(application, withoutBody(route)))];
  return looksAtBody(route) ? [ofSafeMethod(withoutBody(route))] : [];
}

function ofSafeMethod(route: Route): Route {
  // After the cheaper matchers, of which one ends it for most requests.
  return { ...route, match: { ...route.match, headers: [...(route.match.headers ?? []), SAFE] } };
}

/**
 * A body of at most 999,999 bytes, of which GET and HEAD have none. One that has no length may be of any, and a stream has no end.
 */
export const HAS_SMALL_BODY = { name: 'content-length', string_match: { safe_regex: { regex: '\\d{1,6}' } } };

function looksAtBody({ match }: Route): boolean {
  return match.headers?.includes(HAS_SMALL_BODY) === true;
}

/** The same for GET and HEAD. */
function withoutBody(route: Route): Route {
  if (!looksAtBody(route)) return route;
  const headers = route.match.headers?.filter((matcher) => matcher !== HAS_SMALL_BODY) ?? [];
  return { ...route, match: { ...route.match, headers } };
}

const SAFE = { name: ':method', string_match: { safe_regex: { regex: 'GET|HEAD' } } };

/**
 * The same for steady routes, by which nearly every request goes: those for GET first, without a regular expression, so that a GET
 * passes none of the others.
 */
export function steadyByMethod(application: Application, routes: readonly Route[]): Route[] {
  if (!application.envoy.retryOnReset) return routes.flatMap((route) => [...retriedOnReset(application, route), route]);
  const repeated = routes.map((route) => retrying(application, withoutBody(route)));
  return [
    ...repeated.map((route) => ofMethod(route, { string_match: { exact: 'GET' } })),
    ...routes.map((route) => ofMethod(route, { string_match: { exact: 'HEAD' }, invert_match: true })),
    ...repeated,
  ];
}

function ofMethod(route: Route, matcher: JsonObject): Route {
  const headers = [{ name: ':method', ...matcher }, ...(route.match.headers ?? [])];
  return { ...route, match: { ...route.match, headers } };
}

function retrying({ localPool }: Application, { route: action, ...route }: Route): Route {
  const retry_policy = {
    ...action.retry_policy,
    retry_on: `${action.retry_policy.retry_on},reset`,
    ...(action.cluster === localPool.cluster ? { num_retries: 1 } : {}),
  };
  return { ...route, route: { ...action, retry_policy } };
}

/** The same for WebSockets, where the local pool speaks what the client does: few servers take them over HTTP/2 (RFC 8441). */
export function upgradesOverHttp1({ localPool }: Application, route: Route): JsonObject[] {
  if (localPool.protocol !== 'downstream') return [];
  const own = withCluster(route.route, localPool.cluster, overHttp1(localPool));
  const action = withCluster(own, orElsewhere(localPool), overHttp1(localPool));
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
