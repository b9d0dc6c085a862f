import { formatAddress, type LocalServer, type TcpAddress } from '../config/address.ts';
import type { EnvoyVersion } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import {
  type CheckTiming,
  drained,
  EDGE_INTERVAL_MS,
  endpoints,
  loadAssignment,
  renderAddress,
} from './cluster-parts.ts';
import { internalListener } from './internal-listener.ts';
import { type JsonObject, typed } from './json.ts';
import { closingCluster } from './names.ts';

/**
 * Servers whose connections are closed when they fall silent.
 *
 * A link that drops packets and a server that hangs leave connections open on which nothing comes any more, and Envoy's HTTP
 * pools never close those: a health check that fails only keeps new requests away. TCP clusters do close them
 * (`close_connections_on_host_health_failure`). So each connection of the HTTP cluster leads through an internal listener
 * to the same server in such a TCP cluster. Listener and cluster have one name.
 */
export interface ClosedServers {
  /** The HTTP cluster. */
  readonly cluster: string;
  /** Addresses only: an internal listener's health check takes no name. */
  readonly servers: readonly (TcpAddress | LocalServer)[];
}

/** What an HTTP cluster of such servers leads to; its health check goes straight to them. */
export interface Upstream extends ClosedServers {
  /** The HTTP cluster's own name, where several lead to the same servers. */
  readonly name: string;
  readonly version: EnvoyVersion;
  /** Null: clear text. */
  readonly tls: JsonObject | null;
  /** Whether what is open to a silent server is to be closed. */
  readonly closes: boolean;
  /** Whether a retry leaves the cluster when no server is healthy. */
  readonly isLeft?: boolean;
}

/** The endpoints and the transport of an HTTP cluster. */
export function renderUpstream(upstream: Upstream): JsonObject {
  const { name, servers, version, tls, closes, isLeft = false } = upstream;
  if (closes) {
    return { ...endpointsThroughListener(upstream), transport_socket: transportThroughListener(tls) };
  }
  return { ...endpoints(name, servers, version, isLeft), ...(tls === null ? {} : { transport_socket: tls }) };
}

function endpointsThroughListener({ name, cluster, servers, isLeft = false }: Upstream): JsonObject {
  const through = servers.map((server) => {
    const endpoint = {
      address: {
        envoy_internal_address: {
          server_listener_name: closingCluster(cluster),
          // What the admin interface shows, and the stickiness cookie names.
          endpoint_id: formatAddress(server),
        },
      },
      health_check_config: { address: renderAddress(server) },
    };
    // Of the two clusters this one alone: the other takes whatever comes through it.
    return { ...serverOf(server, endpoint), ...drained(server) };
  });
  return { load_assignment: loadAssignment(name, through, isLeft) };
}

/** Tells the listener which server it is. @param inner TLS, which goes on to the server */
function transportThroughListener(inner: JsonObject | null): JsonObject {
  const raw = {
    name: 'envoy.transport_sockets.raw_buffer',
    typed_config: typed('envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer'),
  };
  return {
    name: 'envoy.transport_sockets.internal_upstream',
    typed_config: typed('envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport', {
      passthrough_metadata: [{ kind: { host: {} }, name: SUBSET_NAMESPACE }],
      transport_socket: inner ?? raw,
    }),
  };
}

export function renderClosingListener(cluster: string): JsonObject {
  const name = closingCluster(cluster);
  return internalListener(name, {
    name: 'envoy.filters.network.tcp_proxy',
    typed_config: typed('envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', {
      stat_prefix: name,
      cluster: name,
      // The HTTP connection that leads here has its own.
      idle_timeout: '0s',
    }),
  });
}

/**
 * After so many failures the closing cluster condemns a server, and never before the HTTP cluster, whose check has the same
 * interval and time-out and may begin a whole interval later: a retry would come to the same server, and what is opened to one
 * that is condemned already is not closed.
 */
export function closingThreshold(unhealthy: number, { intervalMs, timeoutMs }: CheckTiming): number {
  return unhealthy + Math.floor(intervalMs / (timeoutMs + EDGE_INTERVAL_MS)) + 1;
}

/** The check of a closing cluster, beside that of its HTTP cluster. */
export interface ClosingCheck {
  /**
   * As the HTTP cluster's, but with any answer for alive, so that only silence closes what is open: a server that says
   * "unhealthy" before it stops still answers what it has.
   */
  readonly healthCheck: JsonObject;
  readonly timing: CheckTiming;
  /** After so many failures the HTTP cluster condemns a server. */
  readonly unhealthy: number;
  /** TLS for the check alone: what comes through has been encrypted before. Null: clear text. */
  readonly tls: JsonObject | null;
}

/** @param settings of the cluster: connect time-out, limits */
export function renderClosingCluster(
  { cluster, servers }: ClosedServers,
  { healthCheck, timing, unhealthy, tls }: ClosingCheck,
  settings: JsonObject,
): JsonObject {
  const name = closingCluster(cluster);
  const check = {
    ...healthCheck,
    unhealthy_threshold: closingThreshold(unhealthy, timing),
    // More often, so that its further failures take no longer.
    interval: formatProtoDuration(timing.intervalMs / 2),
  };
  return {
    name,
    load_assignment: loadAssignment(
      name,
      servers.map((server) => serverOf(server, { address: renderAddress(server) })),
    ),
    ...settings,
    // Whether to come here at all is the HTTP cluster's decision; this one may not have checked yet.
    common_lb_config: { healthy_panic_threshold: { value: 100 } },
    close_connections_on_host_health_failure: true,
    lb_subset_config: {
      fallback_policy: 'NO_FALLBACK',
      subset_selectors: [{ keys: [SERVER_KEY], single_host_per_subset: true }],
    },
    health_checks: [{ ...check, ...(tls === null ? {} : { transport_socket_match_criteria: OF_CHECK }) }],
    ...(tls === null ? {} : { transport_socket_matches: [{ name: 'check', match: OF_CHECK, transport_socket: tls }] }),
  };
}

/** Where a tcp_proxy looks for what its connection asks of the subset load balancer. */
const SUBSET_NAMESPACE = 'envoy.lb';
const SERVER_KEY = 'server';
const OF_CHECK = { check: true };

/** With what the subset load balancer tells it by. */
function serverOf(server: TcpAddress, endpoint: JsonObject): JsonObject {
  return { endpoint, metadata: { filter_metadata: { [SUBSET_NAMESPACE]: { [SERVER_KEY]: formatAddress(server) } } } };
}
