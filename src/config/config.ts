import type { Address, TcpAddress } from './address.ts';

/** A site's whole configuration: checked, defaults filled in, durations in milliseconds. See docs/configuration.md for each key. */
export interface Config {
  readonly site: string;
  readonly listen: Address;
  readonly opsListen: Address;
  /** Null: without TLS. */
  readonly listenTls: ListenTlsConfig | null;
  readonly opsListenTls: ListenTlsConfig | null;
  readonly socket: SocketConfig;
  /** Listeners that others can reach may be without TLS. */
  readonly insecure: boolean;
  readonly statusUri: string;
  readonly onOwnerDown: OnOwnerDown;
  readonly bothCookies: BothCookies;
  readonly health: HealthConfig;
  readonly localPool: LocalPoolConfig;
  readonly remotePools: readonly RemotePoolConfig[];
  readonly envoy: EnvoyConfig;
}

/** TLS of a listener whose clients must have a certificate. */
export interface ListenTlsConfig {
  /** The server's certificate, with those between it and its CA. */
  readonly certFile: string;
  readonly keyFile: string;
  /** The CAs whose certificates are taken from clients. */
  readonly clientCaFile: string;
}

/** TLS of one of Envoy's listeners. */
export interface EdgeTlsConfig {
  readonly certFile: string;
  readonly keyFile: string;
  /** Whose certificates clients must show; null: they need none. */
  readonly clientCaFile: string | null;
}

/** The Unix sockets that the sidecar listens on. */
export interface SocketConfig {
  readonly mode: number;
  /** A user's number; null: as the sidecar runs. */
  readonly owner: number | null;
  readonly group: number | null;
}

/** What happens to a session whose owner is down. */
export type OnOwnerDown = 'adopt' | 'keep' | 'refuse';

/** Whose session it is when a request carries both the local and a remote site's cookie. */
export type BothCookies = 'remote' | 'local';

export interface HealthConfig {
  readonly pollIntervalMs: number;
  readonly staleAfterMs: number;
  readonly holdUpMs: number;
}

export interface LocalPoolConfig {
  /** Envoy's name of the cluster. */
  readonly cluster: string;
  readonly cookie: CookieConfig;
  /** The pool is up with at least this many healthy servers. */
  readonly minUp: number;
  /** Empty where the operator's own Envoy config lists them. */
  readonly servers: readonly TcpAddress[];
  readonly protocol: LocalProtocol;
  readonly tls: TlsConfig | null;
  readonly healthCheck: HealthCheckConfig;
  /** Ends what is open to a server that has fallen silent. */
  readonly closeWhenDown: boolean;
  readonly connectTimeoutMs: number;
  /** Envoy closes a connection that was idle for so long, before its server does; 0: never. */
  readonly idleTimeoutMs: number;
  /** Null: only health checks take a server out. */
  readonly eject: EjectConfig | null;
}

/** Takes a server out that passes its health checks and answers 5xx, or not at all. */
export interface EjectConfig {
  /** So many in a row. */
  readonly errors: number;
  readonly forMs: number;
}

export interface RemotePoolConfig {
  readonly site: string;
  readonly cluster: string;
  readonly cookie: CookieConfig;
  readonly minUp: number;
  /** The other site's virtual IP; empty where the operator's own Envoy config has it. */
  readonly servers: readonly TcpAddress[];
  readonly healthCheck: RemoteHealthCheckConfig;
  readonly tls: TlsConfig | null;
  readonly protocol: RemoteProtocol;
  readonly idleTimeoutMs: number;
}

export interface CookieConfig {
  readonly name: string;
  readonly path: string;
  readonly domain: string | null;
  /** How long the browser keeps it; null for as long as it runs (a session cookie). */
  readonly ttlMs: number | null;
  readonly sameSite: 'Strict' | 'Lax' | 'None' | null;
  readonly secure: boolean;
}

export interface HealthCheckConfig {
  /** Null: a TCP connection is enough. */
  readonly path: string | null;
  /** The Host header of the check. */
  readonly host: string;
  /** The statuses that mean healthy. */
  readonly expect: readonly StatusRange[];
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

/** `downstream`: what the client spoke. */
export const LOCAL_PROTOCOLS = ['http1', 'http2', 'downstream'] as const;
export type LocalProtocol = (typeof LOCAL_PROTOCOLS)[number];

/** `auto`: HTTP/2 where the other site speaks it, else HTTP/1.1. */
export const REMOTE_PROTOCOLS = ['auto', 'http1', 'http2'] as const;
export type RemoteProtocol = (typeof REMOTE_PROTOCOLS)[number];

/** What another site's status URI is asked like; which answers mean up is not for the config to say. */
export interface RemoteHealthCheckConfig {
  /** Null: the name of its certificate, or of its address. */
  readonly host: string | null;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** So many time-outs or failed connections in a row take the site out. */
  readonly unhealthy: number;
}

/** HTTP statuses, both ends included. */
export type StatusRange = readonly [from: number, to: number];

export interface TlsConfig {
  readonly sni: string;
  /** Null: the system's CA certificates. */
  readonly caFile: string | null;
  /** The client certificate, where the other site wants one. */
  readonly certFile: string | null;
  readonly keyFile: string | null;
}

export const ENVOY_VERSIONS = ['1.36', '1.37', '1.38', '1.39', '1.40'] as const;
export type EnvoyVersion = (typeof ENVOY_VERSIONS)[number];

export interface EnvoyConfig {
  readonly admin: Address;
  /** Null where the operator brings their own Envoy config. */
  readonly listen: TcpAddress | null;
  /** Null: without TLS. */
  readonly listenTls: EdgeTlsConfig | null;
  /** Where other sites forward to; null: where clients come to as well. */
  readonly hopListen: TcpAddress | null;
  /** Null only where {@link hopListen} is. */
  readonly hopListenTls: ListenTlsConfig | null;
  /** The hop header counts at {@link hopListen} only. */
  readonly hopListenOnly: boolean;
  /** The Host of a request that came without one, as HTTP/1.0 allows. */
  readonly defaultHost: string;
  readonly sidecars: readonly Address[];
  /** How Envoy speaks to them; null: without TLS. */
  readonly sidecarTls: TlsConfig | null;
  /** Where Envoy reads where its certificates are; null: they are named in the bootstrap, and read once. */
  readonly secretsDir: string | null;
  readonly version: EnvoyVersion;
  readonly fastPath: boolean;
  /** A GET or HEAD whose connection breaks is sent once more. */
  readonly retryOnReset: boolean;
  /** A request or WebSocket on which nothing is said in either direction for so long is ended; 0: never. */
  readonly streamIdleTimeoutMs: number;
}
