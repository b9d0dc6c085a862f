import { applicationsOf, type Config, ENVOY_VERSIONS, type EnvoyVersion, isOneForEveryHost } from '../config/config.ts';
import { ConfigError } from '../config/config-error.ts';
import { renderBootstrap } from '../envoy-config/bootstrap.ts';
import type { JsonObject } from '../envoy-config/json.ts';
import { EDGE, SIDECAR_CLUSTER, standIn } from '../envoy-config/names.ts';
import { virtualHostName } from '../envoy-config/virtual-hosts.ts';
import { at, listAt, textAt } from './json.ts';

/** What `site-persistence envoy` prints for this site and this Envoy: what is right, and what fixes are made of. */
export interface Expected {
  readonly bootstrap: unknown;
  readonly connectionManager: unknown;
  readonly sidecarCluster: unknown;
  cluster(name: string): unknown;
  filter(name: string): unknown;
  /** In the order of the config. */
  readonly applications: readonly ExpectedApplication[];
}

/** The same of one application. */
export interface ExpectedApplication {
  readonly virtualHost: unknown;
  readonly routes: readonly unknown[];
  /** With what is this application's: a filter of the edge or, where the edge's are for several, of its stand-in listener. */
  filter(name: string): unknown;
  /** By the name that `envoy` gives it. */
  route(name: string): unknown;
}

/** Stands in the fixes for what only the operator knows; the config file needs it only to render. */
const FILL_IN = { kind: 'tcp', host: 'fill-in.example', port: 80, drain: false } as const;

/** @throws ConfigError where the overlay does not fit what is rendered for the config's own version */
export function expectedOf(config: Config, version: EnvoyVersion): Expected {
  const bootstrap = renderFor(version, withAllToRender(config));
  const clusters = listAt(bootstrap, 'static_resources', 'clusters');
  const listeners = listAt(bootstrap, 'static_resources', 'listeners');
  const connectionManager = managerOf(named(listeners, EDGE));
  const edgeFilters = listAt(connectionManager, 'http_filters');
  const isOneForAll = isOneForEveryHost(config);
  return {
    bootstrap,
    connectionManager,
    sidecarCluster: named(clusters, SIDECAR_CLUSTER),
    cluster: (name) => named(clusters, name),
    filter: (name) => named(edgeFilters, name),
    applications: applicationsOf(config).map((application) => {
      const virtualHost = named(
        listAt(connectionManager, 'route_config', 'virtual_hosts'),
        virtualHostName(application),
      );
      const own = listAt(managerOf(named(listeners, standIn(application))), 'http_filters');
      const filters = isOneForAll ? edgeFilters : [...own, ...edgeFilters];
      const routes = listAt(virtualHost, 'routes');
      return {
        virtualHost,
        routes,
        filter: (name) => named(filters, name),
        // The last of that name is for every method: the one before it is for GET and HEAD.
        route: (name) => routes.findLast((route) => textAt(route, 'name') === name),
      };
    }),
  };
}

/** What is made for another version may lack what the overlay changes. */
function renderFor(version: EnvoyVersion, config: Config): JsonObject {
  const { envoy } = config;
  if (version === envoy.version) return renderBootstrap(config);
  try {
    return renderBootstrap({ ...config, envoy: { ...envoy, version } });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return renderBootstrap({ ...config, envoy: { ...envoy, version, overlay: null } });
  }
}

/** The config with all that rendering needs. */
export function withAllToRender(config: Config): Config {
  return {
    ...config,
    applications: config.applications.map((application) => ({
      ...application,
      localPool: filledIn(application.localPool),
      remotePools: application.remotePools.map(filledIn),
    })),
    envoy: { ...config.envoy, listen: config.envoy.listen ?? FILL_IN },
  };
}

function filledIn<T extends { readonly servers: readonly unknown[] }>(pool: T) {
  return { ...pool, servers: pool.servers.length === 0 ? [FILL_IN] : pool.servers };
}

function managerOf(listener: unknown): unknown {
  const filters = listAt(listAt(listener, 'filter_chains')[0], 'filters');
  return at(named(filters, 'envoy.filters.network.http_connection_manager'), 'typed_config');
}

function named(list: readonly unknown[], name: string): unknown {
  return list.find((item) => textAt(item, 'name') === name);
}

/** The Envoy whose config is the right one for a release: itself, or the nearest that is known. */
export function nearestVersion(release: string | null, otherwise: EnvoyVersion): EnvoyVersion {
  const minor = /^1\.(\d+)\./.exec(release ?? '')?.[1];
  if (minor === undefined) return otherwise;
  const minors = ENVOY_VERSIONS.map((version) => Number(version.slice('1.'.length)));
  const index = minors.findLastIndex((known) => known <= Number(minor));
  return ENVOY_VERSIONS[Math.max(0, index)] ?? otherwise;
}
