import { type Address, isIpAddress, type TcpAddress } from '../config/address.ts';
import type { EnvoyVersion, TlsConfig } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import type { JsonObject } from './json.ts';
import { keepsHostsWithoutDns } from './versions.ts';

// What clusters have in common.

/** A SYN that got lost is sent again after 1 s: a shorter time-out would make one lost packet a failover. */
export const CONNECT_TIMEOUT = '2.5s';

/** High enough to be no limit: what Envoy refuses here is a request lost, or a decision skipped. */
const NO_LIMIT = 1_000_000;

export function poolDefaults(): JsonObject {
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

export function endpoints(name: string, addresses: readonly Address[], version: EnvoyVersion): JsonObject {
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
