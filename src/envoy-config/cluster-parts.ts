import { type Address, isIpAddress, type LocalServer, type TcpAddress } from '../config/address.ts';
import type { EnvoyVersion, TlsConfig } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import { type JsonObject, typed } from './json.ts';
import { keepsHostsWithoutDns } from './versions.ts';

// What clusters have in common.

/** A SYN that got lost is sent again after 1 s: a shorter time-out would make one lost packet a failover. */
export const CONNECT_TIMEOUT = '2.5s';

/** High enough to be no limit: what Envoy refuses here is a request lost, or a decision skipped. */
const NO_LIMIT = 1_000_000;

/** @param balancing more of the load balancing */
export function poolDefaults(balancing: JsonObject = {}): JsonObject {
  return {
    common_lb_config: {
      // Never "panic": with no server up Envoy would send requests to servers that it knows are down.
      healthy_panic_threshold: { value: 0 },
      // By default Envoy's workers hear of a second change of health up to 1 s after the first: when two servers die
      // together, requests go on to the second for that long.
      update_merge_window: '0s',
      ...balancing,
    },
    circuit_breakers: noLimits(),
  };
}

export function noLimits(): JsonObject {
  return {
    thresholds: [
      { max_connections: NO_LIMIT, max_pending_requests: NO_LIMIT, max_requests: NO_LIMIT, max_retries: NO_LIMIT },
    ],
  };
}

/** After a failure it is asked again at once, so that verdicts come by the time-out alone. No interval is shorter. */
export const EDGE_INTERVAL_MS = 100;

/** For an HTTP health check of what speaks HTTP/2 only. */
export const OVER_HTTP2 = { codec_client_type: 'HTTP2' };

/** Beside it, over TLS: servers take HTTP/2 by ALPN, which Envoy's health checks do not offer by themselves. */
export function alpnOfCheck(isHttp2: boolean, tls: TlsConfig | null): JsonObject {
  return isHttp2 && tls !== null ? { tls_options: { alpn_protocols: ['h2'] } } : {};
}

/** For an HTTP health check that any answer satisfies. */
export const ANY_STATUS = [{ start: 100, end: 600 }];

export interface CheckTiming {
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

/** Checks as often with traffic as without, and at once again after a failure. */
export function checkTiming({ intervalMs, timeoutMs }: CheckTiming): JsonObject {
  const interval = formatProtoDuration(intervalMs);
  return {
    timeout: formatProtoDuration(timeoutMs),
    interval,
    no_traffic_interval: interval,
    unhealthy_edge_interval: formatProtoDuration(EDGE_INTERVAL_MS),
    healthy_threshold: 1,
  };
}

/** The servers of a cluster. @param isLeft see {@link REFUSES} */
export function loadAssignment(cluster_name: string, lb_endpoints: readonly JsonObject[], isLeft = false): JsonObject {
  const servers = { lb_endpoints };
  if (!isLeft) return { cluster_name, endpoints: [servers] };
  return {
    cluster_name,
    endpoints: [servers, { priority: 1, lb_endpoints: [REFUSES] }],
    // One healthy server takes all that comes, of however many.
    policy: { overprovisioning_factor: 1_000_000 },
  };
}

/**
 * Taken when no server is healthy: it refuses each connection, which Envoy retries, and the retry may lead out of the cluster.
 * Without it Envoy answers 503 at once, without a retry. Nothing can listen on port 0.
 */
const REFUSES: JsonObject = {
  health_status: 'DEGRADED',
  endpoint: {
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    health_check_config: { disable_active_health_check: true },
  },
};

/** @param isLeft whether a retry leaves the cluster when no server is healthy */
export function endpoints(
  name: string,
  addresses: readonly (Address | LocalServer)[],
  version: EnvoyVersion,
  isLeft = false,
): JsonObject {
  const servers = addresses.map((address) => ({ endpoint: { address: renderAddress(address) }, ...drained(address) }));
  return {
    ...(needsDns(addresses) ? lookUps(version) : {}),
    load_assignment: loadAssignment(name, servers, isLeft),
  };
}

/** What keeps new sessions away from a server that drains; its own reach it by {@link STICKY_STATUSES}. */
export function drained(server: Address | LocalServer): JsonObject {
  return 'drain' in server && server.drain ? { health_status: 'DRAINING' } : {};
}

/** Envoy's own, by which a stickiness cookie is obeyed, and DRAINING. A server whose health check fails has none of these. */
export const STICKY_STATUSES = ['UNKNOWN', 'HEALTHY', 'DEGRADED', 'DRAINING'];

/** Each address of a name is a server (Envoy's STRICT_DNS, whose own fields for the times are deprecated). */
function lookUps(version: EnvoyVersion): JsonObject {
  return {
    cluster_type: {
      name: 'envoy.clusters.dns',
      typed_config: typed('envoy.extensions.clusters.dns.v3.DnsCluster', {
        // Envoy's own default takes IPv6 where a name has both, though servers often listen on IPv4 alone.
        dns_lookup_family: keepsHostsWithoutDns(version) ? 'V4_PREFERRED' : 'V4_ONLY',
        // An address that moves is known within 6 s, whatever the TTL, and not all names are looked up at one moment.
        dns_refresh_rate: '5s',
        dns_jitter: '1s',
        // What failed is tried again sooner.
        dns_failure_refresh_rate: { base_interval: '1s', max_interval: '5s' },
      }),
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
