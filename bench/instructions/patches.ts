import {
  type Bootstrap,
  bootstrapSchema,
  connectionManagers,
  EXT_PROC,
  type Route,
  SIDECAR_CLUSTER,
  type VirtualHost,
} from '../bootstrap.ts';

/** From a site's rendered bootstrap, in place, to the one that is measured. */
export type Patch = (bootstrap: Bootstrap) => void;

/** Where requests go, by the names of the routes that lead there. */
export interface Way {
  /** Takes them without the sidecar; a config may have none. */
  readonly steady: RegExp;
  /** Takes what the sidecar has decided. */
  readonly decided: RegExp;
}

const EDGE = 'edge';
const DISABLED = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', disabled: true };
const DECIDING_FILTERS = [EXT_PROC, 'envoy.filters.http.health_check'];

/** The least that a proxy can do: a connection manager, a route, a cluster. */
export function bare(bootstrap: Bootstrap): void {
  const { static_resources } = bootstrap;
  static_resources.listeners = static_resources.listeners.filter(({ name }) => name === EDGE);
  for (const chain of static_resources.listeners.flatMap(({ filter_chains }) => filter_chains)) {
    chain.filters = chain.filters.map(({ name, typed_config }) => ({
      name,
      typed_config: {
        ...('@type' in typed_config ? { '@type': typed_config['@type'] } : {}),
        stat_prefix: EDGE,
        http_filters: connectionManagers(bootstrap)
          .flatMap(({ http_filters }) => http_filters)
          .filter((filter) => filter.name === 'envoy.filters.http.router'),
        route_config: {
          virtual_hosts: [
            {
              name: 'application',
              domains: ['*'],
              routes: [{ match: { prefix: '/' }, route: { cluster: 'local_pool' } }],
            },
          ],
        },
      },
    }));
  }
  static_resources.clusters = static_resources.clusters
    .filter(({ name }) => name === 'local_pool')
    .map(({ name, load_assignment }) => ({ name, load_assignment }));
}

/**
 * Everything as it is, but all requests take one route: there is no other, no filter decides anything, and the route's
 * requests are not counted apart.
 */
export function withoutChoice(way: Way): Patch {
  return (bootstrap) => {
    const disabled = Object.fromEntries(DECIDING_FILTERS.map((name) => [name, DISABLED]));
    for (const host of hostsOfEdge(bootstrap)) {
      const { typed_per_filter_config, stat_prefix, ...route } = routeOf(host.routes, way);
      host.routes = [
        { ...route, match: { prefix: '/' }, typed_per_filter_config: { ...typed_per_filter_config, ...disabled } },
      ];
    }
  };
}

/** Whether the sidecar is not asked for what goes this way. */
export function isSteady(bootstrap: Bootstrap, { steady }: Way): boolean {
  return hostsOfEdge(bootstrap).some(({ routes }) => routes.some(({ name }) => steady.test(name)));
}

/** The first of its name, which is that for GET. */
function routeOf(routes: readonly Route[], { steady, decided }: Way): Route {
  const found = [steady, decided].flatMap((name) => routes.filter((route) => name.test(route.name)))[0];
  if (found === undefined) throw new Error(`no route is named ${steady} or ${decided}`);
  return found;
}

function hostsOfEdge(bootstrap: Bootstrap): VirtualHost[] {
  return connectionManagers(bootstrap, EDGE).flatMap(({ route_config }) => route_config.virtual_hosts);
}

/** What Envoy does by the clock is too late under valgrind, or falls on requests that have nothing to do with it. */
export function withoutHurry(bootstrap: Bootstrap): void {
  const patient: unknown = JSON.parse(JSON.stringify(bootstrap), (key, value: unknown) => {
    if (key === 'connection_keepalive') return undefined;
    if (key === 'message_timeout') return '60s';
    if (typeof value === 'object' && value !== null && 'grpc_health_check' in value)
      return { ...value, timeout: '30s' };
    return value;
  });
  bootstrap.static_resources = bootstrapSchema.parse(patient).static_resources;
  // They are half of what a worker does without requests.
  const seldom = { miss_timeout: '600s', megamiss_timeout: '600s' };
  bootstrap.watchdogs = { main_thread_watchdog: seldom, worker_watchdog: seldom };
}

/** Whether it asks a sidecar. */
export function hasSidecar(bootstrap: Bootstrap): boolean {
  return bootstrap.static_resources.clusters.some(({ name }) => name === SIDECAR_CLUSTER);
}
