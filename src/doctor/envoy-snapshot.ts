import { formatAddress } from '../config/address.ts';
import { type AdminAnswer, type AdminAnswers, type AdminEndpoint, endpointPath } from '../envoy-admin/admin-answers.ts';
import { clustersAnswer, type Host, readHost, statName } from '../envoy-admin/admin-client.ts';
import { type ConnectionManager, readConnectionManagers } from './connection-managers.ts';
import { at, entriesAt, listAt, numberAt, textAt, typeOf } from './json.ts';

/** A running Envoy as its admin interface shows it. Parts of its config are JSON of whatever shape. */
export interface EnvoySnapshot {
  /** Whether an Envoy was asked; else it is config from a file, which shows neither hosts nor statistics. */
  readonly isRunning: boolean;
  /** `1.40.0`; null where it was not to be seen. */
  readonly version: string | null;
  readonly bootstrap: unknown;
  /** The config of each cluster in use. */
  readonly clusters: ReadonlyMap<string, unknown>;
  /** Null where `/clusters` was not to be read. */
  readonly hosts: ReadonlyMap<string, readonly Host[]> | null;
  /** How each cluster is called in the stats. */
  readonly observabilityNames: ReadonlyMap<string, string>;
  readonly connectionManagers: readonly ConnectionManager[];
  /** The listeners that are open. */
  readonly openListeners: ReadonlySet<string> | null;
  /** Each key's value in force. */
  readonly runtime: ReadonlyMap<string, string> | null;
  readonly stats: ReadonlyMap<string, number> | null;
  /** Updates of clusters, listeners and filters that Envoy has refused; null where they are not to be seen. */
  readonly refusedUpdates: readonly string[] | null;
  /** What Envoy has taken of the files that it watches, by their stat prefix; empty where it watches none. */
  readonly fileVersions: ReadonlyMap<string, string>;
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
  const statuses = readClusterStatuses(answers.clusters);
  const hosts =
    statuses === null ? null : new Map(statuses.map(({ name, host_statuses }) => [name, host_statuses.map(readHost)]));
  if (hosts === null && !unread.has('clusters'))
    unread.set('clusters', `GET ${endpointPath('clusters')} has another shape`);
  return {
    isRunning: true,
    version: readVersion(jsonOf(answers.serverInfo)),
    ...dump,
    hosts,
    observabilityNames: new Map(
      (statuses ?? []).map(({ name, observability_name: ofStats = name }) => [name, ofStats]),
    ),
    openListeners:
      'why' in answers.listeners
        ? null
        : new Set(listAt(answers.listeners.json, 'listener_statuses').map((status) => textAt(status, 'name') ?? '')),
    runtime: 'why' in answers.runtime ? null : readRuntime(answers.runtime.json),
    stats: 'why' in answers.stats ? null : readStats(answers.stats.json),
    unread,
  };
}

/**
 * What an Envoy with this bootstrap would have. Never throws, whatever the shape.
 * @param isWhole whether what comes by files stands in it as well
 */
export function snapshotOfBootstrap(bootstrap: unknown, isWhole = false): EnvoySnapshot {
  const resources = at(bootstrap, 'static_resources');
  const isDynamic = ['lds_config', 'cds_config'].some((name) => at(bootstrap, 'dynamic_resources', name) !== undefined);
  const isPart = isDynamic && !isWhole;
  return {
    ...notRunning(bootstrap),
    unread: new Map(isPart ? [['configDump', 'what comes by xDS is not in the bootstrap'] as const] : []),
    bootstrap,
    clusters: byName(listAt(resources, 'clusters')),
    connectionManagers: readConnectionManagers(listAt(resources, 'listeners'), new Map(), new Map()),
    refusedUpdates: null,
    fileVersions: new Map(),
  };
}

/** What an Envoy had when it answered `GET /config_dump` so. Never throws, whatever the shape. */
export function snapshotOfDump(dump: unknown): EnvoySnapshot {
  const config = readConfigDump(dump);
  return { ...notRunning(config.bootstrap), ...config };
}

function notRunning(bootstrap: unknown) {
  return {
    isRunning: false,
    version: builtVersion(bootstrap),
    hosts: null,
    observabilityNames: new Map<string, string>(),
    openListeners: null,
    runtime: bootstrap === undefined ? null : staticRuntime(bootstrap),
    stats: null,
    unread: new Map<AdminEndpoint, string>(),
  };
}

/** An Envoy writes its own version into the bootstrap that it shows. */
function builtVersion(bootstrap: unknown): string | null {
  const version = at(bootstrap, 'node', 'user_agent_build_version', 'version');
  const [major, minor] = [numberAt(version, 'major_number'), numberAt(version, 'minor_number')];
  return major === undefined || minor === undefined ? null : `${major}.${minor}.${numberAt(version, 'patch') ?? 0}`;
}

/** The runtime as the bootstrap sets it, of which later layers win; keys may be nested. */
function staticRuntime(bootstrap: unknown): Map<string, string> {
  const values = new Map<string, string>();
  const read = (layer: unknown, prefix: string): void => {
    for (const [key, value] of entriesAt(layer)) {
      if (typeof value === 'object' && value !== null) read(value, `${prefix}${key}.`);
      else values.set(`${prefix}${key}`, String(value));
    }
  };
  for (const layer of listAt(bootstrap, 'layered_runtime', 'layers')) read(at(layer, 'static_layer'), '');
  return values;
}

function byName(clusters: readonly unknown[]): Map<string, unknown> {
  return new Map(clusters.flatMap((cluster) => [[textAt(cluster, 'name') ?? '', cluster] as const]));
}

const ENDPOINTS = ['serverInfo', 'configDump', 'clusters', 'listeners', 'runtime', 'stats'] as const;

function jsonOf(answer: AdminAnswer): unknown {
  return 'why' in answer ? undefined : answer.json;
}

/** `sha/1.40.0/Clean/RELEASE/BoringSSL`, and in builds of others something after the version, such as `1.40.0-dev`. */
function readVersion(serverInfo: unknown): string | null {
  return /\/(\d+\.\d+\.\d+[^/]*)\//.exec(textAt(serverInfo, 'version') ?? '')?.[1] ?? null;
}

function readClusterStatuses(answer: AdminAnswer) {
  const parsed = clustersAnswer.safeParse(jsonOf(answer));
  return parsed.success ? parsed.data.cluster_statuses : null;
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

  const endpoints = readEndpoints(sections.get('EndpointsConfigDump'));

  const clusters = new Map<string, unknown>();
  for (const kind of ['static_clusters', 'dynamic_active_clusters']) {
    for (const entry of listAt(clusterDump, kind)) {
      const cluster = at(entry, 'cluster');
      const name = textAt(cluster, 'name');
      if (name !== undefined) clusters.set(name, withEndpoints(cluster, endpoints.get(name)));
    }
  }
  const listeners = [
    ...listAt(listenerDump, 'static_listeners').map((entry) => at(entry, 'listener')),
    // One that is only warming takes no traffic yet.
    ...listAt(listenerDump, 'dynamic_listeners').map((entry) => at(entry, 'active_state', 'listener')),
  ].filter((listener) => listener !== undefined);
  const fileVersions = new Map<string, string>();
  const note = (prefix: string, section: unknown) => {
    const version = textAt(section, 'version_info');
    if (version !== undefined && version !== '') fileVersions.set(prefix, version);
  };
  note('cluster_manager.cds', clusterDump);
  note('listener_manager.lds', listenerDump);
  const routeConfigs = new Map<string, unknown>();
  for (const entry of listAt(sections.get('RoutesConfigDump'), 'dynamic_route_configs')) {
    const routeConfig = at(entry, 'route_config');
    const name = textAt(routeConfig, 'name');
    if (name === undefined) continue;
    routeConfigs.set(name, routeConfig);
    note(`rds.${statName(name)}`, entry);
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
    fileVersions,
    refusedUpdates: [
      ...refusals('cluster', listAt(clusterDump, 'dynamic_active_clusters'), 'cluster'),
      ...refusals('cluster', listAt(clusterDump, 'dynamic_warming_clusters'), 'cluster'),
      ...refusals('listener', listAt(listenerDump, 'dynamic_listeners')),
      ...refusals('filter', listAt(ecdsDump, 'ecds_filters'), 'ecds_filter'),
    ],
  };
}

/** What came by EDS, by cluster: shown only where `?include_eds` asked for it. */
function readEndpoints(dump: unknown): Map<string, unknown> {
  const entries = ['static_endpoint_configs', 'dynamic_endpoint_configs'].flatMap((kind) => listAt(dump, kind));
  return new Map(
    entries.map((entry) => {
      const assignment = at(entry, 'endpoint_config');
      return [textAt(assignment, 'cluster_name') ?? '', assignment] as const;
    }),
  );
}

/** A cluster with its own hosts, or those that came by EDS. */
function withEndpoints(cluster: unknown, endpoints: unknown): unknown {
  if (endpoints === undefined || at(cluster, 'load_assignment') !== undefined) return cluster;
  return { ...Object.fromEntries(entriesAt(cluster)), load_assignment: endpoints };
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
  const through = textAt(address, 'envoy_internal_address', 'endpoint_id');
  if (through !== undefined) return through;
  const host = textAt(address, 'socket_address', 'address');
  const port = numberAt(address, 'socket_address', 'port_value');
  return host === undefined || port === undefined ? undefined : formatAddress({ kind: 'tcp', host, port });
}

/** Where a cluster leads by its config. */
export function listedAddressesOf(snapshot: EnvoySnapshot, cluster: string): ReadonlySet<string> {
  const groups = listAt(snapshot.clusters.get(cluster), 'load_assignment', 'endpoints');
  const addresses = groups.flatMap((group) =>
    listAt(group, 'lb_endpoints').map((endpoint) => formatEnvoyAddress(at(endpoint, 'endpoint', 'address'))),
  );
  return new Set(addresses.filter((address) => address !== undefined));
}

/** Where a cluster leads, as far as it is known: by its config, and by the hosts that Envoy has found. */
export function addressesOf(snapshot: EnvoySnapshot, cluster: string): ReadonlySet<string> {
  const addresses = new Set(listedAddressesOf(snapshot, cluster));
  for (const { address } of snapshot.hosts?.get(cluster) ?? []) {
    addresses.add(address.startsWith('/') ? `unix:${address}` : address);
  }
  return addresses;
}
