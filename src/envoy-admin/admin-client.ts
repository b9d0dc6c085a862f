import { z } from 'zod';
import { type Address, formatAddress } from '../config/address.ts';
import { AdminError, openAdminConnection, pathOf } from './connection.ts';
import { escapeRegex } from './regex.ts';

/** A pool's servers as Envoy counts them. */
export interface PoolCount {
  /** Usable: healthy or degraded. */
  readonly up: number;
  readonly total: number;
  /** Health checks that failed since Envoy started; null where that is not to be seen. */
  readonly failedChecks: number | null;
  /** The same of those that succeeded. */
  readonly succeededChecks: number | null;
}

export interface Host {
  /** `address:port`, or the path of a Unix socket. */
  readonly address: string;
  readonly up: boolean;
  /** Why it is not up, in Envoy's words; empty where it is. */
  readonly why: string;
}

export interface AdminClient {
  /** One request that costs the same however many hosts there are. A cluster without an entry has no gauges to see. */
  countPools(clusters: readonly string[]): Promise<ReadonlyMap<string, PoolCount>>;
  /**
   * Each host of these clusters; a cluster without an entry is not known to Envoy.
   * @param maxBytes see {@link maxBytesOfHosts}; by default enough for about 3,000 hosts
   */
  listHosts(clusters: readonly string[], maxBytes?: number): Promise<ReadonlyMap<string, readonly Host[]>>;
  /** A runtime key's value in force; null where no layer of Envoy's runtime has it. */
  readRuntime(key: string): Promise<string | null>;
  /** Sets a runtime key until Envoy ends. Takes an `admin_layer` in Envoy's `layered_runtime`. */
  writeRuntime(key: string, value: string): Promise<void>;
  /** Drops the connection and whatever is being asked. */
  close(): void;
}

/** Four gauges and counters of a cluster, with its name in each. */
const MAX_STATS_BYTES_PER_CLUSTER = 4 * 1024;
/** Of every layer of the runtime; beside ours there are Envoy's own flags. */
const MAX_RUNTIME_BYTES = 1024 * 1024;
/** `OK`, or one line that says why not. */
const MAX_POST_BYTES = 16 * 1024;
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

const statsAnswer = z.object({
  stats: listOf(z.object({ name: z.string().optional(), value: z.unknown().optional() })),
});

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
  cluster_statuses: listOf(z.object({ name: z.string(), host_statuses: listOf(hostStatus).default([]) })).default([]),
});

const runtimeAnswer = z.object({ entries: anyObject.default({}) });
const runtimeEntry = z.object({ final_value: z.string() });

type HostStatus = z.infer<typeof hostStatus>;

/** Talks to one Envoy's admin interface, over one kept-open connection. Each request is given up after `timeoutMs`. */
export function createAdminClient(admin: Address, timeoutMs: number): AdminClient {
  const connection = openAdminConnection(admin, timeoutMs);
  const { ask } = connection;

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
      throw new AdminError('ADMIN_BAD_ANSWER', 'its answer is not what Envoy says: is this really Envoy?');
    }
    return result.data;
  }

  return {
    async countPools(clusters) {
      const names = clusters.map((cluster) => escapeRegex(statName(cluster))).join('|');
      const filter = `^cluster\\.(${names})\\.(membership_(healthy|degraded|total)|health_check\\.(failure|success))$`;
      // `usedonly` spares Envoy the most of its work: beside 1,000 other clusters it takes a fifth of the time.
      const path = `/stats?format=json&usedonly&filter=${encodeURIComponent(filter)}`;
      const maxBytes = MAX_OTHER_BYTES + clusters.length * MAX_STATS_BYTES_PER_CLUSTER;
      const answer = await getJson(path, statsAnswer, maxBytes);
      const values = new Map<string, number>();
      for (const { name, value } of answer.stats) {
        if (name !== undefined && typeof value === 'number') values.set(name, value);
      }
      const counts = new Map<string, PoolCount>();
      for (const cluster of clusters) {
        const prefix = `cluster.${statName(cluster)}`;
        const healthy = values.get(`${prefix}.membership_healthy`);
        const total = values.get(`${prefix}.membership_total`);
        // Not there before the first.
        const failedChecks = values.get(`${prefix}.health_check.failure`) ?? 0;
        if (healthy === undefined || total === undefined) continue;
        const succeededChecks = values.get(`${prefix}.health_check.success`) ?? 0;
        const up = healthy + (values.get(`${prefix}.membership_degraded`) ?? 0);
        counts.set(cluster, { up, total, failedChecks, succeededChecks });
      }
      return counts;
    },

    async listHosts(clusters, maxBytes = MAX_HOSTS_BYTES) {
      const filter = `^(${clusters.map(escapeRegex).join('|')})$`;
      const path = `/clusters?format=json&filter=${encodeURIComponent(filter)}`;
      const answer = await getJson(path, clustersAnswer, maxBytes);
      const wanted = new Set(clusters);
      const hosts = new Map<string, readonly Host[]>();
      for (const { name, host_statuses } of answer.cluster_statuses) {
        if (wanted.has(name)) hosts.set(name, host_statuses.map(readHost));
      }
      return hosts;
    },

    async readRuntime(key) {
      const { entries } = await getJson('/runtime?format=json', runtimeAnswer, MAX_RUNTIME_BYTES);
      const entry = runtimeEntry.optional().safeParse(entries[key]);
      if (!entry.success) throw new AdminError('ADMIN_BAD_ANSWER', `its runtime has no value of ${key} that is text`);
      return entry.data?.final_value ?? null;
    },

    async writeRuntime(key, value) {
      const { status, body } = await ask(
        'POST',
        `/runtime_modify?${encodeURIComponent(key)}=${encodeURIComponent(value)}`,
        MAX_POST_BYTES,
      );
      const why = body.split('\n', 1)[0] ?? '';
      if (status === 200 && why === 'OK') return;
      throw new AdminError('ADMIN_BAD_ANSWER', `it answered ${status} to POST /runtime_modify: ${why}`);
    },

    close: () => connection.close(),
  };
}

/** How an Envoy is called in messages: `http://127.0.0.1:9901` or `unix:/path`. */
export function describeAdmin(admin: Address): string {
  return admin.kind === 'unix' ? formatAddress(admin) : `http://${formatAddress(admin)}`;
}

/** Envoy writes a cluster's name with `_` for `:` in its stats. */
export function statName(cluster: string): string {
  return cluster.replaceAll(':', '_');
}

const USABLE_EDS_STATES = ['HEALTHY', 'UNKNOWN', 'DEGRADED'];

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
  const reasons = DOWN_FLAGS.filter((flag) => host.health_status[flag] === true).map((flag) =>
    flag.replaceAll('_', ' '),
  );
  const eds = host.health_status.eds_health_status;
  if (typeof eds === 'string' && !USABLE_EDS_STATES.includes(eds)) reasons.push(`EDS says ${eds}`);
  return { address, up: reasons.length === 0, why: reasons.join(', ') };
}
