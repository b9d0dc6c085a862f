import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';
import { ConfigError } from '../config/config-error.ts';
import { statName } from '../envoy-admin/admin-client.ts';
import { renderBootstrap } from './bootstrap.ts';
import { isObject, type Json, type JsonObject, typed } from './json.ts';
import { closingCluster } from './names.ts';
import { renderSecrets } from './tls.ts';
import {
  CLUSTERS_FILE,
  endpointsFile,
  type FileKind,
  LISTENERS_FILE,
  routesFile,
  statPrefixOf,
} from './watched-files.ts';

/** A file in `envoy.config_dir`, which Envoy takes anew whenever another is renamed into its place. */
export interface WatchedFile {
  readonly name: string;
  readonly kind: FileKind;
  /** As they come back from the file: no member is undefined. */
  readonly resources: readonly JsonObject[];
}

export interface SplitConfig {
  /** What Envoy reads at its start alone. */
  readonly bootstrap: JsonObject;
  readonly files: readonly WatchedFile[];
}

/**
 * The Envoy config of a site as a bootstrap and the files that it leads to.
 * @param directory where Envoy finds them
 * @throws ConfigError where the overlay does not fit
 */
export function splitConfig(config: Config, directory: string): SplitConfig {
  const { static_resources, dynamic_resources, ...rest } = renderBootstrap(config);
  const { clusters, listeners, ...others } = objectOf(static_resources);
  const source = (name: string): JsonObject => ({
    path_config_source: { path: `${directory}/${name}` },
    resource_api_version: 'V3',
  });
  const routes = new RouteFiles(source);
  const byRds = listOf(listeners).map((listener) => withVersion(routes.takeFrom(listener)));
  const internal = new Map(byRds.map(({ listener, name }) => [name, String(listener.name)]));
  const byEds = listOf(clusters).map((cluster) => withoutEndpoints(leadingTo(internal, withName(cluster)), source));
  const files: WatchedFile[] = [
    ...renderSecrets(config).map(({ name, content }) => ({
      ...{ name, kind: 'secret' as const, resources: listOf(content.resources) },
    })),
    ...inOrder(
      byEds.flatMap(({ file }) => (file === null ? [] : [file])),
      config,
    ),
    { name: CLUSTERS_FILE, kind: 'clusters', resources: byEds.map(({ cluster }) => typed(CLUSTER, cluster)) },
    { name: LISTENERS_FILE, kind: 'listeners', resources: byRds.map(({ listener }) => typed(LISTENER, listener)) },
    ...routes.files,
  ];
  return {
    bootstrap: {
      ...rest,
      dynamic_resources: {
        ...othersOf(dynamic_resources, config),
        cds_config: source(CLUSTERS_FILE),
        lds_config: source(LISTENERS_FILE),
      },
      ...(Object.keys(others).length === 0 ? {} : { static_resources: others }),
    },
    files: files.map((file) => ({ ...file, resources: withoutUndefined(file.resources) })),
  };
}

const CLUSTER = 'envoy.config.cluster.v3.Cluster';
const LISTENER = 'envoy.config.listener.v3.Listener';
const ENDPOINTS_TYPE = 'envoy.config.endpoint.v3.ClusterLoadAssignment';
const ROUTES_TYPE = 'envoy.config.route.v3.RouteConfiguration';

/** What the overlay has of it, which must not be what the files are for. */
function othersOf(dynamicResources: Json | undefined, { envoy }: Config): JsonObject {
  const { overlay } = envoy;
  const resources = objectOf(dynamicResources);
  for (const key of ['cds_config', 'lds_config']) {
    if (overlay === null || resources[key] === undefined) continue;
    const message = `dynamic_resources.${key}: is what envoy.config_dir is for: Envoy takes one`;
    throw new ConfigError(overlay.file, [{ line: null, message }]);
  }
  return resources;
}

/**
 * A cluster that takes another's place at once would have no server until its name is looked up, so it is waited for: not for
 * long, for Envoy's start waits as well.
 */
function withName(cluster: JsonObject): JsonObject {
  const { wait_for_warm_on_init, ...rest } = cluster;
  const type = objectOf(rest.cluster_type);
  if (wait_for_warm_on_init !== false || type.name !== 'envoy.clusters.dns') return cluster;
  const typed_config = { typed_dns_resolver_config: IMPATIENT_RESOLVER, ...objectOf(type.typed_config) };
  return { ...rest, cluster_type: { ...type, typed_config } };
}

/** Envoy's start waits for it, once for IPv4 and once for IPv6: its own would wait for 20 s and more. */
const IMPATIENT_RESOLVER = {
  name: 'envoy.network.dns_resolver.cares',
  typed_config: typed('envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig', {
    query_timeout_seconds: 1,
    query_tries: 1,
  }),
};

/**
 * Connections within this Envoy are kept open for as long as there are requests, and go by the listener that they came to. So one
 * that answers requests itself is another one as soon as anything of it changes, to which the cluster that leads there connects anew.
 */
function withVersion(listener: JsonObject) {
  const name = String(listener.name);
  const { name: _, ...rest } = listener;
  const answers = listOf(listener.filter_chains).some((chain) => listOf(chain.filters).some(isConnectionManager));
  if (listener.internal_listener === undefined || !answers) return { listener, name };
  return { listener: { ...listener, name: `${name}_${hashOf(rest)}` }, name };
}

/** @param names of internal listeners, by what they are called where they are rendered */
function leadingTo(names: ReadonlyMap<string, string>, cluster: JsonObject): JsonObject {
  const rename = (value: Json | undefined, key: string): Json | undefined => {
    if (typeof value === 'string') return key === 'server_listener_name' ? (names.get(value) ?? value) : value;
    if (Array.isArray(value)) return value.map((item: Json) => rename(item, key) ?? null);
    return isObject(value) ? renamed(value) : value;
  };
  const renamed = (object: JsonObject): JsonObject =>
    Object.fromEntries(Object.entries(object).map(([key, value]) => [key, rename(value, key)]));
  return cluster.load_assignment === undefined
    ? cluster
    : { ...cluster, load_assignment: renamed(objectOf(cluster.load_assignment)) };
}

/**
 * A cluster of fixed addresses gets them from a file of their own: one more or less is no other cluster. The file of another
 * cluster has another name, for the one that is in use until then goes by its own.
 */
function withoutEndpoints(cluster: JsonObject, source: (name: string) => JsonObject) {
  const { load_assignment, type, ...rest } = cluster;
  const name = String(cluster.name);
  const isFixed = rest.cluster_type === undefined && (type === undefined || type === 'STATIC');
  if (load_assignment === undefined || !isFixed || rest.health_checks === undefined) return { cluster, file: null };
  const file: WatchedFile = {
    name: endpointsFile(name, hashOf(rest)),
    kind: 'endpoints',
    resources: [typed(ENDPOINTS_TYPE, objectOf(load_assignment))],
  };
  return {
    cluster: {
      ...rest,
      type: 'EDS',
      eds_cluster_config: { eds_config: source(file.name) },
      // One that is taken out is out, also while its health checks pass.
      ignore_health_on_host_removal: true,
    },
    file,
  };
}

function isConnectionManager(filter: JsonObject): boolean {
  return filter.name === 'envoy.filters.network.http_connection_manager';
}

/** As it comes back from a file, whatever else is different. */
function hashOf(value: JsonObject): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 8);
}

/** What leads to a server has it after the cluster through which the way goes. */
function inOrder(files: readonly WatchedFile[], { applications }: Config): WatchedFile[] {
  const behind = new Set(
    applications
      .flatMap(({ localPool, remotePools }) => [localPool, ...remotePools])
      .map(({ cluster }) => statName(closingCluster(cluster))),
  );
  const isBehind = (file: WatchedFile) => behind.has(statPrefixOf(file)?.slice('cluster.'.length) ?? '');
  return [...files.filter(isBehind), ...files.filter((file) => !isBehind(file))];
}

/** A file for each route config; connection managers with the same one share it. */
class RouteFiles {
  readonly files: WatchedFile[] = [];
  readonly #source: (name: string) => JsonObject;
  readonly #byName = new Map<string, JsonObject>();

  constructor(source: (name: string) => JsonObject) {
    this.#source = source;
  }

  takeFrom(listener: JsonObject): JsonObject {
    const filter_chains = listOf(listener.filter_chains).map((chain) => ({
      ...chain,
      filters: listOf(chain.filters).map((filter) => this.#takeFromFilter(filter, String(listener.name))),
    }));
    return listener.filter_chains === undefined ? listener : { ...listener, filter_chains };
  }

  #takeFromFilter(filter: JsonObject, listener: string): JsonObject {
    const { route_config, ...manager } = objectOf(filter.typed_config);
    if (route_config === undefined || !isConnectionManager(filter)) return filter;
    // Of a file that never has anything else in it Envoy takes no newer version.
    if (listOf(objectOf(route_config).virtual_hosts).length === 0) return filter;
    const name = this.#add(objectOf(route_config), listener);
    const rds = { route_config_name: name, config_source: this.#source(routesFile(name)) };
    return { ...filter, typed_config: { ...manager, rds } };
  }

  #add(routes: JsonObject, listener: string): string {
    const own = typeof routes.name === 'string' && routes.name !== '' ? routes.name : listener;
    const known = this.#byName.get(own);
    if (known !== undefined && isDeepStrictEqual(known, routes)) return own;
    const name = known === undefined ? own : `${own}_${listener}`;
    this.#byName.set(name, routes);
    this.files.push({
      name: routesFile(name),
      kind: 'routes',
      resources: [typed(ROUTES_TYPE, { ...routes, name })],
    });
    return name;
  }
}

function objectOf(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

function listOf(value: Json | undefined): readonly JsonObject[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function withoutUndefined(resources: readonly JsonObject[]): readonly JsonObject[] {
  const plain: Json = JSON.parse(JSON.stringify(resources));
  return listOf(plain);
}
