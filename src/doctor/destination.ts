import type { Config } from '../config/config.ts';
import type { EnvoySnapshot } from './envoy-snapshot.ts';
import { AGGREGATE_CLUSTER, PRIORITY_GROUPS } from './extension-types.ts';
import { at, listAt, textAt, typeOf } from './json.ts';

/** Where a route sends requests, down to the pools of the config. */
export interface Destination {
  /** The clusters that the route names itself, whose circuit breakers count its retries. */
  readonly named: readonly string[];
  /** The pools of the first try; several where it is by weight. */
  readonly first: ReadonlySet<string>;
  /** The pools of later tries. */
  readonly later: ReadonlySet<string>;
}

/** Clusters that lead to clusters that lead to clusters …: more than anybody has, and an end to a circle. */
const MAX_DEPTH = 5;

export interface DestinationReader {
  /** @param poolHeader the value of the pool header, for a route that takes its cluster from there; undefined for none */
  read(route: unknown, routeConfig: unknown, clusterHeaders: Readonly<Record<string, string>>): Destination | null;
}

export function createDestinationReader(config: Config, snapshot: EnvoySnapshot): DestinationReader {
  const pools = new Set([config.localPool.cluster, ...config.remotePools.map((pool) => pool.cluster)]);

  /** The tries of one cluster: an aggregate takes its members in turn. */
  function triesOf(cluster: string, depth: number): ReadonlySet<string>[] {
    if (pools.has(cluster)) return [new Set([cluster])];
    if (depth >= MAX_DEPTH) return [];
    const settings = snapshot.clusters.get(cluster);
    const members = at(settings, 'cluster_type', 'typed_config');
    if (typeOf(members) === AGGREGATE_CLUSTER) {
      return listAt(members, 'clusters').flatMap((member) =>
        typeof member === 'string' ? triesOf(member, depth + 1) : [],
      );
    }
    const listener = internalListenerOf(settings);
    return listener === undefined ? [] : [throughListener(listener, depth + 1)];
  }

  /** All that the routes of an internal listener lead to. */
  function throughListener(listener: string, depth: number): ReadonlySet<string> {
    const reached = new Set<string>();
    for (const manager of snapshot.connectionManagers.filter((candidate) => candidate.listener === listener)) {
      for (const host of listAt(manager.routeConfig, 'virtual_hosts')) {
        for (const route of listAt(host, 'routes')) {
          for (const tries of namedTries(route, manager.routeConfig, {})) {
            for (const cluster of tries) {
              for (const pool of triesOf(cluster, depth).flatMap((set) => [...set])) reached.add(pool);
            }
          }
        }
      }
    }
    return reached;
  }

  return {
    read(route, routeConfig, clusterHeaders) {
      const groups = namedTries(route, routeConfig, clusterHeaders);
      if (groups.length === 0) return null;
      const tries = groups.map((clusters) => clusters.map((cluster) => triesOf(cluster, 0)));
      const heads = (tries[0] ?? []).flatMap((sets) => [...(sets[0] ?? [])]);
      const tails = [
        ...(tries[0] ?? []).flatMap((sets) => sets.slice(1)),
        ...tries.slice(1).flatMap((sets) => sets.flat()),
      ];
      return {
        named: groups.flat(),
        first: new Set(heads),
        later: new Set(tails.flatMap((set) => [...set])),
      };
    },
  };
}

/** The clusters that a route names, for each try; those of one try are alternatives. Empty where it names none. */
function namedTries(route: unknown, routeConfig: unknown, headers: Readonly<Record<string, string>>): string[][] {
  const action = at(route, 'route');
  const cluster = textAt(action, 'cluster');
  if (cluster !== undefined) return [[cluster]];
  const header = textAt(action, 'cluster_header');
  if (header !== undefined) {
    const value = headers[header.toLowerCase()];
    return value === undefined ? [] : [[value]];
  }
  const weighted = listAt(action, 'weighted_clusters', 'clusters').flatMap((item) => textAt(item, 'name') ?? []);
  if (weighted.length > 0) return [weighted];
  const specifier =
    at(action, 'inline_cluster_specifier_plugin', 'extension', 'typed_config') ??
    pluginNamed(routeConfig, textAt(action, 'cluster_specifier_plugin'));
  if (typeOf(specifier) !== PRIORITY_GROUPS) return [];
  return listAt(specifier, 'priority_groups').map((group) =>
    listAt(group, 'clusters').flatMap((item) => textAt(item, 'cluster_name') ?? []),
  );
}

function pluginNamed(routeConfig: unknown, name: string | undefined): unknown {
  if (name === undefined) return undefined;
  const plugin = listAt(routeConfig, 'cluster_specifier_plugins').find(
    (item) => textAt(item, 'extension', 'name') === name,
  );
  return at(plugin, 'extension', 'typed_config');
}

function internalListenerOf(cluster: unknown): string | undefined {
  const endpoints = listAt(listAt(cluster, 'load_assignment', 'endpoints')[0], 'lb_endpoints');
  return textAt(endpoints[0], 'endpoint', 'address', 'envoy_internal_address', 'server_listener_name');
}
