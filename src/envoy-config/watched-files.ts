import { statName } from '../envoy-admin/admin-client.ts';

// The files in `envoy.config_dir`, for who only writes them and watches what Envoy takes: without the renderer.

/** What a file has, in the order in which Envoy must get new ones. */
export const FILE_KINDS = ['secret', 'endpoints', 'clusters', 'listeners', 'routes'] as const;
export type FileKind = (typeof FILE_KINDS)[number];

export const CLUSTERS_FILE = 'clusters.yaml';
export const LISTENERS_FILE = 'listeners.yaml';

/** How the others are called, by what they have. */
const ENDPOINTS = 'endpoints_';
const ROUTES = 'routes_';
const SECRETS = ['cluster_', 'listener_'];

/** @param version of the cluster, eight hexadecimal digits */
export function endpointsFile(cluster: string, version: string): string {
  return `${ENDPOINTS}${fileNameOf(cluster)}_${version}.yaml`;
}

export function routesFile(routes: string): string {
  return `${ROUTES}${fileNameOf(routes)}.yaml`;
}

/**
 * A name may have a slash in it, or a dot; and in Envoy's metrics a secret's name ends at its first dot. Whatever the names,
 * no two become the same.
 */
export function fileNameOf(name: string): string {
  return encodeURIComponent(name).replaceAll('.', '%2E');
}

/** Whether a file that stands in the directory is one of these, whatever config it was of. */
export function isWatchedFile(name: string): boolean {
  if (name === CLUSTERS_FILE || name === LISTENERS_FILE) return true;
  return name.endsWith('.yaml') && [ENDPOINTS, ROUTES, ...SECRETS].some((start) => name.startsWith(start));
}

/** Where Envoy counts what it took of a file and what it refused, before `.update_success`. */
export function statPrefixOf({ name, kind }: { readonly name: string; readonly kind: FileKind }): string {
  const of = (start: string) => statName(decodeURIComponent(name.slice(start.length, -'.yaml'.length)));
  switch (kind) {
    case 'secret':
      // Called after the file, in whose name there is no dot.
      return `sds.${statName(name.slice(0, -'.yaml'.length))}`;
    case 'endpoints':
      return `cluster.${of(ENDPOINTS).replace(/_[0-9a-f]{8}$/, '')}`;
    case 'clusters':
      return 'cluster_manager.cds';
    case 'listeners':
      return 'listener_manager.lds';
    case 'routes':
      return `rds.${of(ROUTES)}`;
  }
}
