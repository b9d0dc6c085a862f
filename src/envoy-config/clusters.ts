import { type Address, isIpAddress, type TcpAddress } from '../config/address.ts';
import type { Config, EnvoyConfig, EnvoyVersion, RemotePoolConfig } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { MAX_CALLS_OF_CONNECTION } from '../ext-proc/max-calls.ts';
import { EXT_PROC_SERVICE } from '../ext-proc/service-name.ts';
import { HOP_HEADER, REFUSED_HEADER, STEERING_HEADERS } from '../headers.ts';
import { canStandIn } from './can-stand-in.ts';
import { HEADER_LIMITS, HEADER_LIMITS_BEHIND_EDGE, type HeaderLimits } from './header-limits.ts';
import { healthCheckHost } from './health-check.ts';
import { type JsonObject, typed } from './json.ts';
import { SIDECAR_CLUSTER, STAND_IN, withFallback } from './names.ts';
import { markServedHere } from './served-here.ts';
import { upstreamTls } from './tls.ts';
import { hasPriorityGroups, keepsHostsWithoutDns } from './versions.ts';

/** A SYN that got lost is sent again after 1 s: a shorter time-out would make one lost packet a failover. */
const CONNECT_TIMEOUT = '2.5s';

/** High enough to be no limit: what Envoy refuses here is a request lost, or a decision skipped. */
const NO_LIMIT = 1_000_000;

/** The pools, each remote pool's fallback, and the sidecars. */
export function renderClusters(config: Config): JsonObject[] {
  return [
    localCluster(config),
    ...config.remotePools.map((pool) => remoteCluster(config, pool)),
    ...(canStandIn(config) ? config.remotePools.map(fallbackCluster) : []),
    standInCluster(),
    sidecarCluster(config.envoy),
  ];
}

function localCluster(config: Config): JsonObject {
  const { healthCheck } = config.localPool;
  const check =
    healthCheck.path === null
      ? { tcp_health_check: {} }
      : {
          http_health_check: {
            path: healthCheck.path,
            host: healthCheck.host,
            expected_statuses: healthCheck.expect.map(([start, last]) => ({ start, end: last + 1 })),
            // An unexpected status counts towards unhealthy_threshold instead of taking the server out at once.
            retriable_statuses: [{ start: 500, end: 600 }],
          },
        };
  return {
    name: config.localPool.cluster,
    ...endpoints(config.localPool.cluster, config.localPool.servers, config.envoy.version),
    connect_timeout: CONNECT_TIMEOUT,
    lb_policy: 'LEAST_REQUEST',
    ...poolDefaults(),
    health_checks: [{ ...checkTiming(healthCheck), unhealthy_threshold: 2, ...check }],
    ...httpOptions(HEADER_LIMITS, { response_mutations: [...nothingToSteerBy(), markServedHere()] }),
    ...(hasPriorityGroups(config.envoy.version) ? {} : { outlier_detection: ejectDeadServers() }),
  };
}

/**
 * An application's own refusal would be none, but be taken for one: the request would be done again. The others Envoy
 * itself would obey.
 */
function nothingToSteerBy(): JsonObject[] {
  return [{ remove: REFUSED_HEADER }, ...nothingOfEnvoysToObey()];
}

function nothingOfEnvoysToObey(): JsonObject[] {
  return STEERING_HEADERS.map((header) => ({ remove: header }));
}

/**
 * Where a retry can't leave the local pool, a server that refuses connections must be out before the health check
 * says so: until then each request that meets it is lost when all servers are dead.
 */
function ejectDeadServers(): JsonObject {
  return {
    split_external_local_origin_errors: true,
    consecutive_local_origin_failure: 1,
    enforcing_consecutive_local_origin_failure: 100,
    // Answers of the application, 5xx as well, are its own business.
    enforcing_consecutive_5xx: 0,
    enforcing_consecutive_gateway_failure: 0,
    enforcing_success_rate: 0,
    enforcing_local_origin_success_rate: 0,
    max_ejection_percent: 100,
    interval: '1s',
    // Longer than two health checks take: ending sooner it would bring dead servers back for a moment.
    base_ejection_time: '5s',
    max_ejection_time: '5s',
  };
}

/** Another site's virtual IP; its health is what that site's status URI says. */
function remoteCluster(config: Config, pool: RemotePoolConfig): JsonObject {
  return {
    name: pool.cluster,
    ...endpoints(pool.cluster, pool.servers, config.envoy.version),
    // Envoy does not wait for another site's name before it serves this one.
    wait_for_warm_on_init: false,
    connect_timeout: CONNECT_TIMEOUT,
    ...poolDefaults(),
    health_checks: [
      {
        ...checkTiming(pool.healthCheck),
        // For lost packets and refused connections. The 503 of a site that is down takes it out at once.
        unhealthy_threshold: 2,
        http_health_check: {
          path: config.statusUri,
          host: healthCheckHost(pool),
          // A draining site says 503 to the world and 200 to a site that keeps its sessions.
          request_headers_to_add: [overwrite(HOP_HEADER, config.site)],
        },
      },
    ],
    ...httpOptions(HEADER_LIMITS, {
      // On a retry from the local pool, when the route that adds the header was not the one taken.
      request_mutations: [{ append: overwrite(HOP_HEADER, config.site) }],
      response_mutations: nothingOfEnvoysToObey(),
    }),
    ...(pool.tls === null ? {} : { transport_socket: upstreamTls(pool.cluster, pool.tls, config.envoy.secretsDir) }),
  };
}

/** HTTP/1.1 with answers as large as they come, and these changes of the headers. */
function httpOptions(limits: HeaderLimits, mutations?: JsonObject): JsonObject {
  const type = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
  return {
    typed_extension_protocol_options: {
      [type]: typed(type, {
        common_http_protocol_options: { max_headers_count: limits.count, max_response_headers_kb: limits.kb },
        explicit_http_config: { http_protocol_options: {} },
        ...(mutations === undefined ? {} : { http_filters: headerMutation(mutations) }),
      }),
    },
  };
}

function headerMutation(mutations: JsonObject): JsonObject[] {
  return [
    {
      name: 'envoy.filters.http.header_mutation',
      typed_config: typed('envoy.extensions.filters.http.header_mutation.v3.HeaderMutation', { mutations }),
    },
    {
      name: 'envoy.filters.http.upstream_codec',
      typed_config: typed('envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec'),
    },
  ];
}

function fallbackCluster(pool: RemotePoolConfig): JsonObject {
  return {
    name: withFallback(pool),
    connect_timeout: CONNECT_TIMEOUT,
    lb_policy: 'CLUSTER_PROVIDED',
    circuit_breakers: noLimits(),
    // Where an aggregate is the route's cluster its upstream filters run, and not those of the cluster that it picks.
    ...httpOptions(HEADER_LIMITS, { response_mutations: nothingOfEnvoysToObey() }),
    cluster_type: {
      name: 'envoy.clusters.aggregate',
      typed_config: typed('envoy.extensions.clusters.aggregate.v3.ClusterConfig', {
        clusters: [pool.cluster, STAND_IN],
      }),
    },
  };
}

/** Leads back into this Envoy, to the stand-in listener. It is always up: what no server here takes is a 503 there. */
function standInCluster(): JsonObject {
  return {
    name: STAND_IN,
    type: 'STATIC',
    circuit_breakers: noLimits(),
    // It adds the cookies that expire.
    ...httpOptions(HEADER_LIMITS_BEHIND_EDGE),
    load_assignment: {
      cluster_name: STAND_IN,
      endpoints: [
        {
          lb_endpoints: [{ endpoint: { address: { envoy_internal_address: { server_listener_name: STAND_IN } } } }],
        },
      ],
    },
  };
}

function sidecarCluster({ sidecars, sidecarTls, secretsDir, version }: EnvoyConfig): JsonObject {
  return {
    name: SIDECAR_CLUSTER,
    ...endpoints(SIDECAR_CLUSTER, sidecars, version),
    connect_timeout: '0.25s',
    // Not LEAST_REQUEST: a sidecar that just died has the fewest requests, and would draw the retries as well.
    lb_policy: 'ROUND_ROBIN',
    ...poolDefaults(),
    // A hung sidecar costs each request message_timeout until this takes it out; a stopping one says NOT_SERVING.
    health_checks: [
      {
        timeout: '0.5s',
        interval: '0.5s',
        no_traffic_interval: '0.5s',
        unhealthy_interval: '0.25s',
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        grpc_health_check: { service_name: EXT_PROC_SERVICE },
      },
    ],
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': typed(
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        { explicit_http_config: { http2_protocol_options: { max_concurrent_streams: MAX_CALLS_OF_CONNECTION } } },
      ),
    },
    ...(sidecarTls === null ? {} : { transport_socket: upstreamTls(SIDECAR_CLUSTER, sidecarTls, secretsDir, ['h2']) }),
  };
}

function poolDefaults(): JsonObject {
  return {
    common_lb_config: {
      // Never "panic": with no server up Envoy would send requests to servers that it knows are down.
      healthy_panic_threshold: { value: 0 },
      // By default Envoy's workers hear of a second change of health up to 1 s after the first: when two servers die
      // together, requests go on to the second for that long.
      update_merge_window: '0s',
    },
    circuit_breakers: noLimits(),
  };
}

function noLimits(): JsonObject {
  return {
    thresholds: [
      { max_connections: NO_LIMIT, max_pending_requests: NO_LIMIT, max_requests: NO_LIMIT, max_retries: NO_LIMIT },
    ],
  };
}

/** Checks as often with traffic as without, and at once again after a failure. */
function checkTiming({
  intervalMs,
  timeoutMs,
}: {
  readonly intervalMs: number;
  readonly timeoutMs: number;
}): JsonObject {
  const interval = formatProtoDuration(intervalMs);
  return {
    timeout: formatProtoDuration(timeoutMs),
    interval,
    no_traffic_interval: interval,
    unhealthy_edge_interval: formatProtoDuration(Math.min(intervalMs, 250)),
    healthy_threshold: 1,
  };
}

function endpoints(name: string, addresses: readonly Address[], version: EnvoyVersion): JsonObject {
  return {
    // Envoy's own default takes IPv6 where a name has both, though servers often listen on IPv4 alone.
    ...(needsDns(addresses)
      ? { type: 'STRICT_DNS', dns_lookup_family: keepsHostsWithoutDns(version) ? 'V4_PREFERRED' : 'V4_ONLY' }
      : { type: 'STATIC' }),
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: addresses.map((address) => ({ endpoint: { address: renderAddress(address) } })) }],
    },
  };
}

/** Whether some of the addresses have to be looked up. */
export function needsDns(addresses: readonly Address[]): boolean {
  return addresses.some((address) => address.kind === 'tcp' && !isIpAddress(address.host));
}

/** An address in Envoy's form. */
export function renderAddress(address: Address | TcpAddress): JsonObject {
  if (address.kind === 'unix') return { pipe: { path: address.path } };
  return { socket_address: { address: address.host, port_value: address.port } };
}

/** A header set to this value, whatever it was. */
export function overwrite(key: string, value: string): JsonObject {
  return { header: { key, value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' };
}
