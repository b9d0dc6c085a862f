import type {
  Application,
  CookieConfig,
  LocalCookieConfig,
  LocalPoolConfig,
  RemotePoolConfig,
} from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { HOP_HEADER, METADATA_NAMESPACE, REFUSED_HEADER, REQUEST_ID_HEADER, SERVED_HEADER } from '../contract.ts';
import { needsDns } from './cluster-parts.ts';
import { type Json, type JsonObject, typed } from './json.ts';
import { isStatusUri } from './local-replies.ts';
import { alsoFilter, keptCookieName, ownSessionsStatPrefix, SIDECAR_CLUSTER } from './names.ts';
import { opaqueFilter, opaqueFilters, opaqueOf, opaqueOfHost, withoutOpaque } from './opaque-cookie.ts';
import { anotherHost } from './retries.ts';
import { onlyForRequests, onlyWhenServedHere } from './served-here.ts';

// The HTTP filters, in the order in which a request passes them.

/**
 * How long a request waits for its decision before it goes on without one. Long, because a burst of a thousand
 * requests takes its time to be decided; Envoy's health check takes a sidecar that hangs out sooner.
 */
const MESSAGE_TIMEOUT = '1s';

/** The request's and response's headers that the sidecar reads; no other ever leaves Envoy. */
export const HEADERS_FOR_SIDECAR = [
  ...[':path', 'cookie', HOP_HEADER, REQUEST_ID_HEADER],
  ...[':status', 'x-envoy-upstream-service-time', 'grpc-status', REFUSED_HEADER, SERVED_HEADER],
];

/** @param byHost whether the sidecar finds the application by the host */
export function extProcFilter(byHost: boolean): JsonObject {
  const headers = byHost ? [':authority', ...HEADERS_FOR_SIDECAR] : HEADERS_FOR_SIDECAR;
  return {
    name: 'envoy.filters.http.ext_proc',
    typed_config: typed('envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor', {
      grpc_service: {
        // Without the headers of a request through a proxy, which each call would carry for nothing.
        envoy_grpc: { cluster_name: SIDECAR_CLUSTER, skip_envoy_headers: true },
        // Not envoy_grpc.retry_policy, which does nothing. With two sidecars a restart of one skips no decision.
        retry_policy: {
          retry_on: 'connect-failure,refused-stream,reset-before-request,reset',
          num_retries: 5,
          retry_back_off: { base_interval: '0.001s', max_interval: '0.01s' },
          ...anotherHost(),
        },
      },
      failure_mode_allow: true,
      message_timeout: MESSAGE_TIMEOUT,
      processing_mode: { request_header_mode: 'SEND', response_header_mode: 'SKIP' },
      // The sidecar asks for the response headers of the few requests whose answer must expire a cookie.
      allow_mode_override: true,
      forward_rules: { allowed_headers: { patterns: headers.map((exact) => ({ exact })) } },
      metadata_options: { receiving_namespaces: { untyped: [METADATA_NAMESPACE] } },
    }),
  };
}

/** Answers the status URI by the health of the local pool when the sidecar is gone; otherwise it has answered before. */
export function healthCheckFilter(application: Application): JsonObject {
  const { localPool, statusUri } = application;
  return {
    name: 'envoy.filters.http.health_check',
    typed_config: typed('envoy.extensions.filters.http.health_check.v3.HealthCheck', {
      pass_through_mode: false,
      headers: [
        // Cheap, and for nearly every request the end of it.
        { name: ':path', string_match: { prefix: statusUri } },
        {
          name: ':path',
          string_match: { safe_regex: isStatusUri(application) },
        },
      ],
      cluster_min_healthy_percentages: minHealthy(localPool),
    }),
  };
}

type CountedPool = Pick<LocalPoolConfig | RemotePoolConfig, 'cluster' | 'servers' | 'minUp'>;

/** By which the health_check filter says whether a pool is up. */
export function minHealthy(pool: CountedPool): JsonObject {
  return { [pool.cluster]: { value: minHealthyPercent(pool) } };
}

/**
 * `minUp` servers as a share of all, the only form that the filter takes; it drops what is behind the point. One of a hundred
 * is one of fewer as well, so that the filter stays the same when servers come and go. A name may have any number of addresses,
 * so of names one is enough: better UP with too few than DOWN with enough.
 */
function minHealthyPercent({ servers, minUp }: CountedPool): number {
  if (minUp === 1 || servers.length === 0 || needsDns(servers)) return 1;
  return Math.min(100, Math.max(1, Math.floor((100 * minUp) / servers.length)));
}

/** Whether the filter says UP and DOWN by the same number of servers as the sidecar: names may have any number of addresses. */
export function countsExactly({ servers }: LocalPoolConfig): boolean {
  return !needsDns(servers) && servers.length > 0 && servers.length <= 100;
}

/**
 * Keep a client at the server of the local pool that its cookie names. Only an answer of such a server sets the cookie, and only
 * under its own name: of several names that one counts, so its filter comes last.
 */
export function statefulSessionFilters(cookie: LocalCookieConfig): JsonObject[] {
  return [
    ...opaqueFilters([cookie]),
    ...cookie.also.map((name, index) =>
      onlyForRequests(statefulSession(alsoFilter(index), { session_state: sessionState({ ...cookie, name }) })),
    ),
    onlyWhenServedHere(statefulSession(STATEFUL_SESSION, { session_state: sessionState(cookie) })),
  ];
}

/** So many other names come without another listener. */
const LIVE_ALSO_FILTERS = 2;

/**
 * The same where each virtual host has a cookie of its own.
 * @param isLive whether Envoy follows the file: a connection keeps the filters that it began with, and meets new virtual hosts. So
 *   what a later one may need is there, and does nothing where a virtual host says nothing of it
 */
export function statefulSessionFiltersOfHosts(cookies: readonly LocalCookieConfig[], isLive: boolean): JsonObject[] {
  const most = Math.max(...cookies.map(({ also }) => also.length));
  const also = Array.from({ length: Math.max(most, isLive ? LIVE_ALSO_FILTERS : 0) }, (_, index) =>
    onlyForRequests(statefulSession(alsoFilter(index), {})),
  );
  return [
    ...whereWanted(isLive ? [opaqueFilter()] : opaqueFilters(cookies), isLive),
    ...whereWanted(also, isLive),
    onlyWhenServedHere(statefulSession(STATEFUL_SESSION, {})),
  ];
}

/** Only for the virtual hosts and routes that say something of them. */
function whereWanted(filters: readonly JsonObject[], isLive: boolean): JsonObject[] {
  return filters.map((filter) => (isLive ? { ...filter, disabled: true } : filter));
}

/** What a virtual host says of them. */
export function stickiness(application: Application): JsonObject {
  const { isForEveryHost, localPool } = application;
  const { cookie } = localPool;
  return {
    ...opaqueOfHost(application),
    // Of one application for every host the filters say it themselves.
    ...(isForEveryHost
      ? {}
      : perRoute(cookie, (name) => ({ stateful_session: { session_state: sessionState({ ...cookie, name }) } }))),
  };
}

/**
 * What a route says of it that takes this site's own sessions alone. Envoy counts what becomes of them: `routed` to their server,
 * or `failed_open`, which in a request without the cookie it counts as well.
 */
export function countedStickiness(application: Application): JsonObject {
  const settings = {
    stateful_session: {
      session_state: sessionState(application.localPool.cookie),
      stat_prefix: ownSessionsStatPrefix(application),
    },
  };
  return { [STATEFUL_SESSION]: typed(STATEFUL_SESSION_PER_ROUTE, settings) };
}

/**
 * What a route says of it that serves other sites' sessions which stay theirs: such a session has a server here meanwhile, by a
 * cookie that tells no site. With this site's own it would be taken for this site's as well, by whichever site it comes to.
 */
export function keptStickiness(application: Application): JsonObject {
  const { cookie } = application.localPool;
  const name = keptCookieName(cookie);
  const settings = { stateful_session: { session_state: sessionState({ ...cookie, name }) } };
  return {
    ...opaqueOf(application, name),
    [STATEFUL_SESSION]: typed(STATEFUL_SESSION_PER_ROUTE, settings),
  };
}

/** The stickiness cookie names a server of this site: at another site, or behind the stand-in listener, it has its own filter. */
export function withoutStickiness(application: Application): JsonObject {
  return {
    ...withoutOpaque(application),
    ...perRoute(application.localPool.cookie, () => ({ disabled: true })),
  };
}

const STATEFUL_SESSION = 'envoy.filters.http.stateful_session';
const STATEFUL_SESSION_PER_ROUTE = 'envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute';

function statefulSession(name: string, settings: JsonObject) {
  return { name, typed_config: typed('envoy.extensions.filters.http.stateful_session.v3.StatefulSession', settings) };
}

/** @param settingsOf by the name of the cookie that a filter reads */
function perRoute({ name, also }: CookieConfig, settingsOf: (name: string) => JsonObject): JsonObject {
  const filters = [
    [STATEFUL_SESSION, name],
    ...also.map((other, index) => [alsoFilter(index), other] as const),
  ] as const;
  return Object.fromEntries(
    filters.map(([filter, cookie]) => [filter, typed(STATEFUL_SESSION_PER_ROUTE, settingsOf(cookie))]),
  );
}

function sessionState(cookie: CookieConfig): JsonObject {
  const attributes: Json[] = [];
  if (cookie.domain !== null) attributes.push({ name: 'Domain', value: cookie.domain });
  if (cookie.sameSite !== null) attributes.push({ name: 'SameSite', value: cookie.sameSite });
  if (cookie.secure) attributes.push({ name: 'Secure' });
  return {
    name: 'envoy.http.stateful_session.cookie',
    typed_config: typed('envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState', {
      cookie: {
        name: cookie.name,
        path: cookie.path,
        ...(cookie.ttlMs === null ? {} : { ttl: formatProtoDuration(cookie.ttlMs) }),
        ...(attributes.length === 0 ? {} : { attributes }),
      },
    }),
  };
}

export function routerFilter(): JsonObject {
  return { name: 'envoy.filters.http.router', typed_config: typed('envoy.extensions.filters.http.router.v3.Router') };
}
