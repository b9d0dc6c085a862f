import type { z } from 'zod';
import { type Address, formatAddress, isIpAddress, isLoopback, type TcpAddress } from './address.ts';
import type { CookieConfig, ListenTlsConfig, TlsConfig } from './config.ts';
import { type Listener, whyUnsafe } from './listener-safety.ts';

// What can be said only of several keys together.

interface NamedPools {
  readonly site: string;
  readonly local_pool: { readonly cluster: string; readonly cookie: CookieConfig };
  readonly remote_pools: readonly { readonly site: string; readonly cluster: string; readonly cookie: CookieConfig }[];
}

/** A name used twice would make two sites one: the second never gets a request. */
export function refuseDuplicates(file: NamedPools, context: z.RefinementCtx): void {
  const seen = {
    site: new Map([[file.site, 'site']]),
    cluster: new Map([[file.local_pool.cluster, 'local_pool.cluster']]),
    cookie: new Map([[file.local_pool.cookie.name, 'local_pool.cookie']]),
  };
  file.remote_pools.forEach((pool, index) => {
    const names = { site: pool.site, cluster: pool.cluster, cookie: pool.cookie.name };
    for (const key of ['site', 'cluster', 'cookie'] as const) {
      const first = seen[key].get(names[key]);
      if (first === undefined) {
        seen[key].set(names[key], `remote_pools[${index}].${key}`);
      } else {
        context.addIssue({
          code: 'custom',
          path: ['remote_pools', index, key],
          message: `is the same as ${first}: each site needs its own`,
          input: names[key],
        });
      }
    }
  });
}

/** Of all pools together: what follows from a server is made, compared and sent at each reload. */
export const MAX_SERVERS = 10_000;

/** The names that the rendered Envoy config gives to clusters of its own. */
const OWN_CLUSTER = /^site_persistence(_stand_in|_anywhere)?$/;
const OWN_SUFFIX = /_(or_local|http1|http2|closing)$/;

/** Two clusters of one name: Envoy would not start. */
export function refuseOwnNames(file: NamedPools, context: z.RefinementCtx): void {
  const pools = [
    { path: ['local_pool', 'cluster'], name: file.local_pool.cluster },
    ...file.remote_pools.map(({ cluster }, index) => ({ path: ['remote_pools', index, 'cluster'], name: cluster })),
  ];
  const names = new Set(pools.map(({ name }) => name));
  for (const { path, name } of pools) {
    const isOwn = OWN_CLUSTER.test(name) || (OWN_SUFFIX.test(name) && names.has(name.replace(OWN_SUFFIX, '')));
    if (!isOwn) continue;
    const message = 'is a name that "site-persistence envoy" gives to a cluster of its own: choose another';
    context.addIssue({ code: 'custom', path, message, input: name });
  }
}

interface ClosingPool {
  readonly local_pool: { readonly closeWhenDown: boolean; readonly servers: readonly TcpAddress[] };
}

/** Envoy checks the health of what is behind an internal listener on its main thread, and takes no name for it. */
export function refuseNamesToClose({ local_pool }: ClosingPool, context: z.RefinementCtx): void {
  if (!local_pool.closeWhenDown) return;
  for (const [index, server] of local_pool.servers.entries()) {
    if (isIpAddress(server.host)) continue;
    const message =
      'is a name: with close_when_down Envoy needs addresses. Write its address, or leave close_when_down out';
    context.addIssue({
      code: 'custom',
      path: ['local_pool', 'servers', index],
      message,
      input: formatAddress(server),
    });
    return;
  }
}

interface PoolsWithServers {
  readonly local_pool: { readonly servers: readonly Address[] };
  readonly remote_pools: readonly { readonly servers: readonly Address[] }[];
}

/** An alias writes the same thousands of servers for each pool. */
export function refuseTooManyServers({ local_pool, remote_pools }: PoolsWithServers, context: z.RefinementCtx): void {
  let total = local_pool.servers.length;
  for (const [index, { servers }] of remote_pools.entries()) {
    total += servers.length;
    if (total <= MAX_SERVERS) continue;
    const message = `are too many: all pools together can have at most ${MAX_SERVERS}`;
    context.addIssue({ code: 'custom', path: ['remote_pools', index, 'servers'], message });
    return;
  }
}

interface Listeners {
  readonly listen: Address;
  readonly ops_listen: Address;
  readonly envoy: { readonly admin: Address; readonly listen: Address | null; readonly hop_listen: Address | null };
}

/** Two listeners on one address: the second to start would only say that its port is in use. */
export function refuseSharedListeners(file: Listeners, context: z.RefinementCtx): void {
  const listeners = [
    { path: ['listen'], address: file.listen },
    { path: ['ops_listen'], address: file.ops_listen },
    { path: ['envoy', 'admin'], address: file.envoy.admin },
    { path: ['envoy', 'listen'], address: file.envoy.listen },
    { path: ['envoy', 'hop_listen'], address: file.envoy.hop_listen },
  ];
  const seen = new Map<string, string>();
  for (const { path, address } of listeners) {
    if (address === null) continue;
    const written = formatAddress(address);
    const first = seen.get(written);
    if (first === undefined) seen.set(written, path.join('.'));
    else {
      const message = `is the same as ${first}: each needs its own address`;
      context.addIssue({ code: 'custom', path, message, input: written });
    }
  }
}

interface SelfReach {
  readonly remote_pools: readonly { readonly servers: readonly Address[] }[];
  readonly envoy: { readonly listen: Address | null; readonly hop_listen: Address | null };
}

/** A remote pool that leads back here would be adopted in silence: each of its requests is served here after a detour. */
export function refuseOwnEdge(file: SelfReach, context: z.RefinementCtx): void {
  const own = [file.envoy.listen, file.envoy.hop_listen].filter((address) => address !== null);
  file.remote_pools.forEach(({ servers }, index) => {
    servers.forEach((server, at) => {
      if (!own.some((listener) => leadsTo(server, listener))) return;
      const message = "is this site's own edge (envoy.listen or hop_listen): write the other site's address";
      context.addIssue({
        code: 'custom',
        path: ['remote_pools', index, 'servers', at],
        message,
        input: formatAddress(server),
      });
    });
  });
}

function leadsTo(server: Address, listener: Address): boolean {
  if (server.kind !== 'tcp' || listener.kind !== 'tcp' || server.port !== listener.port) return false;
  const isEvery = listener.host === '0.0.0.0' || listener.host === '::';
  return server.host === listener.host || (isEvery && isLoopback(server.host));
}

interface ListenersWithTls {
  readonly listen: Address;
  readonly ops_listen: Address;
  readonly listen_tls: ListenTlsConfig | null;
  readonly ops_listen_tls: ListenTlsConfig | null;
  readonly insecure: boolean;
}

/** What others reach has client certificates, or is said to be `insecure`. */
export function refuseUnsafeListeners(file: ListenersWithTls, context: z.RefinementCtx): void {
  const listeners: readonly Listener[] = [
    { key: 'listen', address: file.listen, tls: file.listen_tls },
    { key: 'ops_listen', address: file.ops_listen, tls: file.ops_listen_tls },
  ];
  for (const listener of listeners) {
    const message = whyUnsafe(listener, file.insecure);
    if (message === null) continue;
    context.addIssue({ code: 'custom', path: [listener.key], message, input: formatAddress(listener.address) });
  }
}

interface Sidecars {
  readonly listen_tls: ListenTlsConfig | null;
  readonly envoy: { readonly sidecars?: readonly Address[] | undefined; readonly sidecar_tls: TlsConfig | null };
}

/** Envoy would reach no sidecar, and no request would be decided. */
export function refuseLonelySidecarTls({ listen_tls, envoy }: Sidecars, context: z.RefinementCtx): void {
  if (envoy.sidecar_tls === null) return;
  const refuse = (message: string) => context.addIssue({ code: 'custom', path: ['envoy', 'sidecar_tls'], message });
  if (listen_tls === null) refuse('needs listen_tls: without it the sidecars have no TLS');
  // One cluster holds all sidecars, so there is TLS for each or for none.
  const socket = envoy.sidecars?.find(({ kind }) => kind === 'unix');
  if (socket !== undefined) refuse(`has no use for ${formatAddress(socket)}: a Unix socket has no TLS`);
}

interface HopListener {
  readonly envoy: {
    readonly hop_listen: Address | null;
    readonly hop_listen_tls: ListenTlsConfig | null;
    readonly hop_listen_only: boolean;
  };
}

/** What comes there is believed of the client and of how it came, so it must be another site. */
export function refuseLonelyHopListen({ envoy }: HopListener, context: z.RefinementCtx): void {
  const refuse = (key: string, message: string) => context.addIssue({ code: 'custom', path: ['envoy', key], message });
  if (envoy.hop_listen !== null) {
    if (envoy.hop_listen_tls !== null) return;
    refuse(
      'hop_listen',
      'needs hop_listen_tls: only other sites may come there. Without TLS they can use envoy.listen',
    );
    return;
  }
  if (envoy.hop_listen_tls !== null)
    refuse('hop_listen_tls', 'needs hop_listen: the address where other sites forward to');
  if (envoy.hop_listen_only) {
    refuse('hop_listen_only', 'needs hop_listen: without it no request would be known to be forwarded');
  }
}
