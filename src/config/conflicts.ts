import type { z } from 'zod';
import { type Address, formatAddress, isIpAddress, isLoopback, type LocalServer } from './address.ts';
import { isWithinDomain, scopeOf } from './cookie-domain.ts';
import { formatPath } from './format-path.ts';
import { type Listener, whyUnsafe } from './listener-safety.ts';
import { findByHost, hostTableOf, NO_APPLICATION } from './virtual-hosts.ts';

// What can be said only of several keys together.

/** The way to the keys of an application, by its place in the list. */
export type ToApplication = (index: number) => readonly (string | number)[];

interface NamedPool {
  readonly cluster: string;
  readonly cookie: { readonly name: string; readonly also: readonly string[]; readonly domain: string | null };
  readonly servers: readonly Address[];
}

interface NamedLocalPool extends NamedPool {
  readonly cookie: NamedPool['cookie'] & { readonly opaque: object | null };
  readonly servers: readonly LocalServer[];
  readonly min_up: number;
  readonly close_when_down: boolean;
}

interface NamedApplication {
  readonly name: string;
  readonly hosts: readonly string[];
  readonly local_pool: NamedLocalPool;
  readonly remote_pools: readonly (NamedPool & {
    readonly site: string;
    readonly health_cluster?: string | undefined;
    readonly redirect: string | null;
    readonly health_check: { readonly host: string | null };
  })[];
}

interface Applications {
  readonly site: string;
  readonly applications: readonly NamedApplication[];
  readonly envoy: {
    readonly listen: Address | null;
    readonly hop_listen: Address | null;
    readonly default_host: string | null;
  };
}

interface Place {
  readonly path: readonly (string | number)[];
  readonly pool: NamedPool;
  readonly application: NamedApplication;
}

/** Every pool, with the way to it. */
function poolsOf({ applications }: Applications, toApplication: ToApplication): Place[] {
  return applications.flatMap((application, index) => [
    { path: [...toApplication(index), 'local_pool'], pool: application.local_pool, application },
    ...application.remote_pools.map((pool, at) => ({
      path: [...toApplication(index), 'remote_pools', at],
      pool,
      application,
    })),
  ]);
}

/** Every name that tells the site of a pool, with the way to it. */
function namesOf({ name, also }: NamedPool['cookie'], toPool: readonly (string | number)[]) {
  const path = [...toPool, 'cookie'];
  return [{ name, path }, ...also.map((other, index) => ({ name: other, path: [...path, 'also', index] }))];
}

/** A name used twice would make two sites one: the second never gets a request. */
export function refuseDuplicates(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  const clusters = new Map<string, string>();
  const names = new Set<string>();
  file.applications.forEach((application, index) => {
    const base = toApplication(index);
    const seen = {
      site: new Map([[file.site, 'site']]),
      cookie: new Map<string, string>(),
      redirect: new Map<string, string>(),
      cluster: clusters,
    };
    const isNamedTwice = names.has(application.name);
    names.add(application.name);
    const note = (
      key: 'site' | 'cluster' | 'cookie' | 'redirect',
      name: string,
      path: readonly (string | number)[],
    ) => {
      // By default clusters are called after their application, of which refuseSharedNames speaks.
      if (key === 'cluster' && isNamedTwice && name.startsWith(`${application.name}_`)) return;
      const first = seen[key].get(name);
      if (first === undefined) {
        seen[key].set(name, formatPath(path));
        return;
      }
      const message = `is the same as ${first}: each ${key === 'cluster' && base.length > 0 ? 'pool' : 'site'} needs its own`;
      context.addIssue({ code: 'custom', path: [...path], message, input: name });
    };
    const noteCookie = ({ cookie }: NamedPool, path: readonly (string | number)[]) => {
      // Twice in one cookie is said of that cookie.
      const isFirst = (name: string, index: number) => [cookie.name, ...cookie.also].indexOf(name) === index;
      namesOf(cookie, path).forEach(({ name, path: toName }, index) => {
        if (isFirst(name, index)) note('cookie', name, toName);
      });
    };
    note('cluster', application.local_pool.cluster, [...base, 'local_pool', 'cluster']);
    noteCookie(application.local_pool, [...base, 'local_pool']);
    application.remote_pools.forEach((pool, at) => {
      const path = [...base, 'remote_pools', at];
      note('site', pool.site, [...path, 'site']);
      note('cluster', pool.cluster, [...path, 'cluster']);
      if (pool.health_cluster !== undefined) note('cluster', pool.health_cluster, [...path, 'health_cluster']);
      if (pool.redirect !== null) note('redirect', pool.redirect, [...path, 'redirect']);
      noteCookie(pool, path);
    });
  });
}

/** Two virtual hosts with one domain: Envoy would not start. */
export function refuseSharedNames(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  const names = new Map<string, string>();
  const hosts = new Map<string, string>();
  file.applications.forEach(({ name, hosts: own }, index) => {
    const refuse = (key: readonly (string | number)[], message: string, input: string) =>
      context.addIssue({ code: 'custom', path: [...toApplication(index), ...key], message, input });
    const first = names.get(name);
    if (first === undefined) names.set(name, formatPath([...toApplication(index), 'name']));
    else refuse(['name'], `is the same as ${first}: each application needs its own`, name);
    own.forEach((host, at) => {
      const other = hosts.get(host);
      if (other === undefined) hosts.set(host, formatPath([...toApplication(index), 'hosts', at]));
      else refuse(['hosts', at], `is the same as ${other}: a host belongs to one application`, host);
    });
  });
}

/**
 * A cookie of one application that comes to another one under a name which means something there: the request would be sent to
 * that site for it.
 */
export function refuseSharedCookies(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  const byName = new Map<string, Place[]>();
  const places = poolsOf(file, toApplication);
  const names = places.flatMap((place) => namesOf(place.pool.cookie, place.path).map((own) => ({ ...place, ...own })));
  for (const { name, ...place } of names) {
    const before = byName.get(name) ?? [];
    const first = before.find((other) => meet(other, place));
    before.push(place);
    byName.set(name, before);
    if (first === undefined) continue;
    const message =
      `is the same as ${formatPath(first.path)}, and browsers send it to both applications: ` +
      'choose another name, or leave its domain out';
    context.addIssue({ code: 'custom', path: [...place.path], message, input: name });
  }
}

/** Whether a browser may send the cookie of one to the other's application. */
function meet(one: Place, other: Place): boolean {
  if (one.application === other.application) return false;
  return comesTo(one, other.application) || comesTo(other, one.application);
}

/** Whether a browser may send the cookie to a host of this application: only its Domain takes a cookie to another host (RFC 6265). */
function comesTo({ pool }: Place, { hosts }: NamedApplication): boolean {
  const { domain } = pool.cookie;
  if (domain === null) return false;
  const scope = scopeOf(domain);
  return hosts.some((host) => mayBeWithin(host, scope));
}

/** Whether a name that the host stands for may be this domain or below it. */
function mayBeWithin(host: string, domain: string): boolean {
  const isWithin = (name: string) => isWithinDomain(name, domain);
  // What stands before the rest of a name may end in the domain's labels, and what stands behind its start as well.
  if (host.startsWith('*')) return isWithin(host.slice(1).replace(/^\./, '')) || `.${domain}`.endsWith(host.slice(1));
  return host.endsWith('*') || isWithin(host);
}

/** Of all pools together: what follows from a server is made, compared and sent at each reload. */
export const MAX_SERVERS = 10_000;

/** The names that the rendered Envoy config gives to clusters of its own, and with an application's name to those of each. */
const OWN_CLUSTER = /^site_persistence(_stand_in|_anywhere)?$/;
const OWN_CLUSTER_OF_EACH = /^site_persistence_(stand_in|anywhere)_/;
const OWN_SUFFIX = /_(or_local|or_elsewhere|http1|http2|closing|redirect|redirect_or_proxy)$/;

/** Two clusters of one name: Envoy would not start. */
export function refuseOwnNames(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  const places = poolsOf(file, toApplication);
  const names = new Set(places.map(({ pool }) => pool.cluster));
  const applications = new Set(file.applications.map((application) => application.name));
  for (const { path, pool } of places) {
    const name = pool.cluster;
    const isOfEach = applications.has(name.replace(OWN_CLUSTER_OF_EACH, '')) && OWN_CLUSTER_OF_EACH.test(name);
    const isOwn =
      OWN_CLUSTER.test(name) || isOfEach || (OWN_SUFFIX.test(name) && names.has(name.replace(OWN_SUFFIX, '')));
    if (!isOwn) continue;
    const message = 'is a name that "site-persistence envoy" gives to a cluster of its own: choose another';
    context.addIssue({ code: 'custom', path: [...path, 'cluster'], message, input: name });
  }
}

/** Envoy checks the health of what is behind an internal listener on its main thread, and takes no name for it. */
export function refuseNamesToClose(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  file.applications.forEach(({ local_pool }, index) => {
    if (!local_pool.close_when_down) return;
    const at = local_pool.servers.findIndex((server) => server.kind === 'tcp' && !isIpAddress(server.host));
    const server = local_pool.servers[at];
    if (server === undefined) return;
    const message =
      'is a name: with close_when_down Envoy needs addresses. Write its address, or leave close_when_down out';
    const path = [...toApplication(index), 'local_pool', 'servers', at];
    context.addIssue({ code: 'custom', path, message, input: formatAddress(server) });
  });
}

/** The value is made of a server's address, which Envoy looks up by its own clock where there is a name. */
export function refuseNamesToHash(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  file.applications.forEach(({ local_pool }, index) => {
    if (local_pool.cookie.opaque === null) return;
    const path = [...toApplication(index), 'local_pool'];
    const refuse = (key: readonly (string | number)[], message: string, input?: string) =>
      context.addIssue({ code: 'custom', path: [...path, ...key], message, input });
    if (local_pool.servers.length === 0) {
      refuse(['cookie', 'opaque'], 'needs local_pool.servers: the value is made of their addresses');
    }
    local_pool.servers.forEach((server, at) => {
      if (server.kind === 'tcp' && isIpAddress(server.host)) return;
      const message =
        'is a name: with cookie.opaque Envoy needs addresses. Write its address, or leave cookie.opaque out';
      refuse(['servers', at], message, formatAddress(server));
    });
  });
}

/** A pool that is down moves its sessions to other sites, and a server is drained to keep them. */
export function refuseTooManyDrains(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  file.applications.forEach(({ local_pool: { servers, min_up } }, index) => {
    const left = servers.filter(({ drain }) => !drain);
    if (left.length === servers.length) return;
    // A name may have any number of addresses.
    const needed = left.every(({ host }) => isIpAddress(host)) ? min_up : 1;
    if (left.length >= needed) return;
    const message =
      `${left.length === 0 ? 'all drain' : `only ${left.length} would take new sessions, and min_up is ${min_up}`}: ` +
      'the pool would be down and its sessions would move. Drain fewer servers, or the site itself with drain: true';
    context.addIssue({ code: 'custom', path: [...toApplication(index), 'local_pool', 'servers'], message });
  });
}

/** Envoy takes one of the two entries. */
export function refuseHalfDrains(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  file.applications.forEach(({ local_pool: { servers } }, index) => {
    const seen = new Map<string, number>();
    for (const [at, server] of servers.entries()) {
      const address = formatAddress(server);
      const first = seen.get(address);
      if (first === undefined) seen.set(address, at);
      if (first === undefined || servers[first]?.drain === server.drain) continue;
      const path = [...toApplication(index), 'local_pool', 'servers'];
      const message = `is the same as ${formatPath([...path, first])}, and only one of the two drains: keep one of them`;
      context.addIssue({ code: 'custom', path: [...path, at], message, input: address });
    }
  });
}

/** An alias writes the same thousands of servers for each pool. */
export function refuseTooManyServers(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  let total = 0;
  for (const { path, pool } of poolsOf(file, toApplication)) {
    total += pool.servers.length;
    if (total <= MAX_SERVERS) continue;
    const message = `are too many: all pools together can have at most ${MAX_SERVERS}`;
    context.addIssue({ code: 'custom', path: [...path, 'servers'], message });
    return;
  }
}

/** A remote pool that leads back here would be adopted in silence: each of its requests is served here after a detour. */
export function refuseOwnEdge(file: Applications, context: z.RefinementCtx, toApplication: ToApplication): void {
  const own = [file.envoy.listen, file.envoy.hop_listen].filter((address) => address !== null);
  file.applications.forEach(({ remote_pools }, index) => {
    for (const [poolAt, { servers }] of remote_pools.entries()) {
      for (const [at, server] of servers.entries()) {
        if (!own.some((listener) => leadsTo(server, listener))) continue;
        const message = "is this site's own edge (envoy.listen or hop_listen): write the other site's address";
        const path = [...toApplication(index), 'remote_pools', poolAt, 'servers', at];
        context.addIssue({ code: 'custom', path, message, input: formatAddress(server) });
      }
    }
  });
}

/** The other site would answer for the application that the Host is of, and this one's sessions follow its health. */
export function refuseForeignCheckHost(
  file: Applications,
  context: z.RefinementCtx,
  toApplication: ToApplication,
): void {
  const table = hostTableOf(file.applications);
  file.applications.forEach(({ remote_pools }, index) => {
    remote_pools.forEach(({ health_check: { host } }, at) => {
      const of = host === null ? NO_APPLICATION : findByHost(table, host);
      if (host === null || of === NO_APPLICATION || of === index) return;
      const message = `is a host of application ${file.applications[of]?.name}: write one of this application, or leave it out`;
      const path = [...toApplication(index), 'remote_pools', at, 'health_check', 'host'];
      context.addIssue({ code: 'custom', path, message, input: host });
    });
  });
}

/** A request without a Host would get 404 in spite of it. */
export function refuseLostDefaultHost({ applications, envoy }: Applications, context: z.RefinementCtx): void {
  const { default_host: host } = envoy;
  if (host === null || findByHost(hostTableOf(applications), host) !== NO_APPLICATION) return;
  const message = 'belongs to no application: write one of their hosts';
  context.addIssue({ code: 'custom', path: ['envoy', 'default_host'], message, input: host });
}

interface Listeners {
  readonly listen: Address;
  readonly ops_listen: Address;
  readonly metrics_listen: Address | null;
  readonly envoy: { readonly admin: Address; readonly listen: Address | null; readonly hop_listen: Address | null };
}

/** Two listeners on one address: the second to start would only say that its port is in use. */
export function refuseSharedListeners(file: Listeners, context: z.RefinementCtx): void {
  const listeners = [
    { path: ['listen'], address: file.listen },
    { path: ['ops_listen'], address: file.ops_listen },
    { path: ['metrics_listen'], address: file.metrics_listen },
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

function leadsTo(server: Address, listener: Address): boolean {
  if (server.kind !== 'tcp' || listener.kind !== 'tcp' || server.port !== listener.port) return false;
  const isEvery = listener.host === '0.0.0.0' || listener.host === '::';
  return server.host === listener.host || (isEvery && isLoopback(server.host));
}

interface ListenersWithTls {
  readonly listen: Address;
  readonly ops_listen: Address;
  readonly metrics_listen: Address | null;
  readonly listen_tls: object | null;
  readonly ops_listen_tls: object | null;
  readonly metrics_listen_tls: object | null;
  readonly insecure: boolean;
}

/** What others reach has client certificates, or is said to be `insecure`. */
export function refuseUnsafeListeners(file: ListenersWithTls, context: z.RefinementCtx): void {
  const listeners: readonly Listener<object>[] = [
    { key: 'listen', address: file.listen, tls: file.listen_tls },
    { key: 'ops_listen', address: file.ops_listen, tls: file.ops_listen_tls },
    ...(file.metrics_listen === null
      ? []
      : [{ key: 'metrics_listen' as const, address: file.metrics_listen, tls: file.metrics_listen_tls }]),
  ];
  for (const listener of listeners) {
    const message = whyUnsafe(listener, file.insecure);
    if (message === null) continue;
    context.addIssue({ code: 'custom', path: [listener.key], message, input: formatAddress(listener.address) });
  }
}

/** It would look as if the metrics were protected. */
export function refuseLonelyMetricsTls(file: ListenersWithTls, context: z.RefinementCtx): void {
  if (file.metrics_listen_tls === null || file.metrics_listen !== null) return;
  const message = 'needs metrics_listen: the address where metrics are read';
  context.addIssue({ code: 'custom', path: ['metrics_listen_tls'], message });
}

interface Sidecars {
  readonly listen_tls: object | null;
  readonly envoy: { readonly sidecars?: readonly Address[] | undefined; readonly sidecar_tls: object | null };
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
    readonly hop_listen_tls: object | null;
    readonly hop_listen_only: boolean;
  };
}

/** Two places for a certificate would be one too many. */
export function refuseTwoDirectories(
  { envoy }: { readonly envoy: { readonly config_dir: string | null; readonly secrets_dir: string | null } },
  context: z.RefinementCtx,
): void {
  if (envoy.config_dir === null || envoy.secrets_dir === null) return;
  const message = 'is not for beside envoy.config_dir, which has the certificates in it: take it out';
  context.addIssue({ code: 'custom', path: ['envoy', 'secrets_dir'], message });
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
