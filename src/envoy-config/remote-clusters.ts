import { formatAddress, isIpAddress, type TcpAddress } from '../config/address.ts';
import type { Config, RemotePoolConfig, RemoteProtocol } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { HOP_HEADER, OBEYED_OF_OTHER_SITES } from '../headers.ts';
import { canStandIn } from './can-stand-in.ts';
import {
  CONNECT_TIMEOUT,
  checkTiming,
  endpoints,
  noLimits,
  overwrite,
  poolDefaults,
  renderAddress,
} from './cluster-parts.ts';
import { HEADER_LIMITS } from './header-limits.ts';
import { healthCheckHost } from './health-check.ts';
import { httpOptions } from './http-options.ts';
import { type JsonObject, typed } from './json.ts';
import { overHttp2, STAND_IN, serverListener, withFallback } from './names.ts';
import { markServedElsewhere } from './served-here.ts';
import { upstreamTls } from './tls.ts';
import { hasPriorityGroups } from './versions.ts';

/**
 * The clusters of the other sites.
 *
 * A link that drops packets and a proxy that hangs leave connections open on which nothing comes any more, and Envoy's HTTP
 * pools never close those: a health check that fails only keeps new requests away. HTTP/2 has pings for it. For HTTP/1.1
 * each connection leads through an internal listener, whose TCP cluster closes what is open when its own check fails.
 */
export function renderRemoteClusters(config: Config): JsonObject[] {
  return [
    ...config.remotePools.flatMap((pool) => [
      remoteCluster(config, pool),
      ...(hasHttp2Twin(config, pool) ? [http2Twin(config, pool)] : []),
      ...serversToClose(pool).map((server, index) => closingCluster(config, pool, server, index)),
    ]),
    ...(canStandIn(config) ? config.remotePools.map((pool) => fallbackCluster(config, pool)) : []),
  ];
}

/** The internal listeners through which HTTP/1.1 goes to other sites. */
export function renderServerListeners(config: Config): JsonObject[] {
  return config.remotePools.flatMap((pool) =>
    serversToClose(pool).map((_, index) => {
      const name = serverListener(pool, index);
      return {
        name,
        internal_listener: {},
        filter_chains: [
          {
            filters: [
              {
                name: 'envoy.filters.network.tcp_proxy',
                typed_config: typed('envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', {
                  stat_prefix: name,
                  cluster: name,
                  // The HTTP connection that leads here has its own.
                  idle_timeout: '0s',
                }),
              },
            ],
          },
        ],
      };
    }),
  );
}

/**
 * In clear text nothing tells which protocol a site speaks, so that a check of its own has to find out. It takes a route whose
 * retry does not lead to the same site by HTTP/1.1, where a connection into silence is taken for one that stands.
 */
function hasHttp2Twin(config: Config, pool: RemotePoolConfig): boolean {
  return pool.protocol === 'auto' && pool.tls === null && canStandIn(config) && hasPriorityGroups(config.envoy.version);
}

/**
 * The servers to which HTTP/1.1 may be spoken. A name can't be looked up for an internal listener's health check, which Envoy
 * does on its main thread, where there are none: a site that is named has pings alone, and so needs HTTP/2.
 */
function serversToClose({ protocol, servers }: RemotePoolConfig): readonly TcpAddress[] {
  return protocol !== 'http2' && servers.every(({ host }) => isIpAddress(host)) ? servers : [];
}

function protocolOf({ protocol, tls }: RemotePoolConfig): RemoteProtocol {
  return protocol === 'auto' && tls === null ? 'http1' : protocol;
}

/** Another site's virtual IP; its health is what that site's status URI says. */
function remoteCluster(config: Config, pool: RemotePoolConfig): JsonObject {
  const closed = serversToClose(pool);
  return {
    name: pool.cluster,
    ...(closed.length === 0
      ? endpoints(pool.cluster, pool.servers, config.envoy.version)
      : throughListeners(pool, closed)),
    ...common(),
    health_checks: [statusCheck(config, pool, pool.protocol === 'http2' ? OVER_HTTP2 : {})],
    ...httpOptions(protocolOf(pool), {
      limits: HEADER_LIMITS,
      idleTimeoutMs: pool.idleTimeoutMs,
      mutations: mutations(config),
    }),
    ...transportSocket(config, pool),
  };
}

/** The same site by HTTP/2, up where it speaks that. */
function http2Twin(config: Config, pool: RemotePoolConfig): JsonObject {
  const name = overHttp2(pool);
  return {
    name,
    ...endpoints(name, pool.servers, config.envoy.version),
    ...common(),
    health_checks: [
      {
        ...statusCheck(config, pool, OVER_HTTP2),
        // Not before the other check, whose cluster would then be taken in this one's place, and be as silent.
        unhealthy_threshold: pool.healthCheck.unhealthy + 1,
        // A site that speaks HTTP/1.1 only is not to be asked each second.
        unhealthy_interval: '10s',
        no_traffic_interval: '10s',
      },
    ],
    ...httpOptions('http2', { limits: HEADER_LIMITS, idleTimeoutMs: pool.idleTimeoutMs }),
  };
}

function common(): JsonObject {
  return {
    // Envoy does not wait for another site's name before it serves this one.
    wait_for_warm_on_init: false,
    connect_timeout: CONNECT_TIMEOUT,
    ...poolDefaults(),
  };
}

/** @param more of the HTTP check */
function statusCheck(config: Config, pool: RemotePoolConfig, more: JsonObject = {}): JsonObject {
  return {
    ...checkTiming(pool.healthCheck),
    // Three time-outs and the sidecar's next poll come before the pings give up: see HTTP2.
    unhealthy_edge_interval: '0.1s',
    // The same where requests go by the other protocol: Envoy then says of this cluster that it has no traffic.
    no_traffic_interval: formatProtoDuration(pool.healthCheck.intervalMs / 4),
    no_traffic_healthy_interval: formatProtoDuration(pool.healthCheck.intervalMs),
    // For lost packets and refused connections. The 503 of a site that is down takes it out at once.
    unhealthy_threshold: pool.healthCheck.unhealthy,
    http_health_check: {
      path: config.statusUri,
      host: healthCheckHost(pool),
      // A draining site says 503 to the world and 200 to a site that keeps its sessions.
      request_headers_to_add: [overwrite(HOP_HEADER, config.site)],
      ...more,
    },
  };
}

function mutations(config: Config): JsonObject {
  return {
    // On a retry from the local pool, when the route that adds the header was not the one taken.
    request_mutations: [{ append: overwrite(HOP_HEADER, config.site) }],
    response_mutations: [...OBEYED_OF_OTHER_SITES.map((header) => ({ remove: header })), markServedElsewhere()],
  };
}

function transportSocket(config: Config, { cluster, tls }: RemotePoolConfig): JsonObject {
  return tls === null ? {} : { transport_socket: upstreamTls(cluster, tls, config.envoy.secretsDir) };
}

function throughListeners(pool: RemotePoolConfig, servers: readonly TcpAddress[]): JsonObject {
  return {
    type: 'STATIC',
    load_assignment: {
      cluster_name: pool.cluster,
      endpoints: [
        {
          lb_endpoints: servers.map((server, index) => ({
            endpoint: {
              address: {
                envoy_internal_address: {
                  server_listener_name: serverListener(pool, index),
                  // What the admin interface shows.
                  endpoint_id: formatAddress(server),
                },
              },
              // Health checks go straight to the server.
              health_check_config: { address: renderAddress(server) },
            },
          })),
        },
      ],
    },
  };
}

/** One server, for bytes alone. Whatever status its check gets, it is alive: only silence closes what is open to it. */
function closingCluster(config: Config, pool: RemotePoolConfig, server: TcpAddress, index: number): JsonObject {
  const name = serverListener(pool, index);
  return {
    name,
    ...endpoints(name, [server], config.envoy.version),
    ...common(),
    close_connections_on_host_health_failure: true,
    health_checks: [
      {
        ...statusCheck(config, pool, { expected_statuses: [{ start: 100, end: 600 }] }),
        ...(pool.tls === null ? {} : { transport_socket_match_criteria: CHECK_OVER_TLS }),
      },
    ],
    ...(pool.tls === null
      ? {}
      : {
          transport_socket_matches: [
            {
              name: 'check',
              match: CHECK_OVER_TLS,
              transport_socket: upstreamTls(pool.cluster, pool.tls, config.envoy.secretsDir),
            },
          ],
        }),
  };
}

const OVER_HTTP2 = { codec_client_type: 'HTTP2' };

/** What comes through is encrypted already; the check is not. */
const CHECK_OVER_TLS = { check: true };

/** The site, or this one where that can't be reached or refuses, and then any other. */
function fallbackCluster(config: Config, pool: RemotePoolConfig): JsonObject {
  const others = config.remotePools.filter((other) => other !== pool);
  return aggregate(
    withFallback(pool),
    [
      ...waysTo(config, pool),
      STAND_IN,
      // With priority groups the route itself goes on to the other sites.
      ...(hasPriorityGroups(config.envoy.version) ? [] : others.flatMap((other) => waysTo(config, other))),
    ],
    config,
  );
}

/** The clusters that lead to a site, the better one first. */
export function waysTo(config: Config, pool: RemotePoolConfig): string[] {
  return hasHttp2Twin(config, pool) ? [overHttp2(pool), pool.cluster] : [pool.cluster];
}

/** The first of these clusters that is up; a retry goes to the next. */
export function aggregate(name: string, clusters: readonly string[], config: Config): JsonObject {
  return {
    name,
    connect_timeout: CONNECT_TIMEOUT,
    lb_policy: 'CLUSTER_PROVIDED',
    circuit_breakers: noLimits(),
    // Where an aggregate is the route's cluster its upstream filters run, and not those of the cluster that it picks.
    ...httpOptions('http1', { limits: HEADER_LIMITS, idleTimeoutMs: null, mutations: mutations(config) }),
    cluster_type: {
      name: 'envoy.clusters.aggregate',
      typed_config: typed('envoy.extensions.clusters.aggregate.v3.ClusterConfig', { clusters }),
    },
  };
}
