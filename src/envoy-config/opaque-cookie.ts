import { createHmac } from 'node:crypto';
import { isIPv6, SocketAddress } from 'node:net';
import { formatAddress, type TcpAddress } from '../config/address.ts';
import { type Application, cookieNamesOf, type LocalCookieConfig, type LocalPoolConfig } from '../config/config.ts';
import { type JsonObject, typed } from './json.ts';
import { closingCluster, OPAQUE_FILTER } from './names.ts';
import { OPAQUE_COOKIE_ON_REQUEST, OPAQUE_COOKIE_ON_RESPONSE, OPAQUE_COOKIE_TABLES } from './opaque-cookie-script.ts';
import { onlyForAnswersThatSet } from './served-here.ts';

// A stickiness cookie that tells nothing of the server. Envoy's stateful_session writes and reads the server's address; a Lua
// filter before it puts a keyed hash in its place. The keys never get into Envoy's config.

/** The filter, where one is needed. @param cookies those that the connection manager keeps clients by */
export function opaqueFilters(cookies: readonly LocalCookieConfig[]): JsonObject[] {
  return cookies.every(({ opaque }) => opaque === null) ? [] : [opaqueFilter()];
}

/** What it does stands at the virtual hosts, so that a server more changes no listener, and cuts no connection. */
export function opaqueFilter(): JsonObject {
  const typed_config = typed('envoy.extensions.filters.http.lua.v3.Lua', {
    // In Envoy's metrics, for its errors.
    stat_prefix: 'opaque_cookie',
    // No route goes by a cookie's value.
    clear_route_cache: false,
  });
  return onlyForAnswersThatSet({ name: OPAQUE_FILTER, typed_config }, PLAIN_START);
}

/** In the Set-Cookie of stateful_session: the tag of the first field, and of the length what is the same for any address. */
const PLAIN_START = '="C';

/** What a virtual host says of it. */
export function opaqueOfHost({ localPool }: Application): JsonObject {
  return translated(localPool, cookieNamesOf(localPool.cookie));
}

/** What a route says of it by which a session has a server by another cookie than the site's own. */
export function opaqueOf({ localPool }: Application, cookieName: string): JsonObject {
  return translated(localPool, [cookieName]);
}

function translated(localPool: LocalPoolConfig, names: readonly string[]): JsonObject {
  const parts = [OPAQUE_COOKIE_ON_REQUEST, OPAQUE_COOKIE_ON_RESPONSE];
  return perRoute(localPool, (opaque) => ({
    source_code: { inline_string: script(localPool, opaque, { names, parts }) },
  }));
}

/** What a route says that is for requests without the cookie: of those nothing is looked at. */
export function opaqueOfNewSessions({ localPool }: Application): JsonObject {
  return perRoute(localPool, (opaque) => ({
    source_code: {
      inline_string: script(localPool, opaque, {
        names: cookieNamesOf(localPool.cookie),
        parts: [OPAQUE_COOKIE_ON_RESPONSE],
      }),
    },
  }));
}

/** Where there is no stickiness there is nothing to translate. */
export function withoutOpaque({ localPool }: Application): JsonObject {
  return perRoute(localPool, () => ({ disabled: true }));
}

type OpaqueConfig = NonNullable<LocalCookieConfig['opaque']>;

function perRoute({ cookie }: LocalPoolConfig, settings: (opaque: OpaqueConfig) => JsonObject): JsonObject {
  if (cookie.opaque === null) return {};
  return { [OPAQUE_FILTER]: typed('envoy.extensions.filters.http.lua.v3.LuaPerRoute', settings(cookie.opaque)) };
}

interface ScriptOptions {
  /** Of cookies, first that which is set. */
  readonly names: readonly string[];
  /** What it does. */
  readonly parts: readonly string[];
}

function script(localPool: LocalPoolConfig, { keyFile, acceptPlain }: OpaqueConfig, options: ScriptOptions): string {
  // Of what a name may have nothing ends a text in quotation marks.
  const names = options.names.map((name) => `"${name}="`);
  const lines = localPool.servers.map((server) => {
    const { read, written } = plainValue(localPool, server, keyFile.keys[0] ?? '');
    return `${[read, written, ...keyFile.keys.map((key) => opaqueValue(key, server))].join(' ')}\n`;
  });
  const settings = [
    `local NAMES = { ${names.join(', ')} }`,
    `local ACCEPT_PLAIN = ${acceptPlain}`,
    '-- A server a line: what stateful_session reads, how what it writes begins, and the values that clients have, by each key.',
    `local SERVERS = [[\n${[...new Set(lines)].join('')}]]\n`,
  ];
  return [settings.join('\n'), OPAQUE_COOKIE_TABLES, ...options.parts].join('');
}

/** No plain value begins like it. */
const OPAQUE_START = '1';

/** As many as nobody finds by trying. */
const HASH_BYTES = 16;

/** What the client gets: a hash of the server's address, which stays while servers come and go. */
export function opaqueValue(key: string, server: TcpAddress): string {
  const hash = createHmac('sha256', key).update(addressInEnvoy(server)).digest();
  return `${OPAQUE_START}${hash.subarray(0, HASH_BYTES).toString('base64url')}`;
}

/**
 * What stateful_session makes of the address: a message of which it is the first field (envoy.Cookie). With a ttl the expiry is
 * the second; without that it reads a value that never expires, and the browser sees to it, by Max-Age. What it is to read has a
 * field more, which it does not know and nobody without the key: a retry that goes by the stand-in listener comes there with it,
 * and keeps its server where plain values do not count.
 */
function plainValue({ cluster, closeWhenDown, cookie }: LocalPoolConfig, server: TcpAddress, key: string) {
  const address = closeWhenDown
    ? `envoy://${closingCluster(cluster)}/${formatAddress(server)}`
    : addressInEnvoy(server);
  const message = field(ADDRESS_TAG, Buffer.from(address));
  const proof = createHmac('sha256', key).update(`read ${address}`).digest().subarray(0, PROOF_BYTES);
  const read = Buffer.concat([message, field(PROOF_TAG, proof)]).toString('base64');
  if (cookie.ttlMs === null) return { read, written: message.toString('base64') };
  const withTag = Buffer.concat([message, Buffer.from([EXPIRY_TAG])]);
  // So many letters have nothing of the time in them, and all of the address.
  return { read, written: withTag.toString('base64').slice(0, Math.floor((withTag.length * 8) / 6)) };
}

function field(tag: number, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([tag, ...varint(bytes.length)]), bytes]);
}

const ADDRESS_TAG = 0x0a;
const EXPIRY_TAG = 0x10;
/** Number 15, bytes. */
const PROOF_TAG = 0x7a;
const PROOF_BYTES = 8;

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >>> 7)];
}

/** As Envoy writes it: an IPv6 address has one form only. */
function addressInEnvoy({ host, port }: TcpAddress): string {
  if (!isIPv6(host)) return `${host}:${port}`;
  return `[${new SocketAddress({ address: host, family: 'ipv6' }).address}]:${port}`;
}
