import { isIpAddress } from '../config/address.ts';
import type { Application, RemotePoolConfig } from '../config/config.ts';
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
import { overHttp2, standIn, withFallback } from './names.ts';
import { hasHttp2Twin, remoteProtocol } from './protocols.ts';
import { markServedElsewhere } from './served-here.ts';
import { upstreamTls } from './tls.ts';
import { hasPriorityGroups } from './versions.ts';

/**
 * The clusters of the other sites. Connections to one that has fallen silent are closed: HTTP/2 has pings for it, and HTTP/1.1
 * goes through a cluster that closes.
 */
export function renderRemoteClusters(application: Application): JsonObject[] {
  return [
    ...application.remotePools.flatMap((pool) => [
      remoteCluster(application, pool),
      ...(hasHttp2Twin(application, pool) ? [http2Twin(application, pool)] : []),
      ...(closesOnSilence(application, pool) ? [closingCluster(application, pool)] : []),
    ]),
    ...(canStandIn(application) ? application.remotePools.map((pool) => fallbackCluster(application, pool)) : []),
  ];
}

/** The internal listeners through which HTTP/1.1 goes to other sites. */
export function renderRemoteListeners(application: Application): JsonObject[] {
  return application.remotePools
    .filter((pool) => closesOnSilence(application, pool))
    .map(({ cluster }) => renderClosingListener(cluster));
}

/**
 * Whether HTTP/1.1 may be spoken, to addresses. A site that is named has pings alone, and so needs HTTP/2: Envoy does health
 * checks on its main thread, where there are no internal listeners, and for those it takes no name to check instead.
 */
function closesOnSilence(application: Application, pool: RemotePoolConfig): boolean {
  return remoteProtocol(application, pool) !== 'http2' && pool.servers.every(({ host }) => isIpAddress(host));
}

/** Another site's virtual IP; its health is what that site's status URI says. */
function remoteCluster(application: Application, pool: RemotePoolConfig): JsonObject {
  const { cluster, servers } = pool;
  const protocol = remoteProtocol(application, pool);
  return {
    name: cluster,
    ...renderUpstream({
      ...{ name: cluster, cluster, servers, version: application.envoy.version },
      ...{ tls: remoteTls(application, pool), closes: closesOnSilence(application, pool) },
    }),
    ...common(),
    health_checks: [statusCheck(application, pool, protocol === 'http2' ? OVER_HTTP2 : {})],
    ...httpOptions(protocol, {
      limits: HEADER_LIMITS,
      pings: true,
      idleTimeoutMs: pool.idleTimeoutMs,
      mutations: mutations(application),
    }),
  };
}

/** The same site by HTTP/2, up where it speaks that. */
function http2Twin(application: Application, pool: RemotePoolConfig): JsonObject {
  const name = overHttp2(pool);
  return {
    name,
    ...endpoints(name, pool.servers, application.envoy.version),
    ...common(),
    health_checks: [
      {
        ...statusCheck(application, pool, OVER_HTTP2),
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
function statusCheck(application: Application, pool: RemotePoolConfig, more: JsonObject = {}): JsonObject {
  return {
    ...checkTiming(pool.healthCheck),
    // The same where requests go by the other protocol: Envoy then says of this cluster that it has no traffic.
    no_traffic_interval: formatProtoDuration(pool.healthCheck.intervalMs / 4),
    no_traffic_healthy_interval: formatProtoDuration(pool.healthCheck.intervalMs),
    // For lost packets and refused connections. The 503 of a site that is down takes it out at once.
    unhealthy_threshold: pool.healthCheck.unhealthy,
    ...alpnOfCheck('codec_client_type' in more, pool.tls),
    http_health_check: {
      path: application.statusUri,
      host: healthCheckHost(application, pool),
      // A draining site says 503 to the world and 200 to a site that keeps its sessions.
      request_headers_to_add: [overwrite(HOP_HEADER, application.site)],
      ...more,
    },
  };
}

function mutations(application: Application): JsonObject {
  return {
    // On a retry from the local pool, when the route that adds the header was not the one taken.
    request_mutations: [{ append: overwrite(HOP_HEADER, application.site) }],
    response_mutations: [...OBEYED_OF_OTHER_SITES.map((header) => ({ remove: header })), markServedElsewhere()],
  };
}

function remoteTls(application: Application, { cluster, tls }: RemotePoolConfig): JsonObject | null {
  return tls === null ? null : upstreamTls(cluster, tls, application.envoy.secretsDir);
}

function closingCluster(application: Application, pool: RemotePoolConfig): JsonObject {
  const check = {
    healthCheck: statusCheck(application, pool, { expected_statuses: ANY_STATUS }),
    timing: pool.healthCheck,
    unhealthy: pool.healthCheck.unhealthy,
    tls: remoteTls(application, pool),
  };
  return renderClosingCluster(pool, check, common());
}

/** The site, or this one where that can't be reached or refuses, and then any other. */
function fallbackCluster(application: Application, pool: RemotePoolConfig): JsonObject {
  const others = application.remotePools.filter((other) => other !== pool);
  return aggregate(
    withFallback(pool),
    [
      ...waysTo(application, pool),
      standIn(application),
      // With priority groups the route itself goes on to the other sites.
      ...(hasPriorityGroups(application.envoy.version) ? [] : others.flatMap((other) => waysTo(application, other))),
    ],
    application,
  );
}

/** The clusters that lead to a site, the better one first. */
export function waysTo(application: Application, pool: RemotePoolConfig): string[] {
  return hasHttp2Twin(application, pool) ? [overHttp2(pool), pool.cluster] : [pool.cluster];
}

/** The first of these clusters that is up; a retry goes to the next. */
export function aggregate(name: string, clusters: readonly string[], application: Application): JsonObject {
  return {
    name,
    connect_timeout: CONNECT_TIMEOUT,
    lb_policy: 'CLUSTER_PROVIDED',
    circuit_breakers: noLimits(),
    // Where an aggregate is the route's cluster its upstream filters run, and not those of the cluster that it picks.
    ...httpOptions('http1', { limits: HEADER_LIMITS, idleTimeoutMs: null, mutations: mutations(application) }),
    cluster_type: {
      name: 'envoy.clusters.aggregate',
      typed_config: typed('envoy.extensions.clusters.aggregate.v3.ClusterConfig', { clusters }),
    },
  };
}
