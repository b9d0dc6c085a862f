import type { TcpAddress } from '../config/address.ts';
import type { Config, CookieConfig, EdgeTlsConfig, LocalPoolConfig } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import {
  HOP_HEADER,
  METADATA_NAMESPACE,
  POOL_HEADER,
  REFUSED_HEADER,
  REQUEST_ID_HEADER,
  SERVED_HEADER,
  STATUS_CONTENT_TYPE,
  statusBody,
} from '../contract.ts';
import { escapeRegex } from '../envoy-admin/regex.ts';
import { needsDns, overwrite, renderAddress } from './cluster-parts.ts';
import { HEADER_LIMITS } from './header-limits.ts';
import { type Json, type JsonObject, typed } from './json.ts';
import { EDGE, HOP_EDGE, SIDECAR_CLUSTER } from './names.ts';
import { anotherHost } from './retries.ts';
import { renderRouteConfig } from './routes.ts';
import { onlyWhenServedHere } from './served-here.ts';
import { downstreamTls } from './tls.ts';

/**
 * How long a request waits for its decision before it goes on without one. Long, because a burst of a thousand
 * requests takes its time to be decided; Envoy's health check takes a sidecar that hangs out sooner.
 */
const MESSAGE_TIMEOUT = '1s';

/** The request's and response's headers that the sidecar reads; no other ever leaves Envoy. */
const HEADERS_FOR_SIDECAR = [
  ...[':path', 'cookie', HOP_HEADER, REQUEST_ID_HEADER],
  ...[':status', 'x-envoy-upstream-service-time', 'grpc-status', REFUSED_HEADER, SERVED_HEADER],
];

/** The listeners that ask the sidecar: that of the clients, and that of the other sites where they have one. */
export function renderEdges(config: Config, listen: TcpAddress): JsonObject[] {
  const { listenTls, hopListen, hopListenTls, hopListenOnly } = config.envoy;
  return [
    renderEdge(config, EDGE, {
      address: listen,
      tls: listenTls,
      earlyMutations: hopListenOnly ? [{ remove: HOP_HEADER }] : [],
      believesSender: false,
    }),
    ...(hopListen === null
      ? []
      : [
          renderEdge(config, HOP_EDGE, {
            address: hopListen,
            tls: hopListenTls,
            // Whatever comes here has been forwarded, and goes no further.
            earlyMutations: [
              { append: { header: { key: HOP_HEADER, value: 'unnamed' }, append_action: 'ADD_IF_ABSENT' } },
            ],
            believesSender: true,
          }),
        ]),
  ];
}

interface EdgeOptions {
  readonly address: TcpAddress;
  readonly tls: EdgeTlsConfig | null;
  /** Of a request's headers, beside that of the pool header. */
  readonly earlyMutations: readonly JsonObject[];
  /** The client's address, and whether it came by HTTPS, are as the sender says: the last of X-Forwarded-For. */
  readonly believesSender: boolean;
}

/** Its filters ask the sidecar, answer the status URI, keep clients at their server, route. */
function renderEdge(config: Config, name: string, options: EdgeOptions): JsonObject {
  const { address, tls } = options;
  return {
    name,
    address: listenAddress(address),
    per_connection_buffer_limit_bytes: 1024 * 1024,
    filter_chains: [
      {
        ...(tls === null ? {} : { transport_socket: downstreamTls(name, tls, config.envoy.secretsDir) }),
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: typed(
              'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              connectionManager(config, options),
            ),
          },
        ],
      },
    ],
  };
}

/** On every IPv6 address means on every IPv4 address, too, as anybody expects of [::]. */
function listenAddress(address: TcpAddress): JsonObject {
  const { host, port } = address;
  if (host !== '::') return renderAddress(address);
  return { socket_address: { address: host, port_value: port, ipv4_compat: true } };
}

function connectionManager(config: Config, { earlyMutations, believesSender }: EdgeOptions): JsonObject {
  return {
    // One for both edges: its counters have all decisions, skipped ones and 503s.
    stat_prefix: EDGE,
    codec_type: 'AUTO',
    use_remote_address: true,
    ...(believesSender ? { xff_num_trusted_hops: 1 } : {}),
    http_protocol_options: monitorsProtocol(config),
    // WebSockets come over HTTP/2 as well (RFC 8441), from other sites and from browsers.
    http2_protocol_options: { allow_connect: true },
    stream_idle_timeout: formatProtoDuration(config.envoy.streamIdleTimeoutMs),
    max_request_headers_kb: HEADER_LIMITS.kb,
    common_http_protocol_options: { max_headers_count: HEADER_LIMITS.count },
    // A limit for clients that send their headers byte by byte.
    request_headers_timeout: '30s',
    // One id for a request at both sites.
    preserve_external_request_id: true,
    ...upgrades(),
    // Before any filter and the first choice of a route: a client's own pool header never has an effect.
    early_header_mutation_extensions: [
      {
        name: 'envoy.http.early_header_mutation.header_mutation',
        typed_config: typed('envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation', {
          mutations: [{ remove: POOL_HEADER }, ...earlyMutations],
        }),
      },
    ],
    http_filters: [
      extProcFilter(),
      healthCheckFilter(config),
      statefulSessionFilter(config.localPool.cookie),
      routerFilter(),
    ],
    local_reply_config: {
      mappers: [...refusalsOfEnvoy(config, [isForwarded()]), ...statusAnswers(config), tooLargeToRepeat([])],
    },
    access_log: config.envoy.fastPath ? accessLogsWithFastPath() : [accessLog(decisionOfSidecar)],
    route_config: renderRouteConfig(config),
  };
}

/**
 * Load balancers' monitors speak HTTP/1.0 (Avi's and HAProxy's default) or 0.9 (F5's), often without a Host. Java's client
 * offers TLS upgrades (RFC 2817), which Envoy would refuse with 403.
 */
function monitorsProtocol({ envoy }: Config): JsonObject {
  return {
    accept_http_10: true,
    default_host_for_http_10: envoy.defaultHost,
    ignore_http_11_upgrade: [{ prefix: 'TLS/' }],
  };
}

/** The upgrades that are let through, at each connection manager on the way. */
export function upgrades(): JsonObject {
  return { upgrade_configs: [{ upgrade_type: 'websocket' }] };
}

export function routerFilter(): JsonObject {
  return { name: 'envoy.filters.http.router', typed_config: typed('envoy.extensions.filters.http.router.v3.Router') };
}

function extProcFilter(): JsonObject {
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
      processing_mode: {
        request_header_mode: 'SEND',
        response_header_mode: 'SKIP',
        request_body_mode: 'NONE',
        response_body_mode: 'NONE',
        request_trailer_mode: 'SKIP',
        response_trailer_mode: 'SKIP',
      },
      // The sidecar asks for the response headers of the few requests whose answer must expire a cookie.
      allow_mode_override: true,
      forward_rules: { allowed_headers: { patterns: HEADERS_FOR_SIDECAR.map((exact) => ({ exact })) } },
      metadata_options: { receiving_namespaces: { untyped: [METADATA_NAMESPACE] } },
    }),
  };
}

/** Answers the status URI by the health of the local pool when the sidecar is gone; otherwise it has answered before. */
function healthCheckFilter(config: Config): JsonObject {
  const { cluster } = config.localPool;
  return {
    name: 'envoy.filters.http.health_check',
    typed_config: typed('envoy.extensions.filters.http.health_check.v3.HealthCheck', {
      pass_through_mode: false,
      headers: [
        // Cheap, and for nearly every request the end of it.
        { name: ':path', string_match: { prefix: config.statusUri } },
        {
          name: ':path',
          string_match: { safe_regex: isStatusUri(config) },
        },
      ],
      cluster_min_healthy_percentages: { [cluster]: { value: minHealthyPercent(config.localPool) } },
    }),
  };
}

/**
 * `minUp` servers as a share of all, the only form that the filter takes; it drops what is behind the point. A name may
 * have any number of addresses, so of names one is enough: better UP with too few than DOWN with enough.
 */
function minHealthyPercent({ servers, minUp }: LocalPoolConfig): number {
  if (servers.length === 0 || needsDns(servers)) return 1;
  return Math.min(100, Math.max(1, Math.floor((100 * minUp) / servers.length)));
}

/** Keeps a client at the server of the local pool that its cookie names. Only an answer of such a server sets the cookie. */
export function statefulSessionFilter(cookie: CookieConfig): JsonObject {
  const attributes: Json[] = [];
  if (cookie.domain !== null) attributes.push({ name: 'Domain', value: cookie.domain });
  if (cookie.sameSite !== null) attributes.push({ name: 'SameSite', value: cookie.sameSite });
  if (cookie.secure) attributes.push({ name: 'Secure' });
  return onlyWhenServedHere({
    name: 'envoy.filters.http.stateful_session',
    typed_config: typed('envoy.extensions.filters.http.stateful_session.v3.StatefulSession', {
      session_state: {
        name: 'envoy.http.stateful_session.cookie',
        typed_config: typed('envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState', {
          cookie: {
            name: cookie.name,
            path: cookie.path,
            ...(cookie.ttlMs === null ? {} : { ttl: formatProtoDuration(cookie.ttlMs) }),
            ...(attributes.length === 0 ? {} : { attributes }),
          },
        }),
      },
    }),
  });
}

/**
 * In the moment before anyone has noticed that the local pool is down, Envoy's own 503 to a forwarded request must be
 * a refusal as well: no server has seen the request (no healthy host: UH; no connection: UF), so the site that sent it
 * can serve it.
 * @param conditions access log filters that must hold as well
 */
export function refusalsOfEnvoy(config: Config, conditions: readonly JsonObject[]): JsonObject[] {
  const headers_to_add = [overwrite(REFUSED_HEADER, config.site)];
  const isUnserved = { response_flag_filter: { flags: ['UH', 'UF'] } };
  return [
    { filter: all([isUnserved, ...conditions]), headers_to_add },
    { ...tooLargeToRepeat(conditions), headers_to_add },
  ];
}

/**
 * An upload that grew past `request_body_buffer_limit` between two tries. Envoy says 507 then, but no server has seen the request,
 * and it is no less a 503 than what it would have said after the last try.
 */
function tooLargeToRepeat(conditions: readonly JsonObject[]): JsonObject {
  return { filter: all([hasStatus(507), ...conditions]), status_code: 503 };
}

function all(filters: readonly JsonObject[]): JsonObject {
  const [only] = filters;
  return filters.length === 1 && only !== undefined ? only : { and_filter: { filters } };
}

function hasStatus(status: number): JsonObject {
  return { status_code_filter: { comparison: { op: 'EQ', value: { default_value: status, runtime_key: 'unused' } } } };
}

function isForwarded(): JsonObject {
  return { header_filter: { header: { name: HOP_HEADER, present_match: true } } };
}

/** The health_check filter answers without a body, which is what monitors look at. */
function statusAnswers(config: Config): JsonObject[] {
  return [true, false].map((up) => ({
    filter: {
      and_filter: {
        filters: [
          { header_filter: { header: { name: ':path', string_match: { safe_regex: isStatusUri(config) } } } },
          hasStatus(up ? 200 : 503),
        ],
      },
    },
    headers_to_add: [overwrite('cache-control', 'no-store')],
    body_format_override: { text_format_source: { inline_string: statusBody(up) }, content_type: STATUS_CONTENT_TYPE },
  }));
}

function isStatusUri({ statusUri }: Config): JsonObject {
  return { regex: `${escapeRegex(statusUri)}(\\?\\C*)?` };
}

const decisionOfSidecar = (key: string) => `%DYNAMIC_METADATA(${METADATA_NAMESPACE}:${key})%`;

/** The fast route bears its decision, for the sidecar has not seen the request. */
const decisionOfRoute = (key: string) => `%METADATA(ROUTE:${METADATA_NAMESPACE}:${key})%`;

/** Each request has one line still: by the sidecar's decision where there is one, else by the route's. */
function accessLogsWithFastPath(): JsonObject[] {
  const matcher = { filter: METADATA_NAMESPACE, path: [{ key: 'decision' }], value: { present_match: true } };
  return [
    { ...accessLog(decisionOfSidecar), filter: { metadata_filter: { matcher, match_if_key_not_found: false } } },
    {
      ...accessLog(decisionOfRoute),
      filter: { metadata_filter: { matcher: { ...matcher, invert: true }, match_if_key_not_found: true } },
    },
  ];
}

/** One JSON line for each request on stdout, with the decision and the owner of its session. */
function accessLog(metadata: (key: string) => string): JsonObject {
  return {
    name: 'envoy.access_loggers.stdout',
    typed_config: typed('envoy.extensions.access_loggers.stream.v3.StdoutAccessLog', {
      log_format: {
        json_format: {
          time: '%START_TIME%',
          method: '%REQ(:METHOD)%',
          path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
          status: '%RESPONSE_CODE%',
          flags: '%RESPONSE_FLAGS%',
          details: '%RESPONSE_CODE_DETAILS%',
          decision: metadata('decision'),
          owner: metadata('owner'),
          hop: `%REQ(${HOP_HEADER})%`,
          route: '%ROUTE_NAME%',
          upstream_cluster: '%UPSTREAM_CLUSTER_RAW%',
          upstream_host: '%UPSTREAM_HOST%',
          attempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
          duration_ms: '%DURATION%',
          client: '%DOWNSTREAM_REMOTE_ADDRESS%',
          request_id: '%REQ(X-REQUEST-ID)%',
        },
      },
    }),
  };
}
