import type { Application, RemotePoolConfig } from '../config/config.ts';
import { HOP_HEADER, openKey, REFUSED_HEADER } from '../contract.ts';
import { canStandIn } from './can-stand-in.ts';
import { overwrite } from './cluster-parts.ts';
import { withoutStickiness } from './filters.ts';
import type { Json, JsonObject } from './json.ts';
import { adoptedRoute, anywhere, keptRoute, renamedRoute, standIn } from './names.ts';
import { opaqueOfNewSessions } from './opaque-cookie.ts';
import { orRedirect } from './redirect.ts';
import {
  canLeave,
  carriesCookie,
  carriesOneOf,
  forwardedRoute,
  isDecidedFor,
  isPresent,
  keptFirst,
  localRoute,
  matchAll,
  nextClusterOnRetry,
  ownCountedFirst,
  plainLocalRoute,
  RETRY_ON,
  type Route,
  remoteRoute,
  retriedOnReset,
  retryPolicy,
  steadyByMethod,
  upgradesOverHttp1,
  withoutRefusal,
} from './route-parts.ts';
import { statusRoutes } from './status-routes.ts';
import { STEADY_NEW, steadyRoutes } from './steady-routes.ts';

/**
 * An application's routes: what needs no answer of the sidecar, its decisions and, without one, what Envoy can tell by itself;
 * the first that matches wins.
 */
export function routesOf(application: Application): JsonObject[] {
  const { remotePools, envoy } = application;
  const steady = envoy.fastPath ? steadyRoutes(application) : [];
  const others = [
    ...remotePools.flatMap((pool) => {
      const headers = [isDecidedFor(pool.cluster)];
      return orRedirect(
        application,
        pool,
        remoteRoute(application, pool, { name: `decided_${pool.cluster}`, headers }),
      );
    }),
    ...decidedLocalRoutes(application),
    // No decision: the sidecar is gone or has no opinion.
    ...adoptingRoutes(application),
    ...keptFirst(application, forwardedRoute(application, 'undecided_forwarded', [isPresent(HOP_HEADER)])),
    ...remotePools.flatMap((pool) => undecidedRemoteRoutes(application, pool)),
  ];
  const overHttp1 = (routes: readonly Route[]) =>
    routes.flatMap((route) => [...upgradesOverHttp1(application, route), route]);
  const withVariants = (routes: readonly Route[]) =>
    routes.flatMap((route) => [...upgradesOverHttp1(application, route), ...retriedOnReset(application, route), route]);
  // Steady routes, of which none is for the status URI, come first: each route before is a cost for nearly every request.
  return [
    ...overHttp1(withoutCookieToRead(application, steadyByMethod(application, steady))),
    ...statusRoutes(application),
    ...withVariants(others),
    ...refusedRoutes(application),
    ...withVariants([undecidedLocalRoute(application)]),
  ];
}

/** The first route for new sessions, by which nearly all of them go: each script of its own is memory of each of Envoy's threads. */
function withoutCookieToRead(application: Application, routes: readonly Route[]): Route[] {
  const first = routes.findIndex(({ name }) => name === STEADY_NEW);
  return routes.map((route, index) => {
    if (index !== first) return route;
    const typed_per_filter_config = { ...route.typed_per_filter_config, ...opaqueOfNewSessions(application) };
    return { ...route, typed_per_filter_config };
  });
}

/** With its cookie to another site, unless that is held. */
function undecidedRemoteRoutes(application: Application, pool: RemotePoolConfig): Route[] {
  const headers = [carriesCookie(pool.cookie, application.envoy.version)];
  const route = remoteRoute(application, pool, { name: `undecided_${pool.cluster}`, headers });
  const runtime_fraction = { ...always(), runtime_key: openKey(application.name, pool.site) };
  return orRedirect(application, pool, { ...route, match: { ...route.match, runtime_fraction } });
}

function always(): JsonObject {
  return { default_value: { numerator: 100, denominator: 'HUNDRED' } };
}

/** Under `refuse` nobody stands in for the owner of a session that is held, either. */
function refusedRoutes(application: Application): JsonObject[] {
  if (canStandIn(application)) return [];
  const { site, localPool, remotePools, envoy, refusalStatus } = application;
  const isNoSessionOfOurs = { ...carriesCookie(localPool.cookie, envoy.version), invert_match: true };
  return remotePools.map((pool) => ({
    name: `undecided_refused_${pool.cluster}`,
    match: matchAll([carriesCookie(pool.cookie, envoy.version), isNoSessionOfOurs]),
    direct_response: { status: refusalStatus },
    response_headers_to_add: [overwrite(REFUSED_HEADER, site)],
  }));
}

/** Here, and where no server here takes it at another site. */
function undecidedLocalRoute(application: Application): Route {
  if (!canStandIn(application)) return plainLocalRoute(application, 'undecided_local', []);
  return {
    name: 'undecided_local',
    match: matchAll([]),
    route: { timeout: '0s', ...nextClusterOnRetry(anywhere(application)) },
    ...withoutRefusal(),
    typed_per_filter_config: withoutStickiness(application),
  };
}

/** What stays here with another site's cookie, or with this one's under another name, takes the way on which that is expired. */
function adoptingRoutes(application: Application): Route[] {
  const { localPool, remotePools, onOwnerDown, bothCookies } = application;
  const { version } = application.envoy;
  const { also } = localPool.cookie;
  const renamed =
    also.length === 0
      ? []
      : [adoptingRoute(application, renamedRoute, [isPresent(HOP_HEADER), carriesOneOf(also, version)])];
  if (onOwnerDown === 'keep') return renamed;
  const local = carriesCookie(localPool.cookie, version);
  const adopting = remotePools.flatMap((pool) => {
    const remote = carriesCookie(pool.cookie, version);
    return [
      adoptingRoute(application, adoptedRoute(pool), [isPresent(HOP_HEADER), remote]),
      ...(bothCookies === 'local' ? [adoptingRoute(application, keptRoute(pool), [local, remote])] : []),
    ];
  });
  return [...renamed, ...adopting];
}

function adoptingRoute(application: Application, name: string, headers: readonly Json[]): Route {
  return {
    name,
    match: matchAll(headers),
    route: { cluster: standIn(application), timeout: '0s', retry_policy: retryPolicy(RETRY_ON) },
    typed_per_filter_config: withoutStickiness(application),
  };
}

function decidedLocalRoutes(application: Application): Route[] {
  const decided = isDecidedFor(application.localPool.cluster);
  const forwarded = forwardedRoute(application, 'decided_forwarded', [decided, isPresent(HOP_HEADER)]);
  return [
    // A forwarded request stays here: what this site can't serve goes back to the site that sent it.
    ...(canLeave(application) ? ownCountedFirst(application, 'decided_forwarded_own', forwarded) : []),
    ...ownCountedFirst(application, 'decided_own', localRoute(application, 'decided_local', [decided])),
  ];
}
