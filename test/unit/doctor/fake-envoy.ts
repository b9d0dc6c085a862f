import { formatAddress } from '../../../src/config/address.ts';
import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { readSnapshot } from '../../../src/doctor/envoy-snapshot.ts';
import { examine } from '../../../src/doctor/examine.ts';
import type { Around } from '../../../src/doctor/facts.ts';
import type { Finding } from '../../../src/doctor/finding.ts';
import { at, entriesAt, listAt } from '../../../src/doctor/json.ts';
import type { AdminAnswers } from '../../../src/envoy-admin/admin-answers.ts';
import { statName } from '../../../src/envoy-admin/admin-client.ts';
import { renderBootstrap } from '../../../src/envoy-config/bootstrap.ts';
import { isTree, list, type Tree, tree } from '../../support/json-tree.ts';
import { asDumped } from './as-dumped.ts';

const SITE = `
site: east
local_pool: { cluster: local_pool, cookie: KVAAVROI, servers: ["127.0.0.1:3001"] }
remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ, servers: ["127.0.0.1:81"] }]
envoy: { listen: "127.0.0.1:80" }
`;

/** When they are examined. */
export const NOW_MS = Date.parse('2026-06-01T00:00:00Z');

export const CONFIG = parseConfig(SITE, 'site.yaml', 'rendering');

/** What is known beside an Envoy where all is well. */
export function aroundOf({ applications }: Config): Around {
  return {
    nowMs: NOW_MS,
    duplicateCookies: new Map(applications.map(({ name }) => [name, 0])),
    spoken: applications.flatMap(({ localPool: { cluster, servers } }) =>
      servers.map((server) => ({
        ...{ cluster, address: formatAddress(server), isOverTls: false },
        ...{ http1: true, http2: false, isOther: false, why: '' },
      })),
    ),
    peers: [],
  };
}

export const AROUND = aroundOf(CONFIG);

/** What an Envoy answers, as far as the checks read it, to be changed in ways that a real one can't be made to. */
export interface FakeEnvoy {
  readonly bootstrap: Tree;
  readonly stats: Map<string, number>;
  readonly runtime: Map<string, string>;
  /** The sections of the config dump, by their type's last word. */
  readonly dump: Tree;
  version: string;
}

const ADMIN_TYPE = 'type.googleapis.com/envoy.admin.v3.';

export function fakeEnvoy(config: Config = CONFIG): FakeEnvoy {
  const copy: unknown = JSON.parse(JSON.stringify(renderBootstrap(config)));
  return fakeEnvoyOf(tree(copy));
}

/** One that was started with this bootstrap, and whose every host is up. */
export function fakeEnvoyOf(bootstrap: Tree): FakeEnvoy {
  const resources = (kind: string) => list(bootstrap, 'static_resources', kind).map((item) => tree(item));
  const wrapped = (items: Tree[], name: string, type: string) =>
    items.map((item) => ({ [name]: { '@type': `type.googleapis.com/${type}`, ...item } }));
  return {
    bootstrap,
    stats: new Map(
      resources('clusters').flatMap((cluster) =>
        ['membership_healthy', 'membership_total'].map((gauge): [string, number] => [
          `cluster.${statName(String(cluster.name))}.${gauge}`,
          hostsOf(cluster).length,
        ]),
      ),
    ),
    runtime: new Map(
      listAt(bootstrap, 'layered_runtime', 'layers')
        .flatMap((layer) => entriesAt(layer, 'static_layer'))
        .map(([key, value]) => [key, String(value)]),
    ),
    dump: {
      BootstrapConfigDump: { bootstrap },
      ClustersConfigDump: {
        static_clusters: wrapped(resources('clusters'), 'cluster', 'envoy.config.cluster.v3.Cluster'),
      },
      ListenersConfigDump: {
        static_listeners: wrapped(resources('listeners'), 'listener', 'envoy.config.listener.v3.Listener'),
      },
    },
    version: '1.40.0',
  };
}

/** The connection manager of the edge. */
export function managerOf(envoy: FakeEnvoy): Tree {
  const listener = tree(envoy.dump, 'ListenersConfigDump', 'static_listeners', 0, 'listener');
  return tree(listener, 'filter_chains', 0, 'filters', 0, 'typed_config');
}

export function answersOf({ bootstrap, dump, stats, runtime, version }: FakeEnvoy): AdminAnswers {
  const named = (kind: string) => list(bootstrap, 'static_resources', kind).filter(isTree);
  return {
    serverInfo: { json: { version: `abc/${version}/Clean/RELEASE/BoringSSL` } },
    configDump: {
      json: {
        configs: Object.entries(dump).map(([type, section]) => ({
          '@type': ADMIN_TYPE + type,
          ...tree(asDumped(section)),
        })),
      },
    },
    clusters: {
      json: {
        cluster_statuses: named('clusters').map((cluster) => {
          const host_statuses = hostsOf(cluster);
          return { name: cluster.name, ...(host_statuses.length === 0 ? {} : { host_statuses }) };
        }),
      },
    },
    listeners: { json: { listener_statuses: named('listeners').map(({ name }) => ({ name })) } },
    runtime: {
      json: { entries: Object.fromEntries([...runtime].map(([key, final_value]) => [key, { final_value }])) },
    },
    stats: { json: { stats: [...stats].map(([name, value]) => ({ name, value })) } },
  };
}

/** Those of a cluster's config, that pass their health checks. */
function hostsOf({ load_assignment }: Tree): Tree[] {
  const servers = listAt(load_assignment, 'endpoints').flatMap((group) => listAt(group, 'lb_endpoints'));
  return servers.map((server) => ({
    address: at(server, 'endpoint', 'address'),
    health_status: { eds_health_status: at(server, 'health_status') ?? 'HEALTHY' },
  }));
}

export function findingsOf(envoy: FakeEnvoy, config: Config = CONFIG): Finding[] {
  return examine(config, readSnapshot(answersOf(envoy)), aroundOf(config));
}

/** All but what is fine, as `mark check: text`. */
export function troublesOf(envoy: FakeEnvoy, config: Config = CONFIG): string[] {
  return describeTroubles(findingsOf(envoy, config));
}

export function describeTroubles(findings: readonly Finding[]): string[] {
  return findings.filter(({ mark }) => mark !== 'ok').map(({ mark, check, text }) => `${mark} ${check}: ${text}`);
}
