import { type JsonObject, typed } from './json.ts';

/** A listener that only this Envoy itself connects to. @param filter what takes its connections */
export function internalListener(name: string, filter: JsonObject): JsonObject {
  return { name, internal_listener: {}, filter_chains: [{ filters: [filter] }] };
}

export function connectionManagerFilter(settings: JsonObject): JsonObject {
  return {
    name: 'envoy.filters.network.http_connection_manager',
    typed_config: typed('envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager', settings),
  };
}
