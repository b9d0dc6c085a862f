import { z } from 'zod';
import { DEFAULT_APPLICATION, ESCAPED_SLASH_ACTIONS, EVERY_HOST, UNDERSCORE_ACTIONS } from './config.ts';
import {
  refuseDuplicates,
  refuseForeignCheckHost,
  refuseHalfDrains,
  refuseLonelyHopListen,
  refuseLonelyMetricsTls,
  refuseLonelySidecarTls,
  refuseLostDefaultHost,
  refuseNamesToClose,
  refuseNamesToHash,
  refuseOwnEdge,
  refuseOwnNames,
  refuseSharedCookies,
  refuseSharedListeners,
  refuseSharedNames,
  refuseTooManyDrains,
  refuseTooManyServers,
  refuseTwoDirectories,
  refuseUnsafeListeners,
  type ToApplication,
} from './conflicts.ts';
import { inCode, Size } from './key-names.ts';
import { type Overlay, unreadOverlay } from './overlay.ts';
import { localPool, remotePool, tls } from './pool-schema.ts';
import {
  address,
  adminAddress,
  applicationName,
  clusterName,
  count,
  durationBetween,
  envoyAddress,
  envoyVersion,
  filePath,
  hostHeader,
  mapping,
  nodeId,
  refusalStatus,
  siteName,
  sizeBetween,
  socketMode,
  someOf,
  trustedHops,
  uriPath,
  userNumber,
  virtualHostDomain,
} from './values.ts';

/** The decision keeps the cookies of a request as bits of a small integer, and a reply for each set of them. */
const MAX_REMOTE_POOLS = 8;

const MAX_SIDECARS = 100;

const MAX_APPLICATIONS = 1_000;

/** Of an application. */
const MAX_HOSTS = 1_000;

/** A listener whose clients must have a certificate, of one of these CAs. */
const listenTls = mapping({ cert_file: filePath, key_file: filePath, client_ca_file: filePath });

/** One of Envoy's listeners; without `client_ca_file` its clients need no certificate. */
const edgeTls = mapping({
  cert_file: filePath,
  key_file: filePath,
  client_ca_file: filePath.nullable().default(null),
});

const health = mapping({
  poll_interval: durationBetween('10ms', '1d').prefault('250ms'),
  stale_after: durationBetween('100ms', '1d').prefault('3s'),
  hold_up: durationBetween('0s', '1d').prefault('0s'),
}).refine((value) => value.stale_after.ms >= 2 * value.poll_interval.ms, {
  error: 'must be at least twice poll_interval, or one late answer makes health unknown',
  path: ['stale_after'],
});

/** Envoy and who writes the files may run in different directories. */
function watchedDirectory(example: string) {
  return (
    filePath
      .refine((path) => path.startsWith('/'), { error: `must be absolute, such as ${example}` })
      // One slash after another would be tried as the first of the last ones.
      .transform((path) => path.replace(/(?<!\/)\/+$/, ''))
  );
}

/** Past these Envoy protects itself. */
const limits = mapping({
  // Of clients, at once.
  connections: count.max(10_000_000, { error: 'must be at most 10000000' }).default(50_000),
  // Null: what the machine has.
  heap: sizeBetween('64MiB', '16TiB')
    .nullable()
    .default(null)
    .transform((heap) => new Size(heap === null ? null : heap.bytes)),
});

const envoy = mapping({
  admin: adminAddress.prefault('http://127.0.0.1:9901'),
  // Null where the operator brings their own Envoy config.
  listen: envoyAddress.nullable().default(null),
  listen_tls: edgeTls.nullable().default(null),
  // Where other sites forward to; null: where clients come to as well.
  hop_listen: envoyAddress.nullable().default(null),
  hop_listen_tls: listenTls.nullable().default(null),
  // The hop header counts at hop_listen only.
  hop_listen_only: z.boolean().default(false),
  // The Host of a request that came without one, as HTTP/1.0 allows; null: one of the application for every host.
  default_host: hostHeader.nullable().default(null),
  sidecars: someOf(address, MAX_SIDECARS, {
    tooMany: `can name at most ${MAX_SIDECARS} sidecars`,
    none: 'must name at least one sidecar, or be left out',
  }).optional(),
  sidecar_tls: tls.nullable().default(null),
  // Files that Envoy watches: all but its bootstrap, or its certificates alone.
  config_dir: watchedDirectory('/etc/envoy/site-persistence').nullable().default(null),
  secrets_dir: watchedDirectory('/etc/envoy/secrets').nullable().default(null),
  // Merged into what is rendered; its path counts from the config file.
  overlay: filePath
    .nullable()
    .default(null)
    .transform((file): Overlay | null => (file === null ? null : unreadOverlay(file))),
  version: envoyVersion.default('1.40'),
  fast_path: z.boolean().default(true),
  // A GET or HEAD whose connection breaks is sent once more.
  retry_on_reset: z.boolean().default(true),
  // A request or WebSocket on which nothing is said in either direction for so long is ended; 0: never.
  stream_idle_timeout: durationBetween('0s', '7d').prefault('5m'),
  limits: limits.prefault({}),
  // So many proxies in front are believed of the client: a CDN, a load balancer.
  trusted_hops: trustedHops.default(0),
  // A load balancer in front says with the PROXY protocol who the client is.
  proxy_protocol: z.boolean().default(false),
  // By which Envoy names itself; null: `<site>-edge`.
  node_id: nodeId.nullable().default(null),
  headers_with_underscores: z.enum(UNDERSCORE_ACTIONS).default('allow'),
  normalize_path: z.boolean().default(true),
  merge_slashes: z.boolean().default(false),
  path_with_escaped_slashes: z.enum(ESCAPED_SLASH_ACTIONS).default('keep'),
});

const onOwnerDown = z.enum(['adopt', 'keep', 'refuse']);
const bothCookies = z.enum(['remote', 'local']);

/** What all applications share, and what they take from here where they do not say it themselves. */
const SHARED = {
  site: siteName,
  listen: address.prefault('127.0.0.1:9002'),
  ops_listen: address.prefault('127.0.0.1:9003'),
  // Where metrics and probes are read as well, and nothing can be changed.
  metrics_listen: address.nullable().default(null),
  listen_tls: listenTls.nullable().default(null),
  ops_listen_tls: listenTls.nullable().default(null),
  metrics_listen_tls: listenTls.nullable().default(null),
  // The status page has buttons to drain; over TLS with client certificates it has them anyway.
  ops_buttons: z.boolean().default(false),
  socket: mapping({ mode: socketMode.prefault('0660'), owner: userNumber, group: userNumber }).prefault({}),
  // Listeners that others can reach may be without TLS.
  insecure: z.boolean().default(false),
  status_uri: uriPath.default('/local_pool_status'),
  on_owner_down: onOwnerDown.default('adopt'),
  both_cookies: bothCookies.default('remote'),
  // Of an answer that says "not served, try elsewhere".
  refusal_status: refusalStatus.default(503),
  drain: z.boolean().default(false),
  health: health.prefault({}),
  envoy: envoy.prefault({}),
};

function remotePools<Pool extends z.ZodType>(pool: Pool) {
  return someOf(pool, MAX_REMOTE_POOLS, {
    tooMany: `can name at most ${MAX_REMOTE_POOLS} other sites`,
    none: 'must name at least one other site',
  });
}

const oneApplicationKeys = mapping({
  ...SHARED,
  local_pool: localPool,
  remote_pools: remotePools(remotePool),
  applications: z.undefined().optional(),
});

/** A file with one application, for every host. */
const oneApplication = oneApplicationKeys.transform(
  ({ status_uri, on_owner_down, both_cookies, drain, local_pool, remote_pools, ...shared }) => {
    const cluster = local_pool.cluster ?? 'local_pool';
    const only = {
      ...{ name: DEFAULT_APPLICATION, hosts: [EVERY_HOST], status_uri, on_owner_down, both_cookies, drain },
      ...{ local_pool: { ...local_pool, cluster }, remote_pools },
    };
    return { ...shared, applications: [only] };
  },
);

const application = mapping({
  name: applicationName,
  hosts: someOf(virtualHostDomain, MAX_HOSTS, {
    tooMany: `can have at most ${MAX_HOSTS} hosts`,
    none: 'must name at least one host, such as shop.example.com',
    instead: 'must be a list of hosts, such as [shop.example.com]',
  }),
  status_uri: uriPath.optional(),
  on_owner_down: onOwnerDown.optional(),
  both_cookies: bothCookies.optional(),
  drain: z.boolean().optional(),
  local_pool: localPool,
  remote_pools: remotePools(mapping({ ...remotePool.shape, cluster: clusterName.optional() })),
});

const IN_EACH = 'is for a file without applications: move it into one of them';

const applications = someOf(application, MAX_APPLICATIONS, {
  tooMany: `can name at most ${MAX_APPLICATIONS} applications`,
  none: 'must name at least one application',
  instead: 'must be a list, each item with a name: - name: shop',
});

const severalApplications = mapping({
  ...SHARED,
  applications,
  local_pool: z.undefined({ error: IN_EACH }).optional(),
  remote_pools: z.undefined({ error: IN_EACH }).optional(),
}).transform(({ status_uri, on_owner_down, both_cookies, drain, local_pool, remote_pools, ...shared }) => ({
  ...shared,
  applications: shared.applications.map((own) => ({
    name: own.name,
    hosts: own.hosts,
    status_uri: own.status_uri ?? status_uri,
    on_owner_down: own.on_owner_down ?? on_owner_down,
    both_cookies: own.both_cookies ?? both_cookies,
    drain: own.drain ?? drain,
    local_pool: { ...own.local_pool, cluster: own.local_pool.cluster ?? `${own.name}_local` },
    remote_pools: own.remote_pools.map((pool) => ({ ...pool, cluster: pool.cluster ?? `${own.name}_${pool.site}` })),
  })),
}));

/** Every key that a file may have, in either form; what the keys must be to each other is not in it. For the JSON schema. */
export const allKeys = oneApplicationKeys.extend({
  local_pool: localPool.optional(),
  remote_pools: oneApplicationKeys.shape.remote_pools.optional(),
  applications: applications.optional(),
});

type ConfigFile = z.output<typeof oneApplication>;

/** @param toApplication the way to the keys of an application, by its place in the list */
function checked(file: z.ZodType<ConfigFile>, toApplication: ToApplication) {
  const ofApplications = [
    refuseTooManyServers,
    refuseDuplicates,
    refuseSharedNames,
    refuseSharedCookies,
    refuseNamesToClose,
    refuseNamesToHash,
    refuseHalfDrains,
    refuseTooManyDrains,
    refuseOwnEdge,
    refuseOwnNames,
    refuseLostDefaultHost,
    refuseForeignCheckHost,
  ];
  return file
    .superRefine((value, context) => {
      for (const refuse of ofApplications) refuse(value, context, toApplication);
    })
    .superRefine(refuseSharedListeners)
    .superRefine(refuseUnsafeListeners)
    .superRefine(refuseLonelyMetricsTls)
    .superRefine(refuseLonelySidecarTls)
    .superRefine(refuseLonelyHopListen)
    .superRefine(refuseTwoDirectories)
    .transform(({ envoy, ...rest }) => ({
      ...rest,
      envoy: {
        ...envoy,
        sidecars: envoy.sidecars ?? [rest.listen],
        // What Envoy watches has its certificates in it, too.
        secrets_dir: envoy.secrets_dir ?? envoy.config_dir,
      },
    }))
    .transform(inCode);
}

const configSchema = {
  oneApplication: checked(oneApplication, () => []),
  severalApplications: checked(severalApplications, (index) => ['applications', index]),
};

export type Config = z.output<typeof configSchema.oneApplication>;

/** Whether a file has its pools in a list of applications, and not at the top. */
export function hasApplications(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'applications' in value;
}

/** From what YAML gives to `Config`. */
export function parseConfigFile(value: unknown): z.ZodSafeParseResult<Config> {
  const schema = hasApplications(value) ? configSchema.severalApplications : configSchema.oneApplication;
  return schema.safeParse(value, { reportInput: true });
}
