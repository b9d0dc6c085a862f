import { formatAddress } from '../config/address.ts';
import { CHECK_FAIL_HEADER, POOL_HEADER } from '../contract.ts';
import { orElsewhere, overHttp1, overHttp2 } from '../envoy-config/names.ts';
import type { ConnectionManager } from './connection-managers.ts';
import { internalListenerOf, membersOf, namedTries } from './destination.ts';
import { addressesOf } from './envoy-snapshot.ts';
import { HEADER_MUTATION } from './extension-types.ts';
import type { ApplicationFacts } from './facts.ts';
import { at, listAt, textAt } from './json.ts';
import { type Pool, poolsOf } from './pools.ts';

/** A cluster by which requests go to a pool, whatever its name. Its own upstream filters see the answers, not those of an aggregate's members. */
export interface RoutedCluster {
  readonly name: string;
  /** Another site's where some of its members are. */
  readonly pool: Pool;
  /** Whether Envoy obeys an answer that says that its host fails the health check: without one it does not. */
  readonly isChecked: boolean;
  /** Whether each way by which its answers leave this Envoy takes that header off them. */
  readonly isRemovedLater: boolean;
}

/** The clusters that an application's routes name, as far as they lead to a pool; those behind internal listeners as well. */
export function routedClusters(facts: ApplicationFacts): RoutedCluster[] {
  const { snapshot, surveys, application } = facts;
  const pools = poolsOf(application);
  const removed = new Map<string, boolean>();
  const entered = new Set<string>();

  function follow(host: unknown, routeConfig: unknown, isRemoved: boolean): void {
    for (const route of listAt(host, 'routes')) {
      const isRemovedHere = isRemoved || [route, host, routeConfig].some(removesCheckFail);
      const weighted = listAt(route, 'route', 'weighted_clusters', 'clusters');
      const names = pools.flatMap(({ cluster }) => namedTries(route, routeConfig, { [POOL_HEADER]: cluster }).flat());
      for (const name of new Set(names)) {
        const item = weighted.find((each) => textAt(each, 'name') === name);
        const isGone = isRemovedHere || removesCheckFail(item);
        removed.set(name, isGone && removed.get(name) !== false);
        for (const member of membersOf(name, snapshot))
          enter(internalListenerOf(snapshot.clusters.get(member)), isGone);
      }
    }
  }

  function enter(listener: string | undefined, isRemoved: boolean): void {
    const key = `${listener} ${isRemoved}`;
    if (listener === undefined || entered.has(key)) return;
    entered.add(key);
    for (const manager of snapshot.connectionManagers.filter((each) => each.listener === listener)) {
      for (const host of listAt(manager.routeConfig, 'virtual_hosts')) {
        follow(host, manager.routeConfig, isRemoved || filtersRemove(manager));
      }
    }
  }

  for (const [edge, { hosts }] of surveys) {
    for (const { config, routeConfig } of hosts) follow(config, routeConfig, filtersRemove(edge));
  }
  const poolOf = poolReader(facts);
  return [...removed].flatMap(([name, isRemovedLater]) => {
    const members = membersOf(name, snapshot);
    const found = members.flatMap((member) => poolOf(member) ?? []);
    const pool = found.find(({ isLocal }) => !isLocal) ?? found[0];
    if (pool === undefined || !snapshot.clusters.has(name)) return [];
    return [
      { name, pool, isChecked: members.some((member) => isChecked(snapshot.clusters.get(member))), isRemovedLater },
    ];
  });
}

/** By the names that are rendered, or by the addresses of the pool's servers. */
function poolReader({ application, snapshot }: ApplicationFacts): (cluster: string) => Pool | undefined {
  const { localPool, remotePools } = application;
  const pools = poolsOf(application);
  const byName = new Map<string, string>([
    ...[localPool.cluster, orElsewhere(localPool), overHttp1(localPool)].map(
      (name) => [name, localPool.cluster] as const,
    ),
    ...remotePools.flatMap((pool) => [pool.cluster, overHttp2(pool)].map((name) => [name, pool.cluster] as const)),
  ]);
  const servers = pools.map(
    ({ cluster, servers: listed }) => new Set([...listed.map(formatAddress), ...addressesOf(snapshot, cluster)]),
  );
  return (cluster) => {
    const named = byName.get(cluster);
    if (named !== undefined) return pools.find((pool) => pool.cluster === named);
    // To one that is there for its health alone nothing is sent.
    if (pools.some(({ healthCluster }) => healthCluster === cluster)) return undefined;
    const addresses = [...addressesOf(snapshot, cluster)];
    return pools.find((_, index) => addresses.some((address) => servers[index]?.has(address)));
  };
}

export function isChecked(cluster: unknown): boolean {
  return listAt(cluster, 'health_checks').length > 0;
}

function removesCheckFail(level: unknown): boolean {
  return listAt(level, 'response_headers_to_remove').some(isCheckFail);
}

function filtersRemove({ filters }: ConnectionManager): boolean {
  return filters.some(
    ({ type, config, isDisabled, matcher }) =>
      type === HEADER_MUTATION &&
      !isDisabled &&
      matcher === undefined &&
      listAt(config, 'mutations', 'response_mutations').some((mutation) => isCheckFail(at(mutation, 'remove'))),
  );
}

function isCheckFail(header: unknown): boolean {
  return typeof header === 'string' && header.toLowerCase() === CHECK_FAIL_HEADER;
}
