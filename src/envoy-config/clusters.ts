import type { Config, EjectConfig, EnvoyConfig } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { MAX_CALLS_OF_CONNECTION } from '../ext-proc/max-calls.ts';
import { EXT_PROC_SERVICE } from '../ext-proc/service-name.ts';
import { CHECK_FAIL_HEADER, REFUSED_HEADER } from '../headers.ts';
import { canStandIn } from './can-stand-in.ts';
import { checkTiming, endpoints, noLimits, poolDefaults } from './cluster-parts.ts';
import { HEADER_LIMITS, HEADER_LIMITS_BEHIND_EDGE } from './header-limits.ts';
import { httpOptions } from './http-options.ts';
import { type JsonObject, typed } from './json.ts';
import { ANYWHERE, SIDECAR_CLUSTER, STAND_IN } from './names.ts';
import { aggregate, renderRemoteClusters, waysTo } from './remote-clusters.ts';
import { markServedElsewhere, markServedHere } from './served-here.ts';
import { upstreamTls } from './tls.ts';
import { hasPriorityGroups } from './versions.ts';

/** The pools, each remote pool's fallback, and the sidecars. */
export function renderClusters(config: Config): JsonObject[] {
  return [
    localCluster(config),
    ...renderRemoteClusters(config),
    standInCluster(),
    ...(canStandIn(config) ? [anywhereCluster(config)] : []),
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
    connect_timeout: formatProtoDuration(config.localPool.connectTimeoutMs),
    lb_policy: 'LEAST_REQUEST',
    ...poolDefaults(),
    health_checks: [{ ...checkTiming(healthCheck), unhealthy_threshold: 2, ...check }],
    ...httpOptions('http1', {
      limits: HEADER_LIMITS,
      // Before the server closes it: a request that meets that would be lost.
      idleTimeoutMs: config.localPool.idleTimeoutMs,
      mutations: { response_mutations: [...nothingToSteerBy(), markServedHere()] },
    }),
    ...outlierDetection(config),
  };
}

/**
 * An application's own refusal would be taken for a site's, and the request done again; its word that it fails its check
 * would take it out of the pool.
 */
function nothingToSteerBy(): JsonObject[] {
  return [{ remove: REFUSED_HEADER }, { remove: CHECK_FAIL_HEADER }];
}

function outlierDetection({ localPool, envoy }: Config): JsonObject {
  const dead = hasPriorityGroups(envoy.version) ? null : ejectDeadServers();
  const gray = localPool.eject === null ? null : ejectGrayServers(localPool.eject);
  return dead === null && gray === null ? {} : { outlier_detection: { ...DETECT_NOTHING, ...dead, ...gray } };
}

const DETECT_NOTHING = {
  split_external_local_origin_errors: true,
  enforcing_consecutive_5xx: 0,
  enforcing_consecutive_gateway_failure: 0,
  enforcing_consecutive_local_origin_failure: 0,
  enforcing_success_rate: 0,
  enforcing_local_origin_success_rate: 0,
};

/**
 * Where a retry can't leave the local pool, a server that refuses connections must be out before the health check
 * says so: until then each request that meets it is lost when all servers are dead.
 */
function ejectDeadServers(): JsonObject {
  return {
    consecutive_local_origin_failure: 1,
    enforcing_consecutive_local_origin_failure: 100,
    max_ejection_percent: 100,
    interval: '1s',
    // Longer than two health checks take: ending sooner it would bring dead servers back for a moment.
    base_ejection_time: '5s',
    max_ejection_time: '5s',
  };
}

/** A server that passes its health checks and serves nothing. Of all servers half stay, for it may be the application. */
function ejectGrayServers({ errors, forMs }: EjectConfig): JsonObject {
  return {
    consecutive_5xx: errors,
    enforcing_consecutive_5xx: 100,
    consecutive_local_origin_failure: errors,
    enforcing_consecutive_local_origin_failure: 100,
    max_ejection_percent: 50,
    interval: '1s',
    base_ejection_time: formatProtoDuration(forMs),
    max_ejection_time: formatProtoDuration(Math.max(forMs, 300_000)),
    // Its next good health check would bring it back.
    successful_active_health_check_uneject_host: false,
  };
}

/** Without a decision: here, and where no server here takes it at the first other site that does. */
function anywhereCluster(config: Config): JsonObject {
  const others = config.remotePools.flatMap((pool) => waysTo(config, pool));
  return aggregate(ANYWHERE, [STAND_IN, ...others], config);
}

/** Leads back into this Envoy, to the stand-in listener. It is always up: what no server here takes is a 503 there. */
function standInCluster(): JsonObject {
  return {
    name: STAND_IN,
    type: 'STATIC',
    circuit_breakers: noLimits(),
    // It adds the cookies that expire.
    ...httpOptions('http1', {
      limits: HEADER_LIMITS_BEHIND_EDGE,
      idleTimeoutMs: null,
      mutations: { response_mutations: [markServedElsewhere()] },
    }),
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
