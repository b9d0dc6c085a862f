import { type AdminClient, type Counts, type Host, maxBytesOfHosts } from '../envoy-admin/admin-client.ts';
import { AdminError } from '../envoy-admin/connection.ts';
import { HttpRequestError } from '../envoy-admin/http-request.ts';
import type { WatchedPool } from './pool.ts';
import type { Twins } from './twins.ts';

/** What a poll asks for. */
export interface Watched {
  readonly watched: readonly WatchedPool[];
  readonly twins: Twins;
  /** Of the routes whose requests are counted. */
  readonly statPrefixes: readonly string[];
}

/**
 * The pools' numbers from their gauges, or host by host for pools whose gauges Envoy's `stats_matcher` hides or may be those of
 * a cluster that is not in use yet. A pool without an entry is not known to Envoy.
 */
export async function countPools(client: AdminClient, { watched, twins, statPrefixes }: Watched): Promise<Counts> {
  const { pools, ...requests } = await client.count(twins.clusters, statPrefixes);
  const counts = new Map(pools);
  const clusters = watched.map((pool) => pool.cluster);
  const hidden = clusters.filter((cluster) => !counts.has(cluster));
  const doubtful = clusters.filter((cluster) => {
    const of = counts.get(cluster);
    return requests.isWarming && of !== undefined && of.up < of.total - of.excluded;
  });
  const listed = [
    ...(hidden.length === 0 ? [] : await listUncounted(client, hidden)),
    ...(doubtful.length === 0 ? [] : await listDoubtful(client, doubtful, pools)),
  ];
  for (const [cluster, hosts] of listed) {
    const up = hosts.filter((host) => host.up).length;
    const excluded = hosts.filter((host) => host.draining).length;
    const { failedChecks = null, succeededChecks = null } = pools.get(cluster) ?? {};
    counts.set(cluster, { up, total: hosts.length, excluded, failedChecks, succeededChecks });
  }
  return { ...requests, pools: counts };
}

/**
 * Envoy describes a host in 700 bytes, and reading the answer holds up every decision meanwhile: 10,000 hosts would for
 * 30 ms. Nobody reads so many names, either.
 */
const MAX_HOSTS_LISTED = 1_000;

/** Pools whose hosts are asked for together. */
export interface Batch {
  readonly clusters: string[];
  servers: number;
}

/** Asked for together are so many servers at most, for reading an answer holds up every decision. */
export function batches(pools: readonly (readonly [cluster: string, servers: number])[]): readonly Batch[] {
  const all: Batch[] = [];
  for (const [cluster, servers] of pools) {
    if (servers > MAX_HOSTS_LISTED) continue;
    const last = all.at(-1);
    const isFull = last === undefined || last.servers + servers > MAX_HOSTS_LISTED;
    const batch = isFull ? { clusters: [], servers: 0 } : last;
    if (isFull) all.push(batch);
    batch.clusters.push(cluster);
    batch.servers += servers;
  }
  return all;
}

/** None where they are too many to be listed with each poll. */
async function listDoubtful(client: AdminClient, clusters: readonly string[], pools: Counts['pools']) {
  const hosts = clusters.reduce((sum, cluster) => sum + (pools.get(cluster)?.total ?? 0), 0);
  if (hosts > MAX_HOSTS_LISTED) return new Map<string, readonly Host[]>();
  return await client.listHosts(clusters, maxBytesOfHosts(hosts));
}

async function listUncounted(client: AdminClient, clusters: readonly string[]) {
  try {
    return await client.listHosts(clusters);
  } catch (error) {
    const isTooLong = error instanceof AdminError && error.cause instanceof HttpRequestError;
    if (!isTooLong || error.code !== 'ADMIN_BAD_ANSWER') throw error;
    const why = `${error.message}; it is asked since Envoy's stats hide the membership gauges of ${clusters.join(', ')}`;
    throw new AdminError(error.code, `${why}: let its stats_matcher show them`, { cause: error });
  }
}
