import type { EnvoyConfig } from '../config/config.ts';
import { type JsonObject, typed } from './json.ts';

const HEAP = 'envoy.resource_monitors.fixed_heap';

/** For a listener, or the admin interface, that is served also when clients have taken all their connections. */
export const OUTSIDE_CONNECTION_LIMIT = { ignore_global_conn_limit: true };

/**
 * Envoy closes connections and refuses requests before the machine's memory ends, and with it the site.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge
 */
export function renderOverloadManager({ limits: { connections, heapBytes } }: EnvoyConfig): JsonObject {
  const connectionMonitor = {
    name: 'envoy.resource_monitors.global_downstream_max_connections',
    typed_config: typed('envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig', {
      max_active_downstream_connections: connections,
    }),
  };
  if (heapBytes === null) return { resource_monitors: [connectionMonitor] };
  const heapMonitor = {
    name: HEAP,
    typed_config: typed('envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig', {
      max_heap_size_bytes: heapBytes,
    }),
  };
  return {
    refresh_interval: '0.25s',
    resource_monitors: [connectionMonitor, heapMonitor],
    actions: [
      // Freed memory goes back to the system.
      actionFrom('envoy.overload_actions.shrink_heap', 0.95),
      actionFrom('envoy.overload_actions.stop_accepting_requests', 0.98),
    ],
  };
}

/** @param share of the heap that is in use */
function actionFrom(name: string, share: number): JsonObject {
  return { name, triggers: [{ name: HEAP, threshold: { value: share } }] };
}
