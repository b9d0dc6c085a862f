import { type Application, cookieNamesOf } from '../config/config.ts';
import { drainInFileKey, drainKey, evictKey, HOP_HEADER, openKey, POOL_HEADER, siteKeys } from '../contract.ts';
import { orElsewhere, redirectTo } from '../envoy-config/names.ts';
import type { ConnectionManager, HttpFilter } from './connection-managers.ts';
import { clustersBehind, createDestinationReader, type Destination, type DestinationReader } from './destination.ts';
import type { EnvoySnapshot } from './envoy-snapshot.ts';
import { at, listAt, textAt } from './json.ts';
import { isOn } from './per-route.ts';
import { poolsOf } from './pools.ts';
import { matchRoute, type Probe } from './route-match.ts';
import type { HostMap, VirtualHost } from './virtual-hosts.ts';

/** A request of a kind that must be routed rightly. */
export type Kind =
  /** The sidecar has decided for `pool`. */
  | 'decided'
  /** The same for the local pool, for a request that another site has forwarded. */
  | 'decided forwarded'
  /** No decision: `pool` is what its cookie says, or the local pool without one. */
  | 'undecided'
  | 'undecided forwarded';

/** Where one kind of request goes. */
export interface RoutedRequest {
  readonly kind: Kind;
  /** The cluster of the pool that it should go to. */
  readonly pool: string;
  readonly path: string;
  readonly host: VirtualHost;
  /** The route that takes it; undefined where none does, which is a 404. */
  readonly route: unknown;
  /** Null where that route leads to no cluster that is known. */
  readonly destination: Destination | null;
}

export interface RouteSurvey {
  readonly requests: readonly RoutedRequest[];
  /** The application's virtual hosts: those that have to do with its pools, and that the sidecar takes for its. */
  readonly hosts: readonly VirtualHost[];
  /** Those of them whose routes to a pool are never reached, and the route that takes what they are for. */
  readonly shadowed: readonly { readonly host: VirtualHost; readonly by: unknown }[];
  /** Routes that are taken by what a probe can't say, before the one that it found. */
  readonly unsure: readonly string[];
  /** Routes that a path can't be made up for. */
  readonly unprobed: readonly string[];
}

/** A connection manager whose requests ask the sidecar. */
type AskingManager = ConnectionManager & { readonly extProc: HttpFilter };

/** More paths than anybody tells apart by hand; each is asked for with every kind of request. */
const MAX_PATHS = 100;

export interface SurveyOptions {
  readonly application: Application;
  readonly snapshot: EnvoySnapshot;
  readonly hostMap: HostMap;
}

/** Sends requests of each kind through an application's routes of an edge, for each path that its routes tell apart. */
export function surveyRoutes(edge: AskingManager, { application, snapshot, hostMap }: SurveyOptions): RouteSurvey {
  const reader = readerOf([application], snapshot);
  const requests: RoutedRequest[] = [];
  const hosts: VirtualHost[] = [];
  const shadowed: { host: VirtualHost; by: unknown }[] = [];
  const runtime = runtimeOfAsking(application, snapshot);
  const unsure = new Set<string>();
  const unprobed = new Set<string>();
  for (const host of hostMap.all) {
    if (!hostMap.isOf(host, application) || !concernsPools(host, application, reader)) continue;
    hosts.push(host);
    const { paths, without } = pathsOf(listAt(host.config, 'routes'), application);
    for (const route of without) unprobed.add(describeRoute(route));
    const aside = new Map<string, unknown>();
    for (const path of paths) {
      const routed = kindsOf(application).map((kind) => send(kind, path, host, { reader, runtime, unsure }));
      // Routes that have nothing to do with the pools: a redirect, an answer, another application.
      if (routed.every(({ route }) => route === routed[0]?.route) && isAside(routed[0], edge)) {
        aside.set(path, routed[0]?.route);
      } else {
        requests.push(...routed);
      }
    }
    if (aside.size === paths.length && without.length === 0 && asks(host, edge, reader)) {
      shadowed.push({ host, by: aside.get('/') ?? [...aside.values()].at(-1) });
    }
  }
  return { requests, hosts, shadowed, unsure: [...unsure], unprobed: [...unprobed] };
}

interface Request {
  readonly kind: Kind;
  readonly pool: string;
  readonly headers: Readonly<Record<string, string>>;
}

function kindsOf({ localPool, remotePools }: Application): Request[] {
  const local = localPool.cluster;
  const hop = remotePools[0]?.site ?? 'other';
  const remoteCookies = remotePools
    .flatMap(({ cookie }) => cookieNamesOf(cookie))
    .map((name) => `${name}=x`)
    .join('; ');
  return [
    // With the other sites' cookies, as when a session is adopted: no route by cookie may come first.
    { kind: 'decided', pool: local, headers: { [POOL_HEADER]: local, cookie: remoteCookies } },
    // Without a cookie, as when the local pool is down: no route by cookie can stand in.
    ...remotePools.map(
      ({ cluster }): Request => ({ kind: 'decided', pool: cluster, headers: { [POOL_HEADER]: cluster } }),
    ),
    {
      kind: 'decided forwarded',
      pool: local,
      headers: { [POOL_HEADER]: local, [HOP_HEADER]: hop, cookie: remoteCookies },
    },
    { kind: 'undecided', pool: local, headers: {} },
    ...remotePools.flatMap(({ cluster, cookie }) =>
      cookieNamesOf(cookie).map(
        (name): Request => ({ kind: 'undecided', pool: cluster, headers: { cookie: `a=1; ${name}=x` } }),
      ),
    ),
    {
      kind: 'undecided forwarded',
      pool: local,
      // A cookie of a remote site as well: even so it must not be sent on.
      headers: { [HOP_HEADER]: hop, cookie: remoteCookies },
    },
  ];
}

interface Surroundings {
  readonly reader: DestinationReader;
  readonly runtime: ReadonlyMap<string, string>;
  readonly unsure: Set<string>;
}

function send(
  request: Request,
  path: string,
  host: VirtualHost,
  { reader, runtime, unsure }: Surroundings,
): RoutedRequest {
  const { kind, pool, headers } = request;
  const route = firstRoute(host, { path, headers, runtime }, unsure);
  return { kind, pool, path, host, route, destination: reader.read(route, host.routeConfig, headers) };
}

/** The route that takes a request; those before it that might are noted. */
export function firstRoute(host: VirtualHost, probe: Probe, unsure: Set<string>): unknown {
  for (const route of listAt(host.config, 'routes')) {
    const match = matchRoute(route, probe);
    if (match === 'yes') return route;
    if (match === 'unknown' && !isUnprobed(route)) unsure.add(describeRoute(route));
  }
  return undefined;
}

/** What asks the sidecar has not taken the fast path; nothing drains, and no site is held. */
export function runtimeOfAsking(application: Application, { runtime }: EnvoySnapshot): ReadonlyMap<string, string> {
  const { name, remotePools } = application;
  const off = [...siteKeys(application), drainKey(name), evictKey(name), drainInFileKey(name)];
  const on = remotePools.map(({ site }) => openKey(name, site));
  return new Map([
    ...(runtime ?? []),
    ...off.map((key) => [key, '0'] as const),
    ...on.map((key) => [key, '100'] as const),
  ]);
}

/** To the pools of these applications. */
export function readerOf(applications: readonly Application[], snapshot: EnvoySnapshot): DestinationReader {
  return createDestinationReader(new Map(applications.flatMap(endsOf)), snapshot);
}

/** The clusters that count as an application's pools, and as which. */
function endsOf(application: Application): (readonly [string, string])[] {
  const { localPool, remotePools } = application;
  return [
    ...poolsOf(application).map(({ cluster }) => [cluster, cluster] as const),
    [orElsewhere(localPool), localPool.cluster],
    ...remotePools.map((pool) => [redirectTo(pool), pool.cluster] as const),
  ];
}

/** Whether some route of a virtual host leads to a pool of the application. */
function concernsPools(host: VirtualHost, { localPool }: Application, reader: DestinationReader): boolean {
  const byHeader = { [POOL_HEADER]: localPool.cluster };
  return listAt(host.config, 'routes').some((route) => {
    const destination = reader.read(route, host.routeConfig, byHeader);
    return destination !== null && destination.first.size + destination.later.size > 0;
  });
}

/** The applications to whose pools a virtual host leads. */
export function createUserSearch(
  applications: readonly Application[],
  snapshot: EnvoySnapshot,
): (host: VirtualHost) => readonly Application[] {
  const known = applications.map((application) => {
    const ends = endsOf(application);
    const reader = createDestinationReader(new Map(ends), snapshot);
    return { application, reader, ends: ends.map(([cluster]) => cluster) };
  });
  return (host) => {
    const routes = listAt(host.config, 'routes');
    // Of hundreds of applications nearly none is looked at further.
    const isByHeader = routes.some((route) => at(route, 'route', 'cluster_header') !== undefined);
    const reached = clustersBehind(routes, host.routeConfig, snapshot);
    return known
      .filter(({ ends }) => isByHeader || ends.some((cluster) => reached.has(cluster)))
      .filter(({ application, reader }) => concernsPools(host, application, reader))
      .map(({ application }) => application);
  };
}

/** Whether a route that takes every kind of request has nothing to do with sessions. */
function isAside(routed: RoutedRequest | undefined, edge: AskingManager): boolean {
  if (routed?.route === undefined) return false;
  const { destination, route } = routed;
  if (destination === null || destination.first.size + destination.later.size === 0) return true;
  return isExtProcOff(route, edge);
}

/** Whether some route of a virtual host leads to a pool by what the sidecar says. */
function asks({ config, routeConfig }: VirtualHost, { extProc }: AskingManager, reader: DestinationReader): boolean {
  return listAt(config, 'routes').some(
    (route) =>
      (reader.read(route, routeConfig, {})?.first.size ?? 0) > 0 &&
      isOn({ ...extProc, isDisabled: false }, [route, config, routeConfig]),
  );
}

/** Whether the config of a route, or of a virtual host, says that it does without the sidecar. */
export function isExtProcOff(route: unknown, { extProc }: AskingManager): boolean {
  return !isOn({ ...extProc, isDisabled: false }, [route]);
}

/** Each path that routes tell apart, and the routes for which none could be made up. */
function pathsOf(
  routes: readonly unknown[],
  { statusUri }: Application,
): { paths: readonly string[]; without: readonly unknown[] } {
  const paths = new Set<string>();
  for (const route of routes) {
    const match = at(route, 'match');
    const path = textAt(match, 'prefix') ?? textAt(match, 'path') ?? textAt(match, 'path_separated_prefix');
    // The sidecar answers the status URI itself.
    if (path === undefined || path === statusUri) continue;
    paths.add(path === '' ? '/' : path);
  }
  return { paths: [...paths].slice(0, MAX_PATHS), without: routes.filter(isUnprobed) };
}

function isUnprobed(route: unknown): boolean {
  const match = at(route, 'match');
  return at(match, 'safe_regex') !== undefined || at(match, 'path_match_policy') !== undefined;
}

/** `route "x"`, or by what it matches where it has no name. */
export function describeRoute(route: unknown): string {
  if (route === undefined) return 'no route';
  const name = textAt(route, 'name');
  if (name !== undefined && name !== '') return `route ${JSON.stringify(name)}`;
  return `the route without a name for ${JSON.stringify(at(route, 'match') ?? {})}`;
}
