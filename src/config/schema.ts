import { z } from 'zod';
import {
  type Address,
  parseAddress,
  parseAdminAddress,
  parseEnvoyAddress,
  parseTcpAddress,
  withoutLocalhost,
} from './address.ts';
import { type Config, type CookieConfig, ENVOY_VERSIONS, LOCAL_PROTOCOLS, REMOTE_PROTOCOLS } from './config.ts';
import {
  MAX_SERVERS,
  refuseDuplicates,
  refuseLonelyHopListen,
  refuseLonelySidecarTls,
  refuseNamesToClose,
  refuseOwnEdge,
  refuseOwnNames,
  refuseSharedListeners,
  refuseTooManyServers,
  refuseUnsafeListeners,
} from './conflicts.ts';
import { parseDurationMs } from './duration.ts';
import { parseStatusRanges } from './status-ranges.ts';

/** The decision keeps the cookies of a request as bits of a small integer, and a reply for each set of them. */
const MAX_REMOTE_POOLS = 8;

const MAX_SIDECARS = 100;

/** Names that mean something else where a site's name would stand (the owner of a request without a session). */
const RESERVED_SITE_NAMES = ['none'];

/**
 * A mapping that refuses unknown keys and says which ones there are.
 * @param instead what to say where there is no mapping at all, if it could also be something else
 */
function mapping<Shape extends z.ZodRawShape>(shape: Shape, instead?: string) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys' ? `unknown key; the keys here are ${known.join(', ')}` : instead,
  });
}

function text(pattern: RegExp, what: string) {
  return z.string().regex(pattern, { error: `is not ${what}` });
}

/** A list whose length is looked at first: to read thousands of entries, and say of each what is wrong, takes long. */
function listOf<Entry extends z.ZodType>(entry: Entry, most: number, tooMany: string) {
  return z.array(z.unknown()).max(most, { error: tooMany, abort: true }).pipe(z.array(entry));
}

/** A string read by a parser whose errors say what to write instead. */
function parsed<T>(parse: (text: string) => T, instead: string) {
  return z.string({ error: instead }).transform((value, context): T => {
    try {
      return parse(value);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      context.addIssue({ code: 'custom', message: reason, input: value });
      return z.NEVER;
    }
  });
}

// Everything below ends up in a header, an Envoy config or a file path. Envoy answers 500 to a reply with a control
// character in a header value, whatever the failure mode, so nothing of the kind may get past this file.
const siteName = text(
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
  'a site name: up to 63 letters, digits, dots, dashes or underscores, such as east',
).refine((name) => !RESERVED_SITE_NAMES.includes(name), { error: 'is reserved; choose another site name' });
const clusterName = text(
  /^[A-Za-z0-9_][A-Za-z0-9_.:|/-]{0,127}$/,
  'a cluster name: letters, digits and _ . : | / - only, such as local_pool',
);
const cookieName = text(
  /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/,
  "a cookie name: letters, digits and !#$%&'*+-.^_`|~ only (RFC 6265)",
);
const cookiePath = text(
  /^\/[\x21-\x3a\x3c-\x7e]{0,1023}$/,
  'a cookie path: it starts with / and has no space or semicolon',
);
const cookieDomain = text(/^(?=.{1,254}$)\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$/, 'a cookie domain, such as example.com');
const uriPath = text(
  /^\/[A-Za-z0-9/._~!$&'()*+,;=:@-]{0,1023}$/,
  'a path: it starts with / and has no query and no %-escapes',
);
/** As long as the kernel takes them. */
const filePath = text(/^\P{Cc}{1,4095}$/u, 'a file path');

/** Whether the config file takes this as a cluster's name. */
export const isClusterName = (value: string) => clusterName.safeParse(value).success;
/** Whether the config file takes this as a cookie's name. */
export const isCookieName = (value: string) => cookieName.safeParse(value).success;
/** Whether the config file takes this as the status URI. */
export const isStatusUri = (value: string) => uriPath.safeParse(value).success;

const address = parsed(
  (value) => withoutLocalhost(parseAddress(value)),
  'is not an address: write host:port or unix:/path, such as 127.0.0.1:9002',
);
const tcpAddress = parsed(
  (value) => parseTcpAddress(value),
  'is not an address: write host:port, such as 127.0.0.1:9002',
);
const envoyAddress = parsed(parseEnvoyAddress, 'is not an address: write host:port, such as 0.0.0.0:8080');
const adminAddress = parsed(
  (value) => withoutLocalhost(parseAdminAddress(value)),
  'is not an address: write http://host:port or unix:/path, such as http://127.0.0.1:9901',
);

/** The upper bound keeps it far below the 2^31 ms that Node's timers can count: past that they fire at once. */
function durationBetween(min: string, max: string) {
  const [minMs, maxMs] = [parseDurationMs(min), parseDurationMs(max)];
  return parsed((value) => {
    const ms = parseDurationMs(value);
    if (ms < minMs) throw new Error(`is too short: at least ${min}`);
    if (ms > maxMs) throw new Error(`is too long: at most ${max}`);
    return ms;
  }, 'is not a duration: write a number with a unit, such as 250ms, 3s or 30m');
}

const cookieSettings = mapping(
  {
    name: cookieName,
    path: cookiePath.default('/'),
    domain: cookieDomain.nullable().default(null),
    ttl: durationBetween('1s', '400d').nullable().default(null),
    same_site: z.enum(['Strict', 'Lax', 'None']).nullable().default(null),
    secure: z.boolean().default(false),
  },
  "must be the cookie's name, such as KVAAVROI, or a mapping with name: KVAAVROI",
).superRefine((cookie, context) => {
  // Browsers drop such cookies without a word, and with them the session.
  const refuse = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
  if (cookie.same_site === 'None' && !cookie.secure)
    refuse('same_site', 'None needs secure: true, or browsers drop it');
  if (cookie.name.startsWith('__Secure-') && !cookie.secure) refuse('name', 'the prefix __Secure- needs secure: true');
  if (cookie.name.startsWith('__Host-') && !(cookie.secure && cookie.path === '/' && cookie.domain === null)) {
    refuse('name', 'the prefix __Host- needs secure: true, path: / and no domain');
  }
});

/** `cookie: NAME` or a mapping. */
const cookie = z
  .preprocess((value) => (typeof value === 'string' ? { name: value } : value), cookieSettings)
  .transform(
    (value): CookieConfig => ({
      name: value.name,
      path: value.path,
      domain: value.domain,
      ttlMs: value.ttl,
      sameSite: value.same_site,
      secure: value.secure,
    }),
  );

const minUp = z.int({ error: 'must be a whole number' }).min(1, { error: 'must be at least 1' }).default(1);
const servers = listOf(tcpAddress, MAX_SERVERS, `can have at most ${MAX_SERVERS} servers`).default([]);
const checkInterval = durationBetween('100ms', '1d').default(1_000);

const checkTimeout = durationBetween('10ms', '1h').default(1_000);
/** A name that servers take for a Host: Envoy itself would send the cluster's name, which Tomcat and Django refuse. */
const hostHeader = text(
  /^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$/,
  'a Host: a name or an address, with a port if need be, such as shop.example.com',
);

/** YAML reads a single status as a number. */
const statuses = z.preprocess(
  (value) => (typeof value === 'number' ? String(value) : value),
  parsed(parseStatusRanges, 'must be statuses such as 200-399 or 200,204'),
);

const healthCheck = mapping({
  path: uriPath.nullable().default(null),
  host: hostHeader.default('localhost'),
  expect: statuses.prefault('200-399'),
  interval: checkInterval,
  timeout: checkTimeout,
}).transform((check) => ({
  path: check.path,
  host: check.host,
  expect: check.expect,
  intervalMs: check.interval,
  timeoutMs: check.timeout,
}));

const remoteHealthCheck = mapping({
  host: hostHeader.nullable().default(null),
  interval: checkInterval,
  timeout: checkTimeout,
  unhealthy: z.int({ error: 'must be a whole number' }).min(1, { error: 'must be at least 1' }).default(3),
}).transform((check) => ({
  host: check.host,
  intervalMs: check.interval,
  timeoutMs: check.timeout,
  unhealthy: check.unhealthy,
}));

const eject = mapping({
  errors: z.int({ error: 'must be a whole number' }).min(1, { error: 'must be at least 1' }).default(5),
  for: durationBetween('1s', '1h').default(30_000),
}).transform((value) => ({ errors: value.errors, forMs: value.for }));

const tls = mapping({
  sni: text(/^[A-Za-z0-9._-]{1,253}$/, 'a host name'),
  ca_file: filePath.nullable().default(null),
  cert_file: filePath.nullable().default(null),
  key_file: filePath.nullable().default(null),
})
  .refine((value) => (value.cert_file === null) === (value.key_file === null), {
    error: 'cert_file and key_file go together: give both or neither',
  })
  .transform((value) => ({
    sni: value.sni,
    caFile: value.ca_file,
    certFile: value.cert_file,
    keyFile: value.key_file,
  }));

const localPool = mapping({
  cluster: clusterName,
  cookie,
  min_up: minUp,
  servers,
  protocol: z.enum(LOCAL_PROTOCOLS).default('http1'),
  tls: tls.nullable().default(null),
  health_check: healthCheck.prefault({}),
  close_when_down: z.boolean().default(false),
  connect_timeout: durationBetween('10ms', '1m').default(1_000),
  idle_timeout: durationBetween('0s', '1d').default(4_000),
  eject: eject.nullable().default(null),
}).transform((pool) => ({
  cluster: pool.cluster,
  cookie: pool.cookie,
  minUp: pool.min_up,
  servers: pool.servers,
  protocol: pool.protocol,
  tls: pool.tls,
  healthCheck: pool.health_check,
  closeWhenDown: pool.close_when_down,
  connectTimeoutMs: pool.connect_timeout,
  idleTimeoutMs: pool.idle_timeout,
  eject: pool.eject,
}));

const listenTls = mapping({ cert_file: filePath, key_file: filePath, client_ca_file: filePath }).transform((value) => ({
  certFile: value.cert_file,
  keyFile: value.key_file,
  clientCaFile: value.client_ca_file,
}));

const edgeTls = mapping({
  cert_file: filePath,
  key_file: filePath,
  client_ca_file: filePath.nullable().default(null),
}).transform((value) => ({
  certFile: value.cert_file,
  keyFile: value.key_file,
  clientCaFile: value.client_ca_file,
}));

// YAML reads an unquoted 0660 as the decimal number 660; only the text is accepted.
const SOCKET_MODE = 'must be octal, quoted, and let the owner read and write, such as "0660"';
const socketMode = z
  .string({ error: SOCKET_MODE })
  .regex(/^0[67][0-7]{2}$/, { error: SOCKET_MODE })
  .transform((value) => Number.parseInt(value, 8));
const userNumber = z
  .int({ error: 'must be a number: see "id"' })
  .min(0, { error: 'must be a number: see "id"' })
  .max(0xffff_fffe, { error: 'is too big' })
  .nullable()
  .default(null);

const remotePool = mapping({
  site: siteName,
  cluster: clusterName,
  cookie,
  min_up: minUp,
  servers,
  health_check: remoteHealthCheck.prefault({}),
  tls: tls.nullable().default(null),
  protocol: z.enum(REMOTE_PROTOCOLS).default('auto'),
  idle_timeout: durationBetween('0s', '1d').default(25_000),
}).transform((pool) => ({
  site: pool.site,
  cluster: pool.cluster,
  cookie: pool.cookie,
  minUp: pool.min_up,
  servers: pool.servers,
  healthCheck: pool.health_check,
  tls: pool.tls,
  protocol: pool.protocol,
  idleTimeoutMs: pool.idle_timeout,
}));

const health = mapping({
  poll_interval: durationBetween('10ms', '1d').default(250),
  stale_after: durationBetween('100ms', '1d').default(3_000),
  hold_up: durationBetween('0s', '1d').default(0),
})
  .refine((value) => value.stale_after >= 2 * value.poll_interval, {
    error: 'must be at least twice poll_interval, or one late answer makes health unknown',
    path: ['stale_after'],
  })
  .transform((value) => ({
    pollIntervalMs: value.poll_interval,
    staleAfterMs: value.stale_after,
    holdUpMs: value.hold_up,
  }));

// YAML reads an unquoted 1.40 as the number 1.4, which is no version of Envoy; only the text is accepted.
const envoyVersion = z
  .string({ error: 'must be quoted, such as "1.40": YAML reads 1.40 as the number 1.4' })
  .pipe(z.enum(ENVOY_VERSIONS, { error: `must be one of ${ENVOY_VERSIONS.join(', ')}` }));

const envoy = mapping({
  admin: adminAddress.prefault('http://127.0.0.1:9901'),
  listen: envoyAddress.nullable().default(null),
  listen_tls: edgeTls.nullable().default(null),
  hop_listen: envoyAddress.nullable().default(null),
  hop_listen_tls: listenTls.nullable().default(null),
  hop_listen_only: z.boolean().default(false),
  default_host: hostHeader.default('localhost'),
  sidecars: listOf(address, MAX_SIDECARS, `can name at most ${MAX_SIDECARS} sidecars`)
    .refine((sidecars) => sidecars.length > 0, { error: 'must name at least one sidecar, or be left out' })
    .optional(),
  sidecar_tls: tls.nullable().default(null),
  // Envoy and the command that writes the files may run in different directories.
  secrets_dir: filePath
    .refine((path) => path.startsWith('/'), { error: 'must be absolute, such as /etc/envoy/secrets' })
    // One slash after another would be tried as the first of the last ones.
    .transform((path) => path.replace(/(?<!\/)\/+$/, ''))
    .nullable()
    .default(null),
  version: envoyVersion.default('1.40'),
  fast_path: z.boolean().default(false),
  retry_on_reset: z.boolean().default(true),
  stream_idle_timeout: durationBetween('0s', '7d').default(300_000),
});

/** The config file's shape: from what YAML gives to {@link Config}. */
export const configSchema = mapping({
  site: siteName,
  listen: address.prefault('127.0.0.1:9002'),
  ops_listen: address.prefault('127.0.0.1:9003'),
  listen_tls: listenTls.nullable().default(null),
  ops_listen_tls: listenTls.nullable().default(null),
  socket: mapping({ mode: socketMode.prefault('0660'), owner: userNumber, group: userNumber }).prefault({}),
  insecure: z.boolean().default(false),
  status_uri: uriPath.default('/local_pool_status'),
  on_owner_down: z.enum(['adopt', 'keep', 'refuse']).default('adopt'),
  both_cookies: z.enum(['remote', 'local']).default('remote'),
  health: health.prefault({}),
  local_pool: localPool,
  remote_pools: listOf(remotePool, MAX_REMOTE_POOLS, `can name at most ${MAX_REMOTE_POOLS} other sites`).refine(
    (pools) => pools.length > 0,
    { error: 'must name at least one other site' },
  ),
  envoy: envoy.prefault({}),
})
  .superRefine(refuseTooManyServers)
  .superRefine(refuseDuplicates)
  .superRefine(refuseNamesToClose)
  .superRefine(refuseSharedListeners)
  .superRefine(refuseUnsafeListeners)
  .superRefine(refuseLonelySidecarTls)
  .superRefine(refuseLonelyHopListen)
  .superRefine(refuseOwnEdge)
  .superRefine(refuseOwnNames)
  .transform((file): Config => {
    const sidecars: readonly Address[] = file.envoy.sidecars ?? [file.listen];
    return {
      site: file.site,
      listen: file.listen,
      opsListen: file.ops_listen,
      listenTls: file.listen_tls,
      opsListenTls: file.ops_listen_tls,
      socket: file.socket,
      insecure: file.insecure,
      statusUri: file.status_uri,
      onOwnerDown: file.on_owner_down,
      bothCookies: file.both_cookies,
      health: file.health,
      localPool: file.local_pool,
      remotePools: file.remote_pools,
      envoy: {
        admin: file.envoy.admin,
        listen: file.envoy.listen,
        listenTls: file.envoy.listen_tls,
        hopListen: file.envoy.hop_listen,
        hopListenTls: file.envoy.hop_listen_tls,
        hopListenOnly: file.envoy.hop_listen_only,
        defaultHost: file.envoy.default_host,
        sidecars,
        sidecarTls: file.envoy.sidecar_tls,
        secretsDir: file.envoy.secrets_dir,
        version: file.envoy.version,
        fastPath: file.envoy.fast_path,
        retryOnReset: file.envoy.retry_on_reset,
        streamIdleTimeoutMs: file.envoy.stream_idle_timeout,
      },
    };
  });
