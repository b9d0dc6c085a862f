import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { GRACEFUL_CLOSE_FLAG } from '../../../src/contract.ts';
import { readSnapshot } from '../../../src/doctor/envoy-snapshot.ts';
import { examine } from '../../../src/doctor/examine.ts';
import type { Finding } from '../../../src/doctor/finding.ts';
import type { AdminAnswers } from '../../../src/envoy-admin/admin-answers.ts';
import { renderBootstrap } from '../../../src/envoy-config/bootstrap.ts';
import { isTree, list, type Tree, tree } from '../../support/json-tree.ts';

const SITE = `
site: east
local_pool: { cluster: local_pool, cookie: KVAAVROI, servers: ["127.0.0.1:3001"] }
remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ, servers: ["127.0.0.1:81"] }]
envoy: { listen: "127.0.0.1:80" }
`;

/** When they are examined. */
export const NOW_MS = Date.parse('2026-06-01T00:00:00Z');

export const AROUND = {
  nowMs: NOW_MS,
  duplicateCookies: 0,
  spoken: [{ address: '127.0.0.1:3001', http1: true, http2: false, isOverTls: false, isOther: false, why: '' }],
  peers: [],
};

export const CONFIG = parseConfig(SITE, 'site.yaml', 'rendering');

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
  const bootstrap = tree(copy);
  const wrapped = (items: unknown[], name: string, type: string) =>
    items.map((item) => ({ [name]: { '@type': `type.googleapis.com/${type}`, ...tree(item) } }));
  return {
    bootstrap,
    stats: new Map([
      ...['local_pool', 'remote_pool'].flatMap((name): [string, number][] => [
        [`cluster.${name}.membership_healthy`, 1],
        [`cluster.${name}.membership_total`, 1],
      ]),
      ...['streams_started', 'stream_msgs_sent', 'stream_msgs_received'].map(
        (name) => [extProcStat(name), 100] as const,
      ),
      ...['failure_mode_allowed', 'message_timeouts', 'rejected_header_mutations'].map(
        (name) => [extProcStat(name), 0] as const,
      ),
    ]),
    runtime: new Map([[GRACEFUL_CLOSE_FLAG, 'true']]),
    dump: {
      BootstrapConfigDump: { bootstrap },
      ClustersConfigDump: {
        static_clusters: wrapped(
          list(bootstrap, 'static_resources', 'clusters'),
          'cluster',
          'envoy.config.cluster.v3.Cluster',
        ),
      },
      ListenersConfigDump: {
        static_listeners: wrapped(
          list(bootstrap, 'static_resources', 'listeners'),
          'listener',
          'envoy.config.listener.v3.Listener',
        ),
      },
    },
    version: '1.40.0',
  };
}

export function extProcStat(name: string): string {
  return `http.edge.ext_proc.${name}`;
}

/** The connection manager of the edge. */
export function managerOf(envoy: FakeEnvoy): Tree {
  const listener = tree(envoy.dump, 'ListenersConfigDump', 'static_listeners', 0, 'listener');
  return tree(listener, 'filter_chains', 0, 'filters', 0, 'typed_config');
}

export function answersOf({ bootstrap, dump, stats, runtime, version }: FakeEnvoy): AdminAnswers {
  const clusters = list(bootstrap, 'static_resources', 'clusters').flatMap((item) =>
    isTree(item) && typeof item.name === 'string' ? item.name : [],
  );
  const host = (name: string) => ({
    address:
      name === 'site_persistence'
        ? { socket_address: { address: '127.0.0.1', port_value: 9002 } }
        : { socket_address: { address: '127.0.0.1', port_value: 3001 } },
    health_status: { eds_health_status: 'HEALTHY' },
  });
  return {
    serverInfo: { json: { version: `abc/${version}/Clean/RELEASE/BoringSSL` } },
    configDump: {
      json: {
        configs: Object.entries(dump).map(([type, section]) => ({ '@type': ADMIN_TYPE + type, ...tree(section) })),
      },
    },
    clusters: { json: { cluster_statuses: clusters.map((name) => ({ name, host_statuses: [host(name)] })) } },
    listeners: { json: { listener_statuses: [{ name: 'edge' }] } },
    runtime: {
      json: { entries: Object.fromEntries([...runtime].map(([key, final_value]) => [key, { final_value }])) },
    },
    stats: { json: { stats: [...stats].map(([name, value]) => ({ name, value })) } },
  };
}

/** All but what is fine, as `mark check: text`. */
export function troublesOf(envoy: FakeEnvoy, config: Config = CONFIG): string[] {
  return describeTroubles(examine(config, readSnapshot(answersOf(envoy)), AROUND));
}

export function describeTroubles(findings: readonly Finding[]): string[] {
  return findings.filter(({ mark }) => mark !== 'ok').map(({ mark, check, text }) => `${mark} ${check}: ${text}`);
}
