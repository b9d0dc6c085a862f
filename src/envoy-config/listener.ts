import type { TcpAddress } from '../config/address.ts';
import { applicationsOf, type Config, type EdgeTlsConfig } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { HOP_HEADER, POOL_HEADER } from '../contract.ts';
import { accessLogs } from './access-log.ts';
import { renderAddress } from './cluster-parts.ts';
import {
  extProcFilter,
  healthCheckFilter,
  routerFilter,
  statefulSessionFilters,
  statefulSessionFiltersOfHosts,
} from './filters.ts';
import { HEADER_LIMITS } from './header-limits.ts';
import { connectionManagerFilter } from './internal-listener.ts';
import { type JsonObject, typed } from './json.ts';
import { isForwarded, refusalsOfEnvoy, statusAnswers, tooLargeToRepeat } from './local-replies.ts';
import { EDGE, HOP_EDGE } from './names.ts';
import { OUTSIDE_CONNECTION_LIMIT } from './overload.ts';
import { HTTP2_OF_CLIENTS, HTTP2_OF_SITES, headerRules, OWN_SERVER_HEADER, pathRules } from './request-rules.ts';
import { downstreamTls } from './tls.ts';
import { hostOfHostless, renderRouteConfig } from './virtual-hosts.ts';

/** The listeners that ask the sidecar: that of the clients, and that of the other sites where they have one. */
export function renderEdges(config: Config, listen: TcpAddress): JsonObject[] {
  const { listenTls, hopListen, hopListenTls, hopListenOnly, trustedHops, proxyProtocol } = config.envoy;
  return [
    renderEdge(config, EDGE, {
      address: listen,
      tls: listenTls,
      earlyMutations: hopListenOnly ? [{ remove: HOP_HEADER }] : [],
      isOfSites: false,
      // Of the sites there is one id for a request at both.
      keepsRequestId: hopListen === null,
      trustedHops,
      more: proxyProtocol ? { listener_filters: [proxyProtocolFilter()] } : {},
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
            isOfSites: true,
            keepsRequestId: true,
            // What the other edge has said of its client stands behind what the proxies in front of it say.
            trustedHops: trustedHops + 1,
            // Clients that have taken all connections do not make the other sites take this one for down.
            more: OUTSIDE_CONNECTION_LIMIT,
          }),
        ]),
  ];
}

interface EdgeOptions {
  readonly address: TcpAddress;
  readonly tls: EdgeTlsConfig | null;
  /** Of a request's headers, beside that of the pool header. */
  readonly earlyMutations: readonly JsonObject[];
  /** Whether only other sites come there. */
  readonly isOfSites: boolean;
  /** Whether a request's id may come with it. */
  readonly keepsRequestId: boolean;
  /** The client's address is that which so many senders have added to X-Forwarded-For; with one or more X-Forwarded-Proto is believed. */
  readonly trustedHops: number;
  /** Of the listener. */
  readonly more: JsonObject;
}

/** Its filters ask the sidecar, answer the status URI, keep clients at their server, route. */
function renderEdge(config: Config, name: string, options: EdgeOptions): JsonObject {
  const { address, tls, more } = options;
  return {
    name,
    address: listenAddress(address),
    ...more,
    per_connection_buffer_limit_bytes: 1024 * 1024,
    filter_chains: [
      {
        ...(tls === null ? {} : { transport_socket: downstreamTls(name, tls, config.envoy.secretsDir) }),
        filters: [connectionManagerFilter(connectionManager(config, options))],
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

/** The load balancer in front says who the client is, before all else; a connection without that is closed. */
function proxyProtocolFilter(): JsonObject {
  return {
    name: 'envoy.filters.listener.proxy_protocol',
    typed_config: typed('envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol'),
  };
}

function connectionManager(config: Config, options: EdgeOptions): JsonObject {
  const { earlyMutations, isOfSites, keepsRequestId, trustedHops } = options;
  return {
    // One for both edges: its counters have all decisions, skipped ones and 503s.
    stat_prefix: EDGE,
    use_remote_address: true,
    ...(trustedHops === 0 ? {} : { xff_num_trusted_hops: trustedHops }),
    ...pathRules(config.envoy),
    http_protocol_options: monitorsProtocol(config),
    http2_protocol_options: isOfSites ? HTTP2_OF_SITES : HTTP2_OF_CLIENTS,
    stream_idle_timeout: formatProtoDuration(config.envoy.streamIdleTimeoutMs),
    max_request_headers_kb: HEADER_LIMITS.kb,
    common_http_protocol_options: { max_headers_count: HEADER_LIMITS.count, ...headerRules(config.envoy) },
    // A limit for clients that send their headers byte by byte.
    request_headers_timeout: '30s',
    ...(keepsRequestId ? { preserve_external_request_id: true } : {}),
    ...OWN_SERVER_HEADER,
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
    ...filtersAndReplies(config),
    access_log: accessLogs(config),
    route_config: renderRouteConfig(config),
  };
}

/** What is the same for every host stands here; where there are several applications the rest stands at their virtual hosts. */
function filtersAndReplies(config: Config): JsonObject {
  const [first] = applicationsOf(config);
  const only = first?.isForEveryHost === true ? first : null;
  const [ofEveryHost, answers] =
    only === null
      ? [
          statefulSessionFiltersOfHosts(
            config.applications.map(({ localPool }) => localPool.cookie),
            config.envoy.configDir !== null,
          ),
          [],
        ]
      : [[healthCheckFilter(only), ...statefulSessionFilters(only.localPool.cookie)], statusAnswers(only)];
  return {
    http_filters: [extProcFilter(only === null), ...ofEveryHost, routerFilter()],
    local_reply_config: { mappers: [...refusalsOfEnvoy(config, [isForwarded()]), ...answers, tooLargeToRepeat([])] },
  };
}

/**
 * Load balancers' monitors speak HTTP/1.0 (Avi's and HAProxy's default) or 0.9 (F5's), often without a Host. Java's client
 * offers TLS upgrades (RFC 2817), which Envoy would refuse with 403, as all that it does not know; a server may as well go on
 * without (RFC 9110, 7.8).
 */
function monitorsProtocol(config: Config): JsonObject {
  const host = hostOfHostless(config);
  return {
    accept_http_10: true,
    ...(host === null ? {} : { default_host_for_http_10: host }),
    ignore_http_11_upgrade: [{ safe_regex: { regex: NO_WEBSOCKET } }],
  };
}

/** Any protocol that a client may offer, but for those that begin as the one which is let through. */
const NO_WEBSOCKET = '([^wW]|[wW][^eE]).*';

/** The upgrades that are let through, at each connection manager on the way. */
export function upgrades(): JsonObject {
  return { upgrade_configs: [{ upgrade_type: 'websocket' }] };
}
