import { formatAddress } from '../config/address.ts';
import { type AdminAnswer, type AdminAnswers, type AdminEndpoint, endpointPath } from '../envoy-admin/admin-answers.ts';
import { clustersAnswer, type Host, readHost } from '../envoy-admin/admin-client.ts';
import { type ConnectionManager, readConnectionManagers } from './connection-managers.ts';
import { at, entriesAt, listAt, numberAt, textAt, typeOf } from './json.ts';

/** A running Envoy as its admin interface shows it. Parts of its config are JSON of whatever shape. */
export interface EnvoySnapshot {
  /** `1.40.0`; null where it was not to be seen. */
  readonly version: string | null;
  readonly bootstrap: unknown;
  /** The config of each cluster in use. */
  readonly clusters: ReadonlyMap<string, unknown>;
  /** Null where `/clusters` was not to be read. */
  readonly hosts: ReadonlyMap<string, readonly Host[]> | null;
  readonly connectionManagers: readonly ConnectionManager[];
  /** The listeners that are open. */
  readonly openListeners: ReadonlySet<string> | null;
  /** Each key's value in force. */
  readonly runtime: ReadonlyMap<string, string> | null;
  readonly stats: ReadonlyMap<string, number> | null;
  /** Updates of clusters, listeners and filters that Envoy has refused. */
  readonly refusedUpdates: readonly string[];
  /** What could not be read, and why. */
  readonly unread: ReadonlyMap<AdminEndpoint, string>;
}

/** Reads what an Envoy has answered. Never throws, whatever the shapes. */
export function readSnapshot(answers: AdminAnswers): EnvoySnapshot {
  const dump = readConfigDump(jsonOf(answers.configDump));
  const unread = new Map<AdminEndpoint, string>();
  for (const endpoint of ENDPOINTS) {
    const answer = answers[endpoint];
    if ('why' in answer) unread.set(endpoint, answer.why);
  }
  const hosts = readHosts(answers.clusters);
  if (hosts === null && !unread.has('clusters'))
    unread.set('clusters', `GET ${endpointPath('clusters')} has another shape`);
  return {
    version: readVersion(jsonOf(answers.serverInfo)),
    ...dump,
    hosts,
    openListeners:
      'why' in answers.listeners
        ? null
        : new Set(listAt(answers.listeners.json, 'listener_statuses').map((status) => textAt(status, 'name') ?? '')),
    runtime: 'why' in answers.runtime ? null : readRuntime(answers.runtime.json),
    stats: 'why' in answers.stats ? null : readStats(answers.stats.json),
    unread,
  };
}

const ENDPOINTS = ['serverInfo', 'configDump', 'clusters', 'listeners', 'runtime', 'stats'] as const;

function jsonOf(answer: AdminAnswer): unknown {
  return 'why' in answer ? undefined : answer.json;
}

/** `sha/1.40.0/Clean/RELEASE/BoringSSL`, and in builds of others something after the version, such as `1.40.0-dev`. */
function readVersion(serverInfo: unknown): string | null {
  return /\/(\d+\.\d+\.\d+[^/]*)\//.exec(textAt(serverInfo, 'version') ?? '')?.[1] ?? null;
}

function readHosts(answer: AdminAnswer): ReadonlyMap<string, readonly Host[]> | null {
  const parsed = clustersAnswer.safeParse(jsonOf(answer));
  if (!parsed.success) return null;
  return new Map(parsed.data.cluster_statuses.map(({ name, host_statuses }) => [name, host_statuses.map(readHost)]));
}

function readRuntime(answer: unknown): Map<string, string> {
  const entries = entriesAt(answer, 'entries');
  return new Map(entries.map(([key, entry]) => [key, textAt(entry, 'final_value') ?? '']));
}

function readStats(answer: unknown): Map<string, number> {
  const values = new Map<string, number>();
  for (const stat of listAt(answer, 'stats')) {
    const [name, value] = [textAt(stat, 'name'), numberAt(stat, 'value')];
    if (name !== undefined && value !== undefined) values.set(name, value);
  }
  return values;
}

function readConfigDump(dump: unknown) {
  const sections = new Map(listAt(dump, 'configs').map((section) => [typeOf(section)?.replace(/^.*\./, ''), section]));
  const clusterDump = sections.get('ClustersConfigDump');
  const listenerDump = sections.get('ListenersConfigDump');
  const ecdsDump = sections.get('EcdsConfigDump');

  const clusters = new Map<string, unknown>();
  for (const kind of ['static_clusters', 'dynamic_active_clusters']) {
    for (const entry of listAt(clusterDump, kind)) {
      const cluster = at(entry, 'cluster');
      const name = textAt(cluster, 'name');
      if (name !== undefined) clusters.set(name, cluster);
    }
  }
  const listeners = [
    ...listAt(listenerDump, 'static_listeners').map((entry) => at(entry, 'listener')),
    // One that is only warming takes no traffic yet.
    ...listAt(listenerDump, 'dynamic_listeners').map((entry) => at(entry, 'active_state', 'listener')),
  ].filter((listener) => listener !== undefined);
  const routeConfigs = new Map<string, unknown>();
  for (const entry of listAt(sections.get('RoutesConfigDump'), 'dynamic_route_configs')) {
    const routeConfig = at(entry, 'route_config');
    const name = textAt(routeConfig, 'name');
    if (name !== undefined) routeConfigs.set(name, routeConfig);
  }
  const extensions = new Map<string, unknown>();
  for (const entry of listAt(ecdsDump, 'ecds_filters')) {
    const name = textAt(entry, 'ecds_filter', 'name');
    if (name !== undefined) extensions.set(name, at(entry, 'ecds_filter', 'typed_config'));
  }
  return {
    bootstrap: at(sections.get('BootstrapConfigDump'), 'bootstrap'),
    clusters,
    connectionManagers: readConnectionManagers(listeners, routeConfigs, extensions),
    refusedUpdates: [
      ...refusals('cluster', listAt(clusterDump, 'dynamic_active_clusters'), 'cluster'),
      ...refusals('cluster', listAt(clusterDump, 'dynamic_warming_clusters'), 'cluster'),
      ...refusals('listener', listAt(listenerDump, 'dynamic_listeners')),
      ...refusals('filter', listAt(ecdsDump, 'ecds_filters'), 'ecds_filter'),
    ],
  };
}

function refusals(kind: string, entries: readonly unknown[], member?: string): string[] {
  return entries.flatMap((entry) => {
    const details = textAt(entry, 'error_state', 'details');
    const name = member === undefined ? textAt(entry, 'name') : textAt(entry, member, 'name');
    return details === undefined ? [] : [`${kind} ${name ?? '(no name)'}: ${details.split('\n', 1)[0]}`];
  });
}

/** `host:port` or `unix:/path`, as the config file writes it. */
export function formatEnvoyAddress(address: unknown): string | undefined {
  const path = textAt(address, 'pipe', 'path');
  if (path !== undefined) return `unix:${path}`;
  const host = textAt(address, 'socket_address', 'address');
  const port = numberAt(address, 'socket_address', 'port_value');
  return host === undefined || port === undefined ? undefined : formatAddress({ kind: 'tcp', host, port });
}

/** Where a cluster leads, as far as it is known: by its config, and by the hosts that Envoy has found. */
export function addressesOf(snapshot: EnvoySnapshot, cluster: string): ReadonlySet<string> {
  const addresses = new Set<string>();
  for (const group of listAt(snapshot.clusters.get(cluster), 'load_assignment', 'endpoints')) {
    for (const endpoint of listAt(group, 'lb_endpoints')) {
      const address = formatEnvoyAddress(at(endpoint, 'endpoint', 'address'));
      if (address !== undefined) addresses.add(address);
    }
  }
  for (const { address } of snapshot.hosts?.get(cluster) ?? []) {
    addresses.add(address.startsWith('/') ? `unix:${address}` : address);
  }
  return addresses;
}
