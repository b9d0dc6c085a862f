import type { Application, EjectConfig, LocalProtocol } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { CHECK_FAIL_HEADER, REFUSED_HEADER } from '../contract.ts';
import { renderClosingCluster, renderClosingListener, renderUpstream } from './closing-cluster.ts';
import { ANY_STATUS, alpnOfCheck, checkTiming, OVER_HTTP2, poolDefaults, STICKY_STATUSES } from './cluster-parts.ts';
import { HEADER_LIMITS } from './header-limits.ts';
import { httpOptions } from './http-options.ts';
import type { JsonObject } from './json.ts';
import { orElsewhere, overHttp1 } from './names.ts';
import { canLeave } from './route-parts.ts';
import { markServedHere } from './served-here.ts';
import { upstreamTls } from './tls.ts';
import { hasPriorityGroups } from './versions.ts';

/** The clusters of the servers of this site. */
export function renderLocalClusters(application: Application): JsonObject[] {
  const { localPool } = application;
  return [
    localCluster(application, localPool.cluster, localPool.protocol),
    ...(localPool.protocol === 'downstream' ? [localCluster(application, overHttp1(localPool), 'http1')] : []),
    // A cluster of its own, because its gauges count one server more.
    ...(canLeave(application) ? [localCluster(application, orElsewhere(localPool), localPool.protocol)] : []),
    ...(localPool.closeWhenDown ? [closingCluster(application)] : []),
  ];
}

/** The internal listener through which they are reached with `local_pool.close_when_down`. */
export function renderLocalListeners({ localPool }: Application): JsonObject[] {
  return localPool.closeWhenDown ? [renderClosingListener(localPool.cluster)] : [];
}

function localCluster(application: Application, name: string, protocol: LocalProtocol): JsonObject {
  const { localPool, envoy } = application;
  const { cluster, servers, closeWhenDown: closes } = localPool;
  return {
    name,
    ...renderUpstream({
      ...{ name, cluster, servers, version: envoy.version, tls: localTls(application), closes },
      isLeft: name === orElsewhere(localPool),
    }),
    connect_timeout: formatProtoDuration(localPool.connectTimeoutMs),
    lb_policy: 'LEAST_REQUEST',
    // Always, so that to drain a server changes the endpoints alone.
    ...poolDefaults({ override_host_status: { statuses: STICKY_STATUSES } }),
    health_checks: [
      {
        ...healthCheck(application, expectedAnswer(application)),
        // Servers are not all asked at one moment. Not beside a closing cluster: its check must not be the first to fail.
        ...(closes ? {} : { interval_jitter_percent: 10 }),
      },
    ],
    ...httpOptions(protocol, {
      limits: HEADER_LIMITS,
      // Before the server closes it: a request that meets that would be lost.
      idleTimeoutMs: localPool.idleTimeoutMs,
      mutations: { response_mutations: [...nothingToSteerBy(), markServedHere()] },
    }),
    ...outlierDetection(application),
  };
}

/** So many failures in a row: one might be a lost packet. */
const DOWN_AFTER = 2;

/** Closes what is open to a server that its health check has condemned. */
function closingCluster(application: Application): JsonObject {
  const { localPool } = application;
  const check = {
    healthCheck: healthCheck(application, { expected_statuses: ANY_STATUS }),
    timing: localPool.healthCheck,
    unhealthy: DOWN_AFTER,
    tls: localTls(application),
  };
  const settings = { connect_timeout: formatProtoDuration(localPool.connectTimeoutMs), ...poolDefaults() };
  return renderClosingCluster(localPool, check, settings);
}

function localTls({ localPool, envoy }: Application): JsonObject | null {
  return localPool.tls === null ? null : upstreamTls(localPool.cluster, localPool.tls, envoy.secretsDir);
}

/** @param more of the HTTP check */
function healthCheck({ localPool }: Application, more: JsonObject): JsonObject {
  const { path, host, ...timing } = localPool.healthCheck;
  const isHttp2 = localPool.protocol === 'http2';
  return {
    ...checkTiming(timing),
    unhealthy_threshold: DOWN_AFTER,
    ...(path === null
      ? { tcp_health_check: {} }
      : {
          http_health_check: { path, host, ...more, ...(isHttp2 ? OVER_HTTP2 : {}) },
          ...alpnOfCheck(isHttp2, localPool.tls),
        }),
  };
}

function expectedAnswer({ localPool }: Application): JsonObject {
  return {
    expected_statuses: localPool.healthCheck.expect.map(([start, last]) => ({ start, end: last + 1 })),
    // An unexpected status counts towards unhealthy_threshold instead of taking the server out at once.
    retriable_statuses: [{ start: 500, end: 600 }],
  };
}

/**
 * An application's own refusal would be taken for a site's, and the request done again; its word that it fails its check
 * would take it out of the pool.
 */
function nothingToSteerBy(): JsonObject[] {
  return [{ remove: REFUSED_HEADER }, { remove: CHECK_FAIL_HEADER }];
}

function outlierDetection({ localPool, envoy }: Application): JsonObject {
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
