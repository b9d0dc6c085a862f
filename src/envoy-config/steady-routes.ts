import type { Application, RemotePoolConfig } from '../config/config.ts';
import { HOP_HEADER, METADATA_NAMESPACE, POOL_HEADER, siteKey } from '../contract.ts';
import { NOBODY, type Reason } from '../decision/decide.ts';
import { escapeRegex } from '../envoy-admin/regex.ts';
import type { JsonObject } from './json.ts';
import { statPrefix } from './names.ts';
import { without } from './per-route.ts';
import { orRedirect } from './redirect.ts';
import {
  carriesAfter,
  forwardedRoute,
  isAbsent,
  isNot,
  isPresent,
  localRoute,
  type NamedRoute,
  type Route,
  remoteRoute,
  seemsToCarry,
  seemsWithout,
  seemsWithoutCookie,
  type WithCookie,
  withOwnCounted,
} from './route-parts.ts';

/** The route of a client's first request. */
export const STEADY_NEW = 'steady_new';

/**
 * What the sidecar need not be asked for: requests whose decision follows from their headers while a site is up, as the
 * sidecar says by a key of Envoy's runtime. What a matcher cannot tell exactly is left to the sidecar, so matchers can be
 * cheap ones: a cookie's name within another's name looks like the cookie, and is decided when asked.
 */
export function steadyRoutes(application: Application): Route[] {
  return kindsOf(application).map((kind) => {
    const { name, reason, owner } = kind;
    const key = siteKey(application.name, kind.upSite);
    return {
      ...kind.route,
      name,
      match: { ...kind.route.match, runtime_fraction: whileSet(key) },
      stat_prefix: statPrefix(application, name),
      // For the access log, which has no word of the sidecar's here.
      metadata: { filter_metadata: { [METADATA_NAMESPACE]: { decision: reason, owner } } },
      typed_per_filter_config: {
        ...kind.route.typed_per_filter_config,
        ...without(application, ['ext_proc', 'health_check']),
      },
    };
  });
}

/** What a steady route decides, and by which name Envoy counts it. */
export interface SteadyDecision {
  readonly application: string;
  readonly statPrefix: string;
  readonly reason: Reason;
  /** The name of the site that owns the session, or `none`. */
  readonly owner: string;
}

export function steadyDecisions(application: Application): readonly SteadyDecision[] {
  if (!application.envoy.fastPath) return [];
  const { name: of } = application;
  const status = {
    application: of,
    statPrefix: statPrefix(application, 'status'),
    reason: 'status',
    owner: NOBODY,
  } as const;
  return [
    ...kindsOf(application).map(({ name, reason, owner }) => {
      return { application: of, statPrefix: statPrefix(application, name), reason, owner };
    }),
    // Of one application for every host the health_check filter counts, for no route is taken.
    ...(application.isForEveryHost ? [] : [status]),
  ];
}

interface Kind {
  readonly name: string;
  readonly reason: Reason;
  readonly owner: string;
  /** The site that must be up for it. */
  readonly upSite: string;
  readonly route: Route;
}

/**
 * Between cookies. A comma may stand in a value, and before 1.40 between two lines of the header as well: what comes after one is
 * for the sidecar, which reads lines.
 */
const SEPARATOR = ';';

/** The most frequent first. */
function kindsOf(application: Application): Kind[] {
  const { site, localPool, remotePools } = application;
  const here = { reason: 'local', upSite: site } as const;
  const ofNobodyElse = [
    ...remotePools.flatMap(seemsWithoutCookie),
    // Under these it may have to expire.
    ...localPool.cookie.also.map(seemsWithout),
    ...seemsNoStatus(application),
  ];
  const ofNobody = [seemsWithout(localPool.cookie.name), ...ofNobodyElse];
  const notForwarded = isAbsent(HOP_HEADER);
  const ownOnly = [seemsToCarry(localPool), ...ofNobodyElse, carriesOnce(localPool)];
  return [
    {
      ...{ ...here, name: 'steady_own', owner: site },
      route: withOwnCounted(application, localRoute(application, '', [notForwarded, ...ownOnly])),
    },
    {
      ...{ ...here, name: 'steady_forwarded_own', owner: site },
      route: withOwnCounted(application, forwardedRoute(application, '', [isPresent(HOP_HEADER), ...ownOnly])),
    },
    ...remotePools.flatMap((pool): Kind[] =>
      orRedirect(application, pool, steadyRemote(application, pool)).map((route) => {
        const { name } = route;
        return { name, reason: 'forward', owner: pool.site, upSite: pool.site, route };
      }),
    ),
    {
      ...{ ...here, name: STEADY_NEW, owner: NOBODY },
      route: localRoute(application, '', [notForwarded, ...ofNobody]),
    },
    {
      ...{ ...here, name: 'steady_forwarded', owner: NOBODY },
      route: forwardedRoute(application, '', [isPresent(HOP_HEADER), ...ofNobody]),
    },
  ];
}

/**
 * With the cookie of one other site only: who carries this one's too is counted by the sidecar, and holds one of them after the
 * answer. One that it has only under its other names, for as long as its name is changed, is left to the sidecar.
 */
function steadyRemote(application: Application, pool: RemotePoolConfig): NamedRoute {
  const { localPool, remotePools } = application;
  const others = remotePools.filter((other) => other !== pool);
  return remoteRoute(application, pool, {
    name: `steady_${pool.cluster}`,
    headers: [
      seemsToCarry(pool),
      // What the sidecar has decided stays so: a site that comes up meanwhile must not get a session that is just adopted.
      isAbsent(POOL_HEADER),
      isAbsent(HOP_HEADER),
      ...others.flatMap(seemsWithoutCookie),
      ...seemsWithoutCookie(localPool),
      ...seemsNoStatus(application),
      carriesAfter(SEPARATOR, [pool.cookie.name]),
    ],
  });
}

/**
 * That what seems to be the cookie is it, and is there once: of a client with this site's cookie twice the sidecar tells, for it may
 * not be sticky. One regular expression for both, as each takes 1 % of all that Envoy does for a request.
 */
function carriesOnce({ cookie: { name } }: WithCookie): JsonObject {
  const cookie = `${escapeRegex(name)}=`;
  const isPartOfAnother = `\\C*[^${SEPARATOR} \\t][ \\t]*${cookie}\\C*`;
  return isNot('cookie', { safe_regex: { regex: `\\C*${cookie}\\C*${cookie}\\C*|${isPartOfAnother}` } });
}

function seemsNoStatus({ statusUri }: Application): JsonObject[] {
  return [
    isNot(':path', { prefix: statusUri }),
    // An escape in the path, which might spell the status URI; in the query it can't.
    isNot(':path', { safe_regex: { regex: '[^?#]*%\\C*' } }),
  ];
}

/** Until a sidecar has set the key no request takes the route. */
export function whileSet(runtime_key: string): JsonObject {
  return { default_value: { numerator: 0, denominator: 'HUNDRED' }, runtime_key };
}
