import { isIpAddress } from '../config/address.ts';
import type { Config, RemotePoolConfig } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { HOP_HEADER, OBEYED_OF_OTHER_SITES } from '../contract.ts';
import { canStandIn } from './can-stand-in.ts';
import { closingThreshold, renderClosingCluster, renderClosingListener, renderUpstream } from './closing-cluster.ts';
import {
  ANY_STATUS,
  alpnOfCheck,
  CONNECT_TIMEOUT,
  checkTiming,
  endpoints,
  noLimits,
  OVER_HTTP2,
  overwrite,
  poolDefaults,
} from './cluster-parts.ts';
import { HEADER_LIMITS } from './header-limits.ts';
import { healthCheckHost } from './health-check.ts';
import { httpOptions } from './http-options.ts';
import { type JsonObject, typed } from './json.ts';
import { overHttp2, STAND_IN, withFallback } from './names.ts';
import { hasHttp2Twin, remoteProtocol } from './protocols.ts';
import { markServedElsewhere } from './served-here.ts';
import { upstreamTls } from './tls.ts';
import { hasPriorityGroups } from './versions.ts';

/**
 * The clusters of the other sites. Connections to one that has fallen silent are closed: HTTP/2 has pings for it, and HTTP/1.1
 * goes through a cluster that closes.
 */
export function renderRemoteClusters(config: Config): JsonObject[] {
  return [
    ...config.remotePools.flatMap((pool) => [
      remoteCluster(config, pool),
      ...(hasHttp2Twin(config, pool) ? [http2Twin(config, pool)] : []),
      ...(closesOnSilence(config, pool) ? [closingCluster(config, pool)] : []),
    ]),
    ...(canStandIn(config) ? config.remotePools.map((pool) => fallbackCluster(config, pool)) : []),
  ];
}

/** The internal listeners through which HTTP/1.1 goes to other sites. */
export function renderRemoteListeners(config: Config): JsonObject[] {
  return config.remotePools
    .filter((pool) => closesOnSilence(config, pool))
    .map(({ cluster }) => renderClosingListener(cluster));
}

/**
 * Whether HTTP/1.1 may be spoken, to addresses. A site that is named has pings alone, and so needs HTTP/2: Envoy does health
 * checks on its main thread, where there are no internal listeners, and for those it takes no name to check instead.
 */
function closesOnSilence(config: Config, pool: RemotePoolConfig): boolean {
  return remoteProtocol(config, pool) !== 'http2' && pool.servers.every(({ host }) => isIpAddress(host));
}

/** Another site's virtual IP; its health is what that site's status URI says. */
function remoteCluster(config: Config, pool: RemotePoolConfig): JsonObject {
  const { cluster, servers } = pool;
  const protocol = remoteProtocol(config, pool);
  return {
    name: cluster,
    ...renderUpstream({
      ...{ name: cluster, cluster, servers, version: config.envoy.version },
      ...{ tls: remoteTls(config, pool), closes: closesOnSilence(config, pool) },
    }),
    ...common(),
    health_checks: [statusCheck(config, pool, protocol === 'http2' ? OVER_HTTP2 : {})],
    ...httpOptions(protocol, {
      limits: HEADER_LIMITS,
      pings: true,
      idleTimeoutMs: pool.idleTimeoutMs,
      mutations: mutations(config),
    }),
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
        unhealthy_threshold: closingThreshold(pool.healthCheck.unhealthy, pool.healthCheck),
        // A site that speaks HTTP/1.1 only is not to be asked each second.
        unhealthy_interval: '10s',
        no_traffic_interval: '10s',
      },
    ],
    ...httpOptions('http2', { limits: HEADER_LIMITS, pings: true, idleTimeoutMs: pool.idleTimeoutMs }),
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
    // The same where requests go by the other protocol: Envoy then says of this cluster that it has no traffic.
    no_traffic_interval: formatProtoDuration(pool.healthCheck.intervalMs / 4),
    no_traffic_healthy_interval: formatProtoDuration(pool.healthCheck.intervalMs),
    // For lost packets and refused connections. The 503 of a site that is down takes it out at once.
    unhealthy_threshold: pool.healthCheck.unhealthy,
    ...alpnOfCheck('codec_client_type' in more, pool.tls),
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

function remoteTls(config: Config, { cluster, tls }: RemotePoolConfig): JsonObject | null {
  return tls === null ? null : upstreamTls(cluster, tls, config.envoy.secretsDir);
}

function closingCluster(config: Config, pool: RemotePoolConfig): JsonObject {
  const check = {
    healthCheck: statusCheck(config, pool, { expected_statuses: ANY_STATUS }),
    timing: pool.healthCheck,
    unhealthy: pool.healthCheck.unhealthy,
    tls: remoteTls(config, pool),
  };
  return renderClosingCluster(pool, check, common());
}

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
