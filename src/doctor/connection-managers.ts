import { at, isTrueAt, listAt, textAt, typeOf } from './json.ts';

/** A filter of a connection manager, with its config wherever that came from. */
export interface HttpFilter {
  /** Chosen by the operator; what a route's `typed_per_filter_config` must be called by. */
  readonly name: string;
  /** Without `type.googleapis.com/`; empty where its config has not come yet. */
  readonly type: string;
  readonly config: unknown;
  /** The match tree that may skip it; undefined where there is none. */
  readonly matcher: unknown;
  /** Only routes that switch it on have it. */
  readonly isDisabled: boolean;
}

/** An HTTP connection manager of an open listener. */
export interface ConnectionManager {
  /** `listener edge`, with the filter chain where there are several. */
  readonly label: string;
  readonly listener: string;
  /** Reached from within this Envoy only. */
  readonly isInternal: boolean;
  readonly config: unknown;
  readonly filters: readonly HttpFilter[];
  /** Undefined where it is not to be seen, for which `unread` has the reason. */
  readonly routeConfig: unknown;
  readonly unread: readonly string[];
}

const CONNECTION_MANAGER = /^envoy\.extensions\.filters\.network\.http_connection_manager\.v3\.HttpConnectionManager$/;
const WITH_MATCHER = 'envoy.extensions.common.matching.v3.ExtensionWithMatcher';

/**
 * Every connection manager of these listeners.
 * @param routeConfigs what came by RDS, by name
 * @param extensions filters that came by ECDS, by name
 */
export function readConnectionManagers(
  listeners: readonly unknown[],
  routeConfigs: ReadonlyMap<string, unknown>,
  extensions: ReadonlyMap<string, unknown>,
): ConnectionManager[] {
  return listeners.flatMap((listener) => {
    const name = textAt(listener, 'name') ?? '(no name)';
    const found = connectionManagersOf(listener);
    return found.map(({ config, chain }) => {
      const filters = listAt(config, 'http_filters').map((filter) => readFilter(filter, extensions));
      const routes = readRouteConfig(config, routeConfigs);
      return {
        label: found.length > 1 ? `listener ${name}, ${chain}` : `listener ${name}`,
        listener: name,
        isInternal: at(listener, 'internal_listener') !== undefined,
        config,
        filters,
        routeConfig: routes.config,
        unread: [
          ...routes.unread,
          ...filters.filter((filter) => filter.type === '').map((filter) => `the config of filter ${filter.name}`),
        ],
      };
    });
  });
}

function connectionManagersOf(listener: unknown): { config: unknown; chain: string }[] {
  const chains = [...listAt(listener, 'filter_chains')];
  const fallback = at(listener, 'default_filter_chain');
  if (fallback !== undefined) chains.push(fallback);
  const configs = chains.flatMap((chain, index) =>
    listAt(chain, 'filters').map((filter) => ({
      config: at(filter, 'typed_config'),
      chain: `filter chain ${textAt(chain, 'name') ?? index + 1}`,
    })),
  );
  configs.push({ config: at(listener, 'api_listener', 'api_listener'), chain: 'API listener' });
  return configs.filter(({ config }) => CONNECTION_MANAGER.test(typeOf(config) ?? ''));
}

function readFilter(filter: unknown, extensions: ReadonlyMap<string, unknown>): HttpFilter {
  const name = textAt(filter, 'name') ?? '(no name)';
  const discovered = at(filter, 'config_discovery');
  let config = at(filter, 'typed_config');
  if (discovered !== undefined) config = extensions.get(name) ?? at(discovered, 'default_config');
  const matcher = typeOf(config) === WITH_MATCHER ? at(config, 'xds_matcher') : undefined;
  config = withoutMatcher(config);
  return { name, type: typeOf(config) ?? '', config, matcher, isDisabled: isTrueAt(filter, 'disabled') };
}

/** A filter's own config, where that stands behind a match tree as well. */
export function withoutMatcher(config: unknown): unknown {
  return typeOf(config) === WITH_MATCHER ? at(config, 'extension_config', 'typed_config') : config;
}

function readRouteConfig(
  manager: unknown,
  routeConfigs: ReadonlyMap<string, unknown>,
): { config: unknown; unread: string[] } {
  const inline = at(manager, 'route_config');
  if (inline !== undefined) return { config: inline, unread: notesOn(inline) };
  const name = textAt(manager, 'rds', 'route_config_name');
  if (name !== undefined) {
    const config = routeConfigs.get(name);
    return config === undefined
      ? { config, unread: [`routes ${name}, which have not come over RDS`] }
      : { config, unread: notesOn(config) };
  }
  return { config: undefined, unread: ['scoped routes, of which it depends on the request which apply'] };
}

function notesOn(routeConfig: unknown): string[] {
  const notes = at(routeConfig, 'vhds') === undefined ? [] : ['virtual hosts that come by VHDS, on demand'];
  for (const host of listAt(routeConfig, 'virtual_hosts')) {
    if (at(host, 'matcher') !== undefined) notes.push(`the match tree of virtual host ${textAt(host, 'name')}`);
  }
  return notes;
}
