import type { ConnectionManager } from './connection-managers.ts';
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

/** @param pools the clusters that count as an end of the way, and as which pool */
export function createDestinationReader(
  pools: ReadonlyMap<string, string>,
  snapshot: EnvoySnapshot,
): DestinationReader {
  const wayOn = waysOn(snapshot);

  /** The tries of one cluster: an aggregate takes its members in turn. */
  function triesOf(cluster: string, depth: number): ReadonlySet<string>[] {
    const pool = pools.get(cluster);
    if (pool !== undefined) return [new Set([pool])];
    const way = depth >= MAX_DEPTH ? null : wayOn(cluster);
    if (way === null) return [];
    const tries = way.clusters.flatMap((next) => triesOf(next, depth + 1));
    return way.isInTurn ? tries : [new Set(tries.flatMap((set) => [...set]))];
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

/** The clusters to which a cluster only leads on. */
interface Way {
  readonly clusters: readonly string[];
  /** Members of an aggregate; else all that the routes of an internal listener lead to. */
  readonly isInTurn: boolean;
}

type WayOn = (cluster: string) => Way | null;

/** Of hundreds of applications each looks for the ways to its own pools: what is behind a cluster is read once for all. */
const KNOWN_WAYS = new WeakMap<EnvoySnapshot, WayOn>();

function waysOn(snapshot: EnvoySnapshot): WayOn {
  const known = KNOWN_WAYS.get(snapshot) ?? readWays(snapshot);
  KNOWN_WAYS.set(snapshot, known);
  return known;
}

function readWays({ clusters, connectionManagers }: EnvoySnapshot): WayOn {
  const managers = new Map<string, ConnectionManager[]>();
  for (const manager of connectionManagers) {
    managers.set(manager.listener, [...(managers.get(manager.listener) ?? []), manager]);
  }
  const ways = new Map<string, Way | null>();

  function read(cluster: string): Way | null {
    const settings = clusters.get(cluster);
    const members = aggregated(settings);
    if (members !== undefined) return { clusters: members, isInTurn: true };
    const listener = internalListenerOf(settings);
    if (listener === undefined) return null;
    const named = (managers.get(listener) ?? []).flatMap(({ routeConfig }) =>
      listAt(routeConfig, 'virtual_hosts').flatMap((host) =>
        listAt(host, 'routes').flatMap((route) => namedTries(route, routeConfig, {}).flat()),
      ),
    );
    return { clusters: [...new Set(named)], isInTurn: false };
  }

  return (cluster) => {
    const known = ways.get(cluster);
    if (known !== undefined) return known;
    const way = read(cluster);
    ways.set(cluster, way);
    return way;
  };
}

/** All clusters on the ways of these routes, pools or not. */
export function clustersBehind(
  routes: readonly unknown[],
  routeConfig: unknown,
  snapshot: EnvoySnapshot,
): ReadonlySet<string> {
  const wayOn = waysOn(snapshot);
  const reached = new Set<string>();
  for (const route of routes) for (const cluster of namedTries(route, routeConfig, {}).flat()) reached.add(cluster);
  // What is added meanwhile has its turn as well.
  for (const cluster of reached) for (const next of wayOn(cluster)?.clusters ?? []) reached.add(next);
  return reached;
}

/** The clusters that a route names, for each try; those of one try are alternatives. Empty where it names none. */
export function namedTries(
  route: unknown,
  routeConfig: unknown,
  headers: Readonly<Record<string, string>>,
): string[][] {
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

/** Those of an aggregate cluster, in their order; undefined for any other. */
function aggregated(cluster: unknown): string[] | undefined {
  const members = at(cluster, 'cluster_type', 'typed_config');
  if (typeOf(members) !== AGGREGATE_CLUSTER) return undefined;
  return listAt(members, 'clusters').filter((member) => typeof member === 'string');
}

/** The clusters whose hosts a cluster has: its own alone, but for an aggregate. */
export function membersOf(cluster: string, snapshot: EnvoySnapshot, depth = 0): string[] {
  const members = aggregated(snapshot.clusters.get(cluster));
  if (members === undefined) return [cluster];
  return depth >= MAX_DEPTH ? [] : members.flatMap((member) => membersOf(member, snapshot, depth + 1));
}

/** The internal listener that a cluster leads to. */
export function internalListenerOf(cluster: unknown): string | undefined {
  const endpoints = listAt(listAt(cluster, 'load_assignment', 'endpoints')[0], 'lb_endpoints');
  return textAt(endpoints[0], 'endpoint', 'address', 'envoy_internal_address', 'server_listener_name');
}
