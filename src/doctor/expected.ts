import { type Config, ENVOY_VERSIONS, type EnvoyVersion } from '../config/config.ts';
import { renderBootstrap } from '../envoy-config/bootstrap.ts';
import { SIDECAR_CLUSTER } from '../envoy-config/names.ts';
import { at, listAt, textAt } from './json.ts';

/** What `site-persistence envoy` prints for this site and this Envoy: what is right, and what fixes are made of. */
export interface Expected {
  readonly bootstrap: unknown;
  readonly connectionManager: unknown;
  readonly sidecarCluster: unknown;
  cluster(name: string): unknown;
  filter(name: string): unknown;
  /** By the name that `envoy` gives it. */
  route(name: string): unknown;
}

/** Stands in the fixes for what only the operator knows; the config file needs it only to render. */
const FILL_IN = { kind: 'tcp', host: 'fill-in.example', port: 80 } as const;

export function expectedOf(config: Config, version: EnvoyVersion): Expected {
  const { localPool, remotePools, envoy } = config;
  const bootstrap = renderBootstrap({
    ...config,
    localPool: { ...localPool, servers: localPool.servers.length === 0 ? [FILL_IN] : localPool.servers },
    remotePools: remotePools.map((pool) => ({
      ...pool,
      servers: pool.servers.length === 0 ? [FILL_IN] : pool.servers,
    })),
    envoy: { ...envoy, version, listen: envoy.listen ?? FILL_IN },
  });
  const named = (list: readonly unknown[], name: string) => list.find((item) => textAt(item, 'name') === name);
  const clusters = listAt(bootstrap, 'static_resources', 'clusters');
  const edge = listAt(bootstrap, 'static_resources', 'listeners')[0];
  const connectionManager = at(listAt(listAt(edge, 'filter_chains')[0], 'filters')[0], 'typed_config');
  const virtualHost = listAt(connectionManager, 'route_config', 'virtual_hosts')[0];
  return {
    bootstrap,
    connectionManager,
    sidecarCluster: named(clusters, SIDECAR_CLUSTER),
    cluster: (name) => named(clusters, name),
    filter: (name) => named(listAt(connectionManager, 'http_filters'), name),
    // The last of that name is for every method: the one before it is for GET and HEAD.
    route: (name) => listAt(virtualHost, 'routes').findLast((route) => textAt(route, 'name') === name),
  };
}

/** The Envoy whose config is the right one for a release: itself, or the nearest that is known. */
export function nearestVersion(release: string | null, otherwise: EnvoyVersion): EnvoyVersion {
  const minor = /^1\.(\d+)\./.exec(release ?? '')?.[1];
  if (minor === undefined) return otherwise;
  const minors = ENVOY_VERSIONS.map((version) => Number(version.slice('1.'.length)));
  const index = minors.findLastIndex((known) => known <= Number(minor));
  return ENVOY_VERSIONS[Math.max(0, index)] ?? otherwise;
}
