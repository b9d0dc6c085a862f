import { isIP, isIPv4, isIPv6 } from 'node:net';

/** A TCP address or a Unix socket. IPv6 hosts are kept without brackets. */
export type Address = TcpAddress | { readonly kind: 'unix'; readonly path: string };

export interface TcpAddress {
  readonly kind: 'tcp';
  readonly host: string;
  readonly port: number;
}

/** A server of the local pool. */
export interface LocalServer extends TcpAddress {
  /** It gets no new sessions and keeps its own. */
  readonly drain: boolean;
}

/** Linux's `sun_path` holds 108 bytes with its NUL; a longer path fails at bind time with an error nobody understands. */
const MAX_UNIX_PATH_BYTES = 107;

const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$/;

/**
 * Parses `host:port`, `[ipv6]:port` or `unix:/path`.
 * @throws Error whose message says what to write instead.
 */
export function parseAddress(text: string): Address {
  if (!text.startsWith('unix:')) return parseTcpAddress(text, 'host:port or unix:/path, such as 127.0.0.1:9002');
  const path = text.slice('unix:'.length);
  if (!path.startsWith('/')) throw new Error('is not an address: a Unix socket is written unix:/absolute/path');
  if (/\p{Cc}/u.test(path)) throw new Error("is not an address: a Unix socket's path has no control characters");
  if (Buffer.byteLength(path) > MAX_UNIX_PATH_BYTES) {
    throw new Error(`is not an address: a Unix socket's path has at most ${MAX_UNIX_PATH_BYTES} bytes`);
  }
  return { kind: 'unix', path };
}

/** Parses `host:port` or `[ipv6]:port`. @throws Error whose message says what to write instead. */
export function parseTcpAddress(text: string, form = 'host:port, such as 127.0.0.1:9002'): TcpAddress {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(match?.[1] === undefined ? isHost(host) : isIPv6(host))) {
    throw new Error(`is not an address: write ${form}`);
  }
  if (port < 1 || port > 65535) throw new Error('is not an address: a port is a number from 1 to 65535');
  return { kind: 'tcp', host, port };
}

/** A name whose last part is a number is an IPv4 address to everybody, or a mistake in one. */
function isHost(host: string): boolean {
  return /(^|\.)\d+$/.test(host) ? isIPv4(host) : HOST_NAME.test(host);
}

/** Parses `http://host:port` or `unix:/path`. @throws Error whose message says what to write instead. */
export function parseAdminAddress(text: string): Address {
  if (text.startsWith('unix:')) return parseAddress(text);
  const match = /^http:\/\/([^/]+)\/?$/.exec(text);
  const form = 'http://host:port or unix:/path, such as http://127.0.0.1:9901';
  if (match?.[1] === undefined) throw new Error(`is not an address: write ${form}`);
  return parseTcpAddress(match[1], form);
}

/** Parses `https://host:port` or `http://host:port`. @returns it without a slash at its end @throws Error that says what to write instead */
export function parseOpsUrl(text: string): string {
  return parseOrigin(text, 'write https://host:port, such as https://west-ops.example.com:9003');
}

/** The same of where clients find a site. */
export function parseRedirect(text: string): string {
  const form = 'write https://host, such as https://shop.west.example.com';
  const origin = parseOrigin(text, form);
  const { hostname } = new URL(origin);
  // It is part of a format string of Envoy's, and of a Location that each client reads in its own way.
  if (!isHost(hostname) && !isIPv6(hostname.slice(1, -1))) throw new Error(`is not a URL: ${form}`);
  return origin;
}

function parseOrigin(text: string, form: string): string {
  if (!URL.canParse(text)) throw new Error(`is not a URL: ${form}`);
  const { protocol, origin, username, pathname, search, hash } = new URL(text);
  if (protocol !== 'https:' && protocol !== 'http:') throw new Error(`is not a URL of HTTP: ${form}`);
  if (username !== '' || pathname !== '/' || search !== '' || hash !== '') {
    throw new Error(`has more than a host and a port: ${form}`);
  }
  return origin;
}

/** The text form that {@link parseAddress} reads; also what grpc-js binds to. */
export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}

/**
 * `localhost` as 127.0.0.1, the one address that everybody takes it for: where a machine has it as ::1 as well, Node listens there,
 * and Envoy asks the other.
 */
export function withoutLocalhost<A extends Address>(address: A): A {
  return address.kind === 'tcp' && address.host === 'localhost' ? { ...address, host: '127.0.0.1' } : address;
}

/** Where Envoy listens: it does not start with a listener on a name. @throws Error whose message says what to write instead. */
export function parseEnvoyAddress(text: string): TcpAddress {
  const address = withoutLocalhost(parseTcpAddress(text));
  if (isIpAddress(address.host)) return address;
  throw new Error(`must be an IP address, because Envoy listens there: write 0.0.0.0:${address.port} for every one`);
}

/** Whether what listens on this host is reached from this machine only. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^(::ffff:)?127\.\d+\.\d+\.\d+$/.test(host);
}

/** Whether the host needs no name lookup. */
export function isIpAddress(host: string): boolean {
  return isIP(host) !== 0;
}
