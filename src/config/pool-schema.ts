import { z } from 'zod';
import { LOCAL_PROTOCOLS, REMOTE_PROTOCOLS } from './config.ts';
import { MAX_SERVERS } from './conflicts.ts';
import { unreadCookieKeys } from './cookie-keys.ts';
import { Duration } from './key-names.ts';
import {
  clusterName,
  cookieDomain,
  cookieName,
  cookiePath,
  count,
  describe,
  durationBetween,
  filePath,
  hostHeader,
  listOf,
  localServer,
  mapping,
  opsUrl,
  redirect,
  remoteServer,
  siteName,
  statuses,
  text,
  uriPath,
} from './values.ts';

// The keys of a pool.

/** Each is looked for in every request. */
const MAX_ALSO = 4;

/** What a cookie has that any site sets. */
const COOKIE = {
  name: cookieName,
  // Under these the cookie still tells the site, or does already: its name is changed without losing a session.
  also: listOf(
    cookieName,
    MAX_ALSO,
    `can have at most ${MAX_ALSO} names`,
    'must be a list of cookie names, such as [OLDNAME]',
  ).default([]),
  path: cookiePath.default('/'),
  domain: cookieDomain.nullable().default(null),
  // Null: for as long as the browser runs (a session cookie).
  ttl: durationBetween('1s', '400d')
    .nullable()
    .default(null)
    .transform((ttl) => new Duration(ttl === null ? null : ttl.ms)),
  same_site: z.enum(['Strict', 'Lax', 'None']).nullable().default(null),
  secure: z.boolean().default(false),
};

/** The cookie's value tells nothing of the server: a keyed hash of its address. */
const opaque = mapping(
  {
    // Its path counts from the config file.
    key_file: filePath.transform((file) => unreadCookieKeys(file)),
    // A value as it is without `opaque` still counts.
    accept_plain: z.boolean().default(true),
  },
  'must be a mapping with key_file: cookie.key',
);

const INSTEAD = "must be the cookie's name, such as KVAAVROI, or a mapping with name: KVAAVROI";

interface NamedCookie {
  readonly name: string;
  readonly also: readonly string[];
  readonly path: string;
  readonly domain: string | null;
  readonly same_site: string | null;
  readonly secure: boolean;
}

/** Browsers drop such cookies without a word, and with them the session. */
function refuseDroppedCookies(cookie: NamedCookie, context: z.RefinementCtx): void {
  const refuse = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message });
  if (cookie.same_site === 'None' && !cookie.secure)
    refuse(['same_site'], 'None needs secure: true, or browsers drop it');
  const refusePrefix = (path: (string | number)[], name: string) => {
    if (name.startsWith('__Secure-') && !cookie.secure) refuse(path, 'the prefix __Secure- needs secure: true');
    if (name.startsWith('__Host-') && !(cookie.secure && cookie.path === '/' && cookie.domain === null)) {
      refuse(path, 'the prefix __Host- needs secure: true, path: / and no domain');
    }
  };
  refusePrefix(['name'], cookie.name);
  cookie.also.forEach((name, index) => {
    refusePrefix(['also', index], name);
    if (name === cookie.name) refuse(['also', index], "is the cookie's own name: leave it out");
    else if (cookie.also.indexOf(name) < index) refuse(['also', index], 'is named twice: leave one out');
  });
}

/** `cookie: NAME` or a mapping. */
function nameOr<Settings extends z.ZodType>(settings: Settings) {
  return describe(
    z.preprocess((value) => (typeof value === 'string' ? { name: value } : value), settings),
    () => z.union([cookieName, settings]),
  );
}

const localCookie = nameOr(
  mapping({ ...COOKIE, opaque: opaque.nullable().default(null) }, INSTEAD).superRefine(refuseDroppedCookies),
);
const remoteCookie = nameOr(mapping(COOKIE, INSTEAD).superRefine(refuseDroppedCookies));

/** The pool is up with at least so many usable servers. */
const minUp = count.default(1);
/** Empty where the operator's own Envoy config lists them. */
function servers<Server extends z.ZodType>(server: Server) {
  return listOf(server, MAX_SERVERS, `can have at most ${MAX_SERVERS} servers`).prefault([]);
}
const checkInterval = durationBetween('100ms', '1d').prefault('1s');
const checkTimeout = durationBetween('10ms', '1h').prefault('1s');

const healthCheck = mapping({
  // Null: a TCP connection is enough.
  path: uriPath.nullable().default(null),
  host: hostHeader.default('localhost'),
  expect: statuses.prefault('200-399'),
  interval: checkInterval,
  timeout: checkTimeout,
});

/** How another site's status URI is asked; which answers mean up is not for the config to say. */
const remoteHealthCheck = mapping({
  // Null: the name of its certificate, or of its address.
  host: hostHeader.nullable().default(null),
  interval: checkInterval,
  timeout: checkTimeout,
  // So many time-outs or failed connections in a row take the site out.
  unhealthy: count.default(3),
});

/** Takes a server out that passes its health checks and answers 5xx, or not at all. */
const eject = mapping({
  // So many in a row.
  errors: count.default(5),
  for: durationBetween('1s', '1h').prefault('30s'),
});

export const tls = mapping({
  sni: text(/^[A-Za-z0-9._-]{1,253}$/, 'a host name'),
  // Null: the system's CA certificates.
  ca_file: filePath.nullable().default(null),
  cert_file: filePath.nullable().default(null),
  key_file: filePath.nullable().default(null),
}).refine((value) => (value.cert_file === null) === (value.key_file === null), {
  error: 'cert_file and key_file go together: give both or neither',
});

export const localPool = mapping({
  cluster: clusterName.optional(),
  cookie: localCookie,
  min_up: minUp,
  servers: servers(localServer),
  protocol: z.enum(LOCAL_PROTOCOLS).default('http1'),
  tls: tls.nullable().default(null),
  health_check: healthCheck.prefault({}),
  // Ends what is open to a server that has fallen silent.
  close_when_down: z.boolean().default(false),
  connect_timeout: durationBetween('10ms', '1m').prefault('1s'),
  // Envoy closes a connection that was idle for so long, before its server does; 0: never.
  idle_timeout: durationBetween('0s', '1d').prefault('4s'),
  // Null: only health checks take a server out.
  eject: eject.nullable().default(null),
});

export const remotePool = mapping({
  site: siteName,
  cluster: clusterName,
  // Where an Envoy with a config of its own checks that site, if not in the cluster itself.
  health_cluster: clusterName.optional(),
  // Where people and `status --all` find that site's status page.
  ops_url: opsUrl.nullable().default(null),
  // Where a client whose session lives there is sent; null: its requests are proxied.
  redirect: redirect.nullable().default(null),
  cookie: remoteCookie,
  min_up: minUp,
  servers: servers(remoteServer),
  health_check: remoteHealthCheck.prefault({}),
  tls: tls.nullable().default(null),
  protocol: z.enum(REMOTE_PROTOCOLS).default('auto'),
  idle_timeout: durationBetween('0s', '1d').prefault('25s'),
});
