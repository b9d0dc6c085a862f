import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { type DnsServer, startDnsServer } from '../support/dns-server.ts';
import { list, tree } from '../support/json-tree.ts';
import { Load } from '../support/load.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { type ConfigFile, type EnvoyRelease, patchYaml, startTwoSites, type TwoSites } from '../support/two-sites.ts';

/** Pools that are named, and name servers that fail. */

let dns: DnsServer;
beforeEach(async () => {
  dns = await startDnsServer();
});
afterEach(() => dns.close());

/** Has every cluster that looks a name up ask the test's name server. */
function askTestServer(text: string): string {
  return patchYaml<object>((bootstrap) => {
    for (const cluster of list(bootstrap, 'static_resources', 'clusters')) {
      if (tree(cluster).cluster_type === undefined || tree(cluster, 'cluster_type').name !== 'envoy.clusters.dns')
        continue;
      const lookUps = tree(cluster, 'cluster_type', 'typed_config');
      lookUps.typed_dns_resolver_config = {
        name: 'envoy.network.dns_resolver.cares',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig',
          resolvers: [{ socket_address: { address: '127.0.0.1', port_value: dns.port } }],
          use_resolvers_as_fallback: false,
          dns_resolver_options: { no_default_search_domain: true },
          query_timeout_seconds: 1,
          query_tries: 1,
        },
      };
      lookUps.dns_refresh_rate = '0.5s';
      lookUps.dns_jitter = '0s';
    }
  })(text);
}

const portOf = (address: string) => address.split(':')[1] ?? '';

async function withLab(
  envoyVersion: EnvoyRelease,
  configure: (file: ConfigFile, site: 'east' | 'west') => void,
  body: (lab: TwoSites) => Promise<void>,
): Promise<void> {
  const lab = await startTwoSites({ envoyVersion, configure, patchBootstrap: askTestServer });
  try {
    await body(lab);
  } finally {
    await lab.close();
  }
}

test('a pool behind one name of which 4 of 10 addresses are up answers the status URI without the sidecar', async () => {
  // The server listens on 127.0.0.1 alone, so that the others refuse connections.
  dns.addresses.set('app.test', ['127.0.0.1', ...Array.from({ length: 9 }, (_, index) => `127.0.0.${index + 20}`)]);
  const configure = (file: ConfigFile, site: string) => {
    if (site === 'east') {
      file.local_pool.servers = (file.local_pool.servers as string[])
        .slice(0, 1)
        .map((address) => `app.test:${portOf(address)}`);
    }
  };
  await withLab('1.40.0', configure, async (lab) => {
    await waitUntil(async () => (await lab.east.stat('cluster.local_pool.membership_total')) === 10, {
      what: '10 hosts',
    });
    await lab.east.sidecar().stop('SIGKILL');
    await lab.east.waitForStatus(200);
    await lab.east.stopPool();
    await lab.east.waitForStatus(503);
  });
});

/** Names the other site. */
function byName(file: ConfigFile): void {
  for (const pool of file.remote_pools) {
    pool.servers = (pool.servers as string[]).map((address) => `edge.test:${portOf(address)}`);
  }
}

/** Restarts an Envoy while no name server answers. @returns after how many ms it has answered a request */
async function restartWithoutNames({ east }: TwoSites): Promise<number> {
  await east.envoy?.stop('SIGKILL');
  dns.mood = 'silent';
  const startedAt = performance.now();
  await east.startEnvoy();
  const client = new Client();
  await waitUntil(async () => (await client.request(east.url).catch(() => null))?.status === 200, {
    what: 'the first answer',
    timeoutMs: 60_000,
  });
  client.close();
  return performance.now() - startedAt;
}

describe.each(['1.40.0', '1.36.4', '1.39.3'] as const)("the other site's name (Envoy %s)", (envoyVersion) => {
  beforeEach(() => void dns.addresses.set('edge.test', ['127.0.0.1']));

  test('is not waited for when Envoy starts', async () => {
    await withLab(envoyVersion, byName, async (lab) => {
      // It would wait for 20 s or more.
      expect(await restartWithoutNames(lab)).toBeLessThan(15_000);
    });
  });

  test.each(['silent', 'half'] as const)('stays known while its name server is %s and a check fails', async (mood) => {
    await withLab(envoyVersion, byName, async (lab) => {
      dns.mood = mood;
      const asked = dns.queries;
      await waitUntil(() => dns.queries > asked + 2, { what: 'more queries', timeoutMs: 30_000 });
      lab.west.envoy?.signal('SIGSTOP');
      await lab.east.waitForRemote('down');
      lab.west.envoy?.signal('SIGCONT');
      await lab.east.waitForRemote('up');
      expect(await lab.east.stat('cluster.remote_pool.membership_total')).toBe(1);
    });
  });
});

describe('an Envoy that follows the file, with the other site by name', () => {
  /** Has the clusters of the other site ask the test's name server. */
  function overlayText(): string {
    const resolver = {
      name: 'envoy.network.dns_resolver.cares',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig',
        // As they are rendered.
        query_timeout_seconds: 1,
        query_tries: 1,
        resolvers: [{ socket_address: { address: '127.0.0.1', port_value: dns.port } }],
        use_resolvers_as_fallback: false,
        dns_resolver_options: { no_default_search_domain: true },
      },
    };
    const cluster_type = { typed_config: { typed_dns_resolver_config: resolver } };
    const clusters = ['remote_pool', 'remote_pool_http2'].map((name) => ({ name, cluster_type }));
    return stringify({ static_resources: { clusters } }, { aliasDuplicateObjects: false });
  }

  test('loses no session to an edit, and starts without a name server', async () => {
    dns.addresses.set('edge.test', ['127.0.0.1']);
    const directory = await mkdtemp(join(tmpdir(), 'site-persistence-dns-'));
    const overlay = join(directory, 'overlay.yaml');
    await writeFile(overlay, overlayText());
    const lab = await startTwoSites({
      configDir: true,
      configure: (file) => {
        file.envoy.overlay = overlay;
        byName(file);
      },
    });
    try {
      const edges = lab.sites.map(({ url }) => url);
      const load = await Load.start({ clients: 12, homes: edges, edges });
      for (const idleTimeout of ['21s', '22s', '23s']) {
        await writeConfig(lab.east, ({ remote_pools: [pool] }) =>
          Object.assign(pool ?? {}, { idle_timeout: idleTimeout }),
        );
        await reload(lab.east);
        await load.during(200);
      }
      expect(await load.stop()).toMatchObject({ lost: 0, losses: [], moved: 0 });

      // By Envoy's own settings it would wait for 20 s or more.
      expect(await restartWithoutNames(lab)).toBeLessThan(15_000);
    } finally {
      await lab.close();
      await rm(directory, { recursive: true, force: true });
    }
  });
});
