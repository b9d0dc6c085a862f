import { z } from 'zod';
import { type Address, formatAddress } from '../config/address.ts';
import { AdminError, openAdminConnection, pathOf } from './connection.ts';
import { escapeRegex } from './regex.ts';

/** A pool's servers as Envoy counts them. */
export interface PoolCount {
  /** Usable: healthy or degraded. */
  readonly up: number;
  readonly total: number;
  /** Of the total those that Envoy neither sends new sessions to nor misses, above all those that drain. */
  readonly excluded: number;
  /** Health checks that failed since Envoy started; null where that is not to be seen. */
  readonly failedChecks: number | null;
  /** The same of those that succeeded. */
  readonly succeededChecks: number | null;
}

export interface Host {
  /** `address:port`, or the path of a Unix socket. */
  readonly address: string;
  readonly up: boolean;
  /** It gets no new sessions, and so is not up; it serves its own as long as its health checks pass. */
  readonly draining: boolean;
  /** Why it is not up, in Envoy's words; empty where it is. */
  readonly why: string;
}

/** What is counted, as one poll asks for it. */
export interface Counts {
  /** By cluster; one without an entry has no gauges to see. */
  readonly pools: ReadonlyMap<string, PoolCount>;
  /**
   * Whether a cluster is not in use yet. One that is to take another's place has the gauges of its name already, and its
   * servers are still to be checked.
   */
  readonly isWarming: boolean;
  /** Requests that were answered since Envoy started, by their route's `stat_prefix`; one without an entry had none. */
  readonly routes: ReadonlyMap<string, number>;
  /** The same of those that the edge's health_check filter answered. */
  readonly statusAnswers: number;
  /**
   * What became of the sessions that live here, by the `stat_prefix` of their stickiness: how many requests got another server
   * than their cookie names. One without an entry had none of such sessions, or this Envoy does not count them.
   */
  readonly ownSessions: ReadonlyMap<string, { readonly failedOpen: number }>;
}

/** What Envoy has taken of the files that it watches, and what not. */
export interface FileUpdates {
  /** The `version_info` of the last one taken, by stat prefix: `cluster_manager.cds`, `cluster.<name>`, `rds.<name>`. */
  readonly versions: ReadonlyMap<string, string>;
  /** How many it did not take since its start, by the same. */
  readonly refusals: ReadonlyMap<string, number>;
  /** Clusters and listeners that are not in use yet. */
  readonly warming: number;
  /** Fields that it did not know and left out, since its start. */
  readonly unknownFields: number;
}

export interface AdminClient {
  /** One request that costs the same however many hosts there are. @param statPrefixes of routes */
  count(clusters: readonly string[], statPrefixes: readonly string[]): Promise<Counts>;
  /**
   * Each host of these clusters; a cluster without an entry is not known to Envoy.
   * @param maxBytes see {@link maxBytesOfHosts}; by default enough for about 3,000 hosts
   */
  listHosts(clusters: readonly string[], maxBytes?: number): Promise<ReadonlyMap<string, readonly Host[]>>;
  /** The values in force of these runtime keys; one without an entry is in no layer of Envoy's runtime. */
  readRuntime(keys: readonly string[]): Promise<ReadonlyMap<string, string>>;
  /** Sets runtime keys until Envoy ends. Takes an `admin_layer` in Envoy's `layered_runtime`. */
  writeRuntime(values: ReadonlyMap<string, string>): Promise<void>;
  readFileUpdates(): Promise<FileUpdates>;
  /** What Envoy says of listeners that it does not take; of nothing else does it say why. */
  listenerErrors(): Promise<readonly string[]>;
  /** Drops the connection and whatever is being asked. */
  close(): void;
}

/** Four gauges and counters of a cluster, with its name in each. */
const MAX_STATS_BYTES_PER_CLUSTER = 4 * 1024;
/** The same of each of some thousand clusters. */
const MAX_STATS_BYTES = 8 * 1024 * 1024;
/** Envoy takes 60 kB of headers; so many names are not faster than all names, either. */
const MAX_FILTER_LENGTH = 8_000;
/** Of every layer of the runtime; beside ours there are Envoy's own flags. */
const MAX_RUNTIME_BYTES = 1024 * 1024;
/** With every listener's config. */
const MAX_DUMP_BYTES = 64 * 1024 * 1024;
/** `OK`, or one line that says why not. */
const MAX_POST_BYTES = 16 * 1024;
/** Half of what Envoy's admin interface takes. */
const MAX_POST_PATH_LENGTH = 30_000;

/** Envoy's admin interface answers 431 to a request whose headers with the path have more than 60 KiB. */
const MAX_NAMES_LENGTH = 50_000;
/** What comes beside them: braces, circuit breakers, quantiles of histograms. */
const MAX_OTHER_BYTES = 16 * 1024;
/** Where nobody knows how many hosts there are. */
const MAX_HOSTS_BYTES = 2 * 1024 * 1024;
/** Envoy says about 700 bytes of a host. */
const MAX_BYTES_PER_HOST = 1_500;

/** What Envoy may say at most of a cluster with so many hosts. */
export function maxBytesOfHosts(hosts: number): number {
  return MAX_OTHER_BYTES + hosts * MAX_BYTES_PER_HOST;
}

/** More entries than of hosts, clusters or gauges there can be. */
const MAX_ENTRIES = 100_000;

/** Ends with the first wrong entry: to describe each of a million holds up every decision for seconds. */
function listOf<T>(entry: z.ZodType<T>) {
  return z.array(z.unknown()).transform((values, context): T[] => {
    const entries: T[] = [];
    for (const value of values.length > MAX_ENTRIES ? [undefined] : values) {
      const result = entry.safeParse(value);
      if (!result.success) {
        context.addIssue({ code: 'custom', message: `not a list of at most ${MAX_ENTRIES} such entries` });
        return z.NEVER;
      }
      entries.push(result.data);
    }
    return entries;
  });
}

/** Any object, of which nothing is looked at but what is asked for. */
const anyObject = z.custom<Readonly<Record<string, unknown>>>((value) => typeof value === 'object' && value !== null);

/** Entries are looked at one by one where they are used: there may be thousands, each time. */
const statsAnswer = z.object({ stats: z.custom<readonly unknown[]>(Array.isArray) });

const hostStatus = z.object({
  address: z
    .object({
      socket_address: z.object({ address: z.string(), port_value: z.number() }).optional(),
      pipe: z.object({ path: z.string() }).optional(),
      envoy_internal_address: z.object({ endpoint_id: z.string().optional() }).optional(),
    })
    .optional(),
  health_status: anyObject.default({}),
});

/** What `/clusters?format=json` says, as far as it is read. */
export const clustersAnswer = z.object({
  cluster_statuses: listOf(
    z.object({
      name: z.string(),
      observability_name: z.string().optional(),
      host_statuses: listOf(hostStatus).default([]),
    }),
  ).default([]),
});

/** What `/config_dump?resource=dynamic_listeners` says. */
const listenersAnswer = z.object({
  configs: listOf(
    z.object({ name: z.string().default(''), error_state: z.object({ details: z.string().default('') }).optional() }),
  ).default([]),
});

const runtimeAnswer = z.object({ entries: anyObject.default({}) });
const runtimeEntry = z.object({ final_value: z.string() });

type HostStatus = z.infer<typeof hostStatus>;

/** Talks to one Envoy's admin interface, over one kept-open connection. Each request is given up after `timeoutMs`. */
export function createAdminClient(admin: Address, timeoutMs: number): AdminClient {
  const connection = openAdminConnection(admin, timeoutMs);
  const { ask } = connection;
  /** Of clusters that have another name in Envoy's stats (`alt_stat_name`), as far as their hosts were listed. */
  const observabilityNames = new Map<string, string>();

  async function getJson<T>(path: string, shape: z.ZodType<T>, maxBytes: number): Promise<T> {
    const { status, body } = await ask('GET', path, maxBytes);
    if (status !== 200) throw new AdminError('ADMIN_BAD_ANSWER', `it answered ${status} to GET ${pathOf(path)}`);
    let json: unknown;
    try {
      json = JSON.parse(body);
    } catch (error) {
      throw new AdminError('ADMIN_BAD_ANSWER', 'its answer is not JSON: is this really Envoy?', { cause: error });
    }
    const result = shape.safeParse(json);
    if (!result.success) {
      throw notEnvoys();
    }
    return result.data;
  }

  return {
    async count(clusters, statPrefixes) {
      // `usedonly` spares Envoy the most of its work: beside 1,000 other clusters it takes a fifth of the time.
      const statNames = new Map(
        clusters.map((cluster) => [cluster, statName(observabilityNames.get(cluster) ?? cluster)]),
      );
      const { filter, maxBytes } = filterOf([...statNames.values()], statPrefixes);
      const path = `/stats?format=json&usedonly&filter=${encodeURIComponent(filter)}`;
      const { stats } = await getJson(path, statsAnswer, maxBytes);
      return { pools: readCounts(stats, statNames), ...readOthers(stats) };
    },

    async listHosts(clusters, maxBytes = MAX_HOSTS_BYTES) {
      const wanted = new Set(clusters);
      const hosts = new Map<string, readonly Host[]>();
      for (const names of alternatives(clusters)) {
        const path = `/clusters?format=json&filter=${encodeURIComponent(`^(${names})$`)}`;
        const answer = await getJson(path, clustersAnswer, maxBytes);
        for (const { name, observability_name: ofStats = name, host_statuses } of answer.cluster_statuses) {
          if (!wanted.has(name)) continue;
          hosts.set(name, host_statuses.map(readHost));
          observabilityNames.set(name, ofStats);
        }
      }
      return hosts;
    },

    async readRuntime(keys) {
      const { entries } = await getJson('/runtime?format=json', runtimeAnswer, MAX_RUNTIME_BYTES);
      const values = new Map<string, string>();
      for (const key of keys) {
        const entry = runtimeEntry.optional().safeParse(entries[key]);
        if (!entry.success) throw new AdminError('ADMIN_BAD_ANSWER', `its runtime has no value of ${key} that is text`);
        if (entry.data !== undefined) values.set(key, entry.data.final_value);
      }
      return values;
    },

    async writeRuntime(values) {
      const pairs = [...values].map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`);
      while (pairs.length > 0) {
        let query = pairs.shift() ?? '';
        while (pairs[0] !== undefined && query.length + pairs[0].length < MAX_POST_PATH_LENGTH)
          query += `&${pairs.shift()}`;
        const { status, body } = await ask('POST', `/runtime_modify?${query}`, MAX_POST_BYTES);
        const why = body.split('\n', 1)[0] ?? '';
        if (status === 200 && why === 'OK') continue;
        throw new AdminError('ADMIN_BAD_ANSWER', `it answered ${status} to POST /runtime_modify: ${why}`);
      }
    },

    async readFileUpdates() {
      const path = `/stats?format=json&filter=${encodeURIComponent(`\\.(${UPDATES.join('|')})$`)}`;
      const { stats } = await getJson(path, statsAnswer, MAX_STATS_BYTES);
      return readUpdates(stats);
    },

    async listenerErrors() {
      const path = '/config_dump?resource=dynamic_listeners';
      const { configs } = await getJson(path, listenersAnswer, MAX_DUMP_BYTES);
      return configs.flatMap(({ name, error_state }) => {
        return error_state === undefined ? [] : [`listener ${name}: ${error_state.details.split('\n', 1)[0]}`];
      });
    },

    close: () => connection.close(),
  };
}

const WARMING_GAUGES = ['warming_clusters', 'total_listeners_warming'];
const UPDATES = ['version_text', 'update_rejected', 'update_failure', 'dynamic_unknown_fields', ...WARMING_GAUGES];

function readUpdates(stats: readonly unknown[]): FileUpdates {
  const versions = new Map<string, string>();
  const refusals = new Map<string, number>();
  let [warming, unknownFields] = [0, 0];
  for (const { name, value } of stats.flatMap(readAnyStat)) {
    const end = name.lastIndexOf('.');
    // The connection manager's own prefix may be anything.
    const prefix = name.slice(0, end).replace(/^http\..*?\.(rds\..+)$/, '$1');
    if (typeof value === 'string') versions.set(prefix, value);
    else if (WARMING_GAUGES.includes(name.slice(end + 1))) warming += value;
    else if (name.endsWith('.dynamic_unknown_fields')) unknownFields = value;
    else refusals.set(prefix, (refusals.get(prefix) ?? 0) + value);
  }
  return { versions, refusals, warming, unknownFields };
}

/** A regular expression for these stats, or for all of their kind where they are too many, and how long the answer may be. */
function filterOf(statNames: readonly string[], statPrefixes: readonly string[]) {
  const names = statNames.map(escapeRegex).join('|');
  const prefixes = statPrefixes.map(escapeRegex).join('|');
  const isTooLong = names.length + prefixes.length > MAX_FILTER_LENGTH;
  const pools = `cluster\\.(${isTooLong ? '.*' : names})\\.(membership_(healthy|degraded|excluded|total)|health_check\\.(failure|success))`;
  const routes = `vhost\\..*\\.route\\.(${isTooLong ? 'site_persistence_.*' : prefixes})\\.upstream_rq_completed`;
  return {
    filter: `^(${[pools, WARMING, OWN_SESSIONS, ...(prefixes === '' ? [] : [routes, STATUS_ANSWERS])].join('|')})$`,
    maxBytes: isTooLong
      ? MAX_STATS_BYTES
      : MAX_OTHER_BYTES + (statNames.length + statPrefixes.length) * MAX_STATS_BYTES_PER_CLUSTER,
  };
}

/** Of routes, and not of the filter itself, which counts new sessions as well. With `routed` it is known that there is such a counter. */
const OWN_SESSIONS = 'stateful_session\\.site_persistence_.*_own_sessions\\.(routed|failed_open)';
const OF_OWN_SESSIONS = /^stateful_session\.([^.]+)\.(routed|failed_open)$/;
const WARMING = 'cluster_manager\\.warming_clusters';
/** Of the edge and of the listener that other sites forward to. */
const STATUS_ANSWERS = 'http\\.(hop_)?edge\\.health_check\\.request_total';
const STATUS_ANSWER = /^http\..*\.health_check\.request_total$/;
const OF_ROUTE = /^vhost\..*\.route\.([^.]+)\.upstream_rq_completed$/;

function readOthers(stats: readonly unknown[]): Omit<Counts, 'pools'> {
  const routes = new Map<string, number>();
  const ownSessions = new Map<string, { failedOpen: number }>();
  let statusAnswers = 0;
  let isWarming = false;
  for (const { name, value } of stats.flatMap(readStat)) {
    const prefix = OF_ROUTE.exec(name)?.[1];
    const [, ofSessions, counter] = OF_OWN_SESSIONS.exec(name) ?? [];
    if (prefix !== undefined) routes.set(prefix, (routes.get(prefix) ?? 0) + value);
    else if (ofSessions !== undefined) {
      const { failedOpen } = ownSessions.get(ofSessions) ?? { failedOpen: 0 };
      ownSessions.set(ofSessions, { failedOpen: failedOpen + (counter === 'failed_open' ? value : 0) });
    } else if (STATUS_ANSWER.test(name)) statusAnswers += value;
    else if (name.endsWith('.warming_clusters')) isWarming = value > 0;
  }
  return { routes, statusAnswers, ownSessions, isWarming };
}

/** None where it is a histogram. @throws AdminError where it is no stat */
function readStat(stat: unknown): { readonly name: string; readonly value: number }[] {
  return readAnyStat(stat).flatMap(({ name, value }) => (typeof value === 'number' ? [{ name, value }] : []));
}

/** The same with texts. */
function readAnyStat(stat: unknown): { readonly name: string; readonly value: number | string }[] {
  if (typeof stat !== 'object' || stat === null) throw notEnvoys();
  if (!('name' in stat) || !('value' in stat)) return [];
  const { name, value } = stat;
  const isRead = typeof name === 'string' && (typeof value === 'number' || typeof value === 'string');
  return isRead ? [{ name, value }] : [];
}

type Counted = Partial<Record<(typeof COUNTED)[number], number>>;

const COUNTED = [
  ...(['membership_healthy', 'membership_degraded', 'membership_excluded', 'membership_total'] as const),
  ...(['health_check.failure', 'health_check.success'] as const),
] as const;

/** @param statNames by cluster */
function readCounts(stats: readonly unknown[], statNames: ReadonlyMap<string, string>): ReadonlyMap<string, PoolCount> {
  const byStatName = new Map<string, Counted>([...statNames.values()].map((name) => [name, {}]));
  for (const { name, value } of stats.flatMap(readStat)) {
    const counted = COUNTED.find((ending) => name.endsWith(ending));
    if (counted === undefined) continue;
    const of = byStatName.get(name.slice('cluster.'.length, -counted.length - 1));
    if (of !== undefined) of[counted] = value;
  }
  const counts = new Map<string, PoolCount>();
  for (const [cluster, name] of statNames) {
    const counted = byStatName.get(name);
    const { membership_healthy: healthy, membership_total: total } = counted ?? {};
    if (counted === undefined || healthy === undefined || total === undefined) continue;
    counts.set(cluster, {
      up: healthy + (counted.membership_degraded ?? 0),
      total,
      excluded: counted.membership_excluded ?? 0,
      // Not there before the first.
      failedChecks: counted['health_check.failure'] ?? 0,
      succeededChecks: counted['health_check.success'] ?? 0,
    });
  }
  return counts;
}

function notEnvoys(): AdminError {
  return new AdminError('ADMIN_BAD_ANSWER', 'its answer is not what Envoy says: is this really Envoy?');
}

/** How an Envoy is called in messages: `http://127.0.0.1:9901` or `unix:/path`. */
export function describeAdmin(admin: Address): string {
  return admin.kind === 'unix' ? formatAddress(admin) : `http://${formatAddress(admin)}`;
}

/** Names as alternatives of a regular expression, in as many parts as it takes for each to fit into a path. */
function alternatives(names: readonly string[]): string[] {
  const parts: string[] = [];
  let part: string[] = [];
  let length = 0;
  for (const name of names.map(escapeRegex)) {
    length += encodeURIComponent(`${name}|`).length;
    if (part.length > 0 && length > MAX_NAMES_LENGTH) {
      parts.push(part.join('|'));
      part = [];
      length = encodeURIComponent(`${name}|`).length;
    }
    part.push(name);
  }
  return [...parts, part.join('|')];
}

/** As Envoy writes the name of a cluster in its stats: with `_` for `://`, `:/` and `:`. */
export function statName(cluster: string): string {
  return cluster.replaceAll(/:\/{0,2}/g, '_');
}

const USABLE_EDS_STATES = ['HEALTHY', 'UNKNOWN', 'DEGRADED', 'DRAINING'];

/**
 * The flags of envoy.admin.v3.HostHealthStatus that take a host out of the load balancing. A host that DNS no longer has
 * (`pending_dynamic_removal`) is in use for as long as its health checks pass.
 */
const DOWN_FLAGS = ['failed_active_health_check', 'failed_outlier_check'];

/** Of an internal address the id of the endpoint, which is rendered as the address that the listener leads to. */
function addressOf({ address }: HostStatus): string {
  const socket = address?.socket_address;
  if (socket !== undefined) return formatAddress({ kind: 'tcp', host: socket.address, port: socket.port_value });
  return address?.pipe?.path ?? address?.envoy_internal_address?.endpoint_id ?? 'unknown address';
}

export function readHost(host: HostStatus): Host {
  const address = addressOf(host);
  const eds = host.health_status.eds_health_status;
  const draining = eds === 'DRAINING';
  const reasons = [
    ...(draining ? ['draining'] : []),
    ...DOWN_FLAGS.filter((flag) => host.health_status[flag] === true).map((flag) => flag.replaceAll('_', ' ')),
    ...(typeof eds === 'string' && !USABLE_EDS_STATES.includes(eds) ? [`EDS says ${eds}`] : []),
  ];
  return { address, up: reasons.length === 0, draining, why: reasons.join(', ') };
}
