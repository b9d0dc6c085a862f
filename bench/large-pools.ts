import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Bench } from './bench.ts';
import type { Bootstrap, Cluster } from './bootstrap.ts';

/** Two pools whose many hosts and their health Envoy reads from files, as it would from a control plane. */
export interface LargePools {
  patch(bootstrap: Bootstrap): Promise<void>;
  /** Says that one host of the local pool is healthy or not. */
  setLastHost(health: 'HEALTHY' | 'UNHEALTHY'): Promise<void>;
}

/** The one server of the local pool that there really is gets the requests, by its session cookie. */
export function createLargePools(
  bench: Bench,
  name: string,
  { hosts, otherClusters }: { readonly hosts: number; readonly otherClusters: number },
): LargePools {
  const fileOf = (cluster: string) => join(bench.directory, `${name}-${cluster}.eds.json`);
  const perPool = hosts / 2;

  async function writeHosts(cluster: string, network: number, lastHost: string, real?: string): Promise<void> {
    const lb_endpoints = Array.from({ length: perPool }, (_, index) => ({
      endpoint: { address: socketAddress(index === 0 && real !== undefined ? real : madeUpHost(network, index)) },
      health_status: index === perPool - 1 ? lastHost : 'HEALTHY',
    }));
    const assignment = {
      '@type': 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment',
      cluster_name: cluster,
      endpoints: [{ lb_endpoints }],
    };
    // Envoy reads the file anew when another is moved into its place.
    await writeFile(`${fileOf(cluster)}.new`, JSON.stringify({ version_info: lastHost, resources: [assignment] }));
    await rename(`${fileOf(cluster)}.new`, fileOf(cluster));
  }

  function fromFile(cluster: Cluster): Cluster {
    const { load_assignment, health_checks, ...rest } = cluster;
    const eds_config = { path_config_source: { path: fileOf(cluster.name) }, resource_api_version: 'V3' };
    return { ...rest, type: 'EDS', eds_cluster_config: { eds_config } };
  }

  return {
    async patch(bootstrap) {
      await writeHosts('local_pool', 1, 'HEALTHY', bench.application.local[0]);
      await writeHosts('remote_pool', 2, 'HEALTHY');
      const { static_resources } = bootstrap;
      static_resources.clusters = [
        ...static_resources.clusters.map((cluster) =>
          /^(local|remote)_pool$/.test(cluster.name) ? fromFile(cluster) : cluster,
        ),
        ...Array.from({ length: otherClusters }, (_, index) => otherCluster(index)),
      ];
    },
    setLastHost: (health) => writeHosts('local_pool', 1, health, bench.application.local[0]),
  };
}

function otherCluster(index: number): Cluster {
  const name = `other_${index}`;
  const endpoint = { address: socketAddress(madeUpHost(3, index)) };
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint }] }] },
  };
}

/** Nothing is ever sent there: no session is of such a host, and none is checked. */
function madeUpHost(network: number, index: number): string {
  return `10.${network}.${index >> 8}.${index & 255}:8080`;
}

function socketAddress(address: string) {
  const [host = '', port = ''] = address.split(':');
  return { socket_address: { address: host, port_value: Number(port) } };
}
