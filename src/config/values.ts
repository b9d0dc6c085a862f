import { z } from 'zod';
import {
  type LocalServer,
  parseAddress,
  parseAdminAddress,
  parseEnvoyAddress,
  parseOpsUrl,
  parseRedirect,
  parseTcpAddress,
  withoutLocalhost,
} from './address.ts';
import { ENVOY_VERSIONS } from './config.ts';
import { parseDurationMs } from './duration.ts';
import { Duration, Size } from './key-names.ts';
import { parseSizeBytes } from './size.ts';
import { parseStatusRanges } from './status-ranges.ts';

// What may stand behind a key of the config file.

/** What a file may have where zod can't tell, because a function of ours reads it: by the schema that begins with the function. */
const written = new WeakMap<object, () => z.ZodType>();

/** Says for the JSON schema what stands in a file. */
export function describe<Schema extends object>(schema: Schema, as: () => z.ZodType): Schema {
  written.set(schema, as);
  return schema;
}

/** What {@link describe} said; undefined where zod itself can tell. */
export function describedAs(schema: object): z.ZodType | undefined {
  return written.get(schema)?.();
}

/** Names that mean something else where a site's or an application's would stand: no owner, no application. */
const RESERVED_NAMES = ['none'];

/**
 * A mapping that refuses unknown keys and says which ones there are.
 * @param instead what to say where there is no mapping at all, if it could also be something else
 */
export function mapping<Shape extends z.ZodRawShape>(shape: Shape, instead?: string) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys' ? `unknown key; the keys here are ${known.join(', ')}` : instead,
  });
}

export function text(pattern: RegExp, what: string) {
  return z.string().regex(pattern, { error: `is not ${what}` });
}

/**
 * A list whose length is looked at first: to read thousands of entries, and say of each what is wrong, takes long.
 * @param instead what to say where something else stands
 * @param least for the JSON schema; {@link someOf} has the error
 */
export function listOf<Entry extends z.ZodType>(
  entry: Entry,
  most: number,
  tooMany: string,
  instead?: string,
  least = 0,
) {
  const error = (issue: { readonly input?: unknown }) => (issue.input === undefined ? undefined : instead);
  // Apart, or a text of so many letters would be a list that is too long.
  return describe(z.array(z.unknown(), { error }), () => z.array(entry).min(least).max(most))
    .pipe(z.array(z.unknown()).max(most, { error: tooMany }))
    .pipe(z.array(entry));
}

/** The same where one at least must stand. */
export function someOf<Entry extends z.ZodType>(
  entry: Entry,
  most: number,
  { tooMany, none, instead }: { readonly tooMany: string; readonly none: string; readonly instead?: string },
) {
  return listOf(entry, most, tooMany, instead, 1).refine((entries) => entries.length > 0, { error: none });
}

/**
 * A string read by a parser whose errors say what to write instead.
 * @param form what the parser takes, roughly
 */
function parsed<T>(parse: (text: string) => T, instead: string, form: RegExp) {
  return describe(z.string({ error: instead }), () => z.string().regex(form)).transform((value, context): T => {
    try {
      return parse(value);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      context.addIssue({ code: 'custom', message: reason, input: value });
      return z.NEVER;
    }
  });
}

const HOST_AND_PORT = /^[^/]+:\d{1,5}$/;
const HOST_AND_PORT_OR_SOCKET = /^(unix:\/.+|[^/]+:\d{1,5})$/;

// Everything below ends up in a header, an Envoy config or a file path. Envoy answers 500 to a reply with a control
// character in a header value, whatever the failure mode, so nothing of the kind may get past this file.
export const siteName = text(
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
  'a site name: up to 63 letters, digits, dots, dashes or underscores, such as east',
).refine((name) => !RESERVED_NAMES.includes(name), { error: 'is reserved; choose another site name' });
export const nodeId = text(
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/,
  'a node id: letters, digits and . _ - only, such as east-edge-1',
);
/** It stands in names of clusters, listeners and runtime keys, of which `site_persistence.drain.…` and `site_persistence.hold.…` are taken. */
export const applicationName = text(
  /^[A-Za-z0-9][A-Za-z0-9-]{0,62}$/,
  'an application name: up to 63 letters, digits or dashes, such as shop',
).refine((name) => ![...RESERVED_NAMES, 'drain', 'hold'].includes(name), {
  error: 'is reserved; choose another application name',
});

/**
 * A domain of a virtual host, in lower case as Envoy compares it. Without a port, which the rendered config ignores.
 * https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-virtualhost
 */
export const virtualHostDomain = z
  .string({ error: 'must be a host, such as shop.example.com' })
  .refine((host) => !/^(\[[^\]]*\]|[^:]*):(\d+|\*)$/.test(host), {
    error: 'has a port: a host counts on every port, so leave it out',
    abort: true,
  })
  .regex(/^(\*|\*?[A-Za-z0-9._-]+|[A-Za-z0-9._-]+\*|\[[0-9A-Fa-f:.]+\])$/, {
    error: 'is not a host: write a name or an address, with one * at its start or its end, such as *.shop.example.com',
  })
  .max(253, { error: 'is too long: at most 253 characters' })
  .transform((host) => host.toLowerCase());

export const clusterName = text(
  // Gateways make them of several names: `outbound|80||app.shop.svc.cluster.local`.
  /^[A-Za-z0-9_][A-Za-z0-9_.:|/-]{0,254}$/,
  'a cluster name: letters, digits and _ . : | / - only, such as local_pool',
);
export const cookieName = text(
  /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/,
  "a cookie name: letters, digits and !#$%&'*+-.^_`|~ only (RFC 6265)",
);
export const cookiePath = text(
  /^\/[\x21-\x3a\x3c-\x7e]{0,1023}$/,
  'a cookie path: it starts with / and has no space or semicolon',
);
export const cookieDomain = text(
  /^(?=.{1,254}$)\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$/,
  'a cookie domain, such as example.com',
);
export const uriPath = text(
  /^\/[A-Za-z0-9/._~!$&'()*+,;=:@-]{0,1023}$/,
  'a path: it starts with / and has no query and no %-escapes',
);
/** As long as the kernel takes them. */
export const filePath = text(/^\P{Cc}{1,4095}$/u, 'a file path');

/** Whether the config file takes this as an application's name. */
export const isApplicationName = (value: string) => applicationName.safeParse(value).success;
/** Whether the config file takes this as a cluster's name. */
export const isClusterName = (value: string) => clusterName.safeParse(value).success;
/** Whether the config file takes this as a cookie's name. */
export const isCookieName = (value: string) => cookieName.safeParse(value).success;
/** Whether the config file takes this as the status URI. */
export const isStatusUri = (value: string) => uriPath.safeParse(value).success;

export const address = parsed(
  (value) => withoutLocalhost(parseAddress(value)),
  'is not an address: write host:port or unix:/path, such as 127.0.0.1:9002',
  HOST_AND_PORT_OR_SOCKET,
);
export const tcpAddress = parsed(
  (value) => parseTcpAddress(value),
  'is not an address: write host:port, such as 127.0.0.1:9002',
  HOST_AND_PORT,
);

const SERVER =
  'is not an address: write host:port, such as 10.0.0.11:8443, or { address: 10.0.0.11:8443, drain: true }';
const oneAddress = parsed((value) => parseTcpAddress(value), SERVER, HOST_AND_PORT);
const serverSettings = mapping({ address: tcpAddress, drain: z.boolean().default(false) });

/** `10.0.0.11:8443`, or a mapping. Not a union, whose errors would say what is wrong with either. */
export const localServer = describe(z.unknown(), () => z.union([oneAddress, serverSettings])).transform(
  (value, context): LocalServer => {
    const { data, error } = isMapping(value)
      ? serverSettings.transform(({ address: of, drain }) => ({ ...of, drain })).safeParse(value, { reportInput: true })
      : oneAddress.transform((of) => ({ ...of, drain: false })).safeParse(value, { reportInput: true });
    if (data !== undefined) return data;
    for (const issue of error.issues) context.addIssue({ ...issue });
    return z.NEVER;
  },
);

/** Of another site, which alone knows its servers. */
export const remoteServer = describe(
  z.unknown().refine((value) => !isMapping(value), {
    error: 'must be an address, such as west.example.com:443: to drain another site run "site-persistence drain" there',
    abort: true,
  }),
  () => tcpAddress,
).pipe(tcpAddress);

function isMapping(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export const envoyAddress = parsed(
  parseEnvoyAddress,
  'is not an address: write host:port, such as 0.0.0.0:8080',
  HOST_AND_PORT,
);
export const adminAddress = parsed(
  (value) => withoutLocalhost(parseAdminAddress(value)),
  'is not an address: write http://host:port or unix:/path, such as http://127.0.0.1:9901',
  /^(unix:\/.+|http:\/\/[^/]+:\d{1,5}\/?)$/,
);

/** Of another site's ops listener. */
export const opsUrl = parsed(
  parseOpsUrl,
  'is not a URL: write https://host:port, such as https://west-ops.example.com:9003',
  /^https?:\/\/[^/?#@]+\/?$/,
);

/** Of another site's edge, by a name that is its own. */
export const redirect = parsed(
  parseRedirect,
  'is not a URL: write https://host, such as https://shop.west.example.com',
  /^https?:\/\/[^/?#@]+\/?$/,
);

/** The upper bound keeps it far below the 2^31 ms that Node's timers can count: past that they fire at once. */
export function durationBetween(min: string, max: string) {
  const [minMs, maxMs] = [parseDurationMs(min), parseDurationMs(max)];
  return parsed(
    (value) => {
      const ms = parseDurationMs(value);
      if (ms < minMs) throw new Error(`is too short: at least ${min}`);
      if (ms > maxMs) throw new Error(`is too long: at most ${max}`);
      return new Duration<number>(ms);
    },
    'is not a duration: write a number with a unit, such as 250ms, 3s or 30m',
    /^\d+(\.\d+)?(ms|s|m|h|d)$/,
  );
}

/** Either end with a unit, as the file has it. */
export function sizeBetween(min: string, max: string) {
  const [minBytes, maxBytes] = [parseSizeBytes(min), parseSizeBytes(max)];
  return parsed(
    (value) => {
      const bytes = parseSizeBytes(value);
      if (bytes < minBytes) throw new Error(`is too small: at least ${min}`);
      if (bytes > maxBytes) throw new Error(`is too big: at most ${max}`);
      return new Size<number>(bytes);
    },
    'is not a size: write a number with a unit, such as 512MiB or 1GiB',
    /^\d+(\.\d+)?(KiB|MiB|GiB|TiB)$/,
  );
}

/** A name that servers take for a Host: Envoy itself would send the cluster's name, which Tomcat and Django refuse. */
export const hostHeader = text(
  /^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?$/,
  'a Host: a name or an address, with a port if need be, such as shop.example.com',
);

const statusRanges = parsed(
  parseStatusRanges,
  'must be statuses such as 200-399 or 200,204',
  /^ *\d{3}(-\d{3})? *(, *\d{3}(-\d{3})? *)*$/,
);

/** YAML reads a single status as a number. */
export const statuses = describe(
  z.preprocess((value) => (typeof value === 'number' ? String(value) : value), statusRanges),
  () => z.union([z.int(), statusRanges]),
);

// YAML reads an unquoted 0660 as the decimal number 660; only the text is accepted.
const SOCKET_MODE = 'must be octal, quoted, and let the owner read and write, such as "0660"';
export const socketMode = z
  .string({ error: SOCKET_MODE })
  .regex(/^0[67][0-7]{2}$/, { error: SOCKET_MODE })
  .transform((value) => Number.parseInt(value, 8));
export const userNumber = z
  .int({ error: 'must be a number: see "id"' })
  .min(0, { error: 'must be a number: see "id"' })
  .max(0xffff_fffe, { error: 'is too big' })
  .nullable()
  .default(null);

// YAML reads an unquoted 1.40 as the number 1.4, which is no version of Envoy; only the text is accepted.
export const envoyVersion = describe(
  z.string({ error: 'must be quoted, such as "1.40": YAML reads 1.40 as the number 1.4' }),
  () => z.enum(ENVOY_VERSIONS),
).pipe(z.enum(ENVOY_VERSIONS, { error: `must be one of ${ENVOY_VERSIONS.join(', ')}` }));

/** A number of at least 1. */
export const count = z.int({ error: 'must be a whole number' }).min(1, { error: 'must be at least 1' });

/** HTTP statuses that say that a request was not served. */
export const refusalStatus = z
  .int({ error: 'must be an HTTP status, such as 503 or 421' })
  .min(400, { error: 'must be from 400 to 599' })
  .max(599, { error: 'must be from 400 to 599' });

/** Proxies in front of the edge: one that is counted and is not there lets clients say who they are. */
export const trustedHops = z
  .int({ error: 'must be a whole number: how many proxies are in front' })
  .min(0, { error: 'must be at least 0' })
  .max(10, { error: 'must be at most 10' });
