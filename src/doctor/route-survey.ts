import type { Config } from '../config/config.ts';
import { FAST_PATH_KEY, HOP_HEADER, POOL_HEADER } from '../contract.ts';
import type { ConnectionManager, HttpFilter } from './connection-managers.ts';
import { createDestinationReader, type Destination, type DestinationReader } from './destination.ts';
import type { EnvoySnapshot } from './envoy-snapshot.ts';
import { EXT_PROC_PER_ROUTE, FILTER_CONFIG } from './extension-types.ts';
import { at, entriesAt, isTrueAt, listAt, textAt, typeOf } from './json.ts';
import { matchRoute, type Probe } from './route-match.ts';

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

export interface VirtualHost {
  readonly name: string;
  readonly config: unknown;
  readonly routeConfig: unknown;
}

export interface RouteSurvey {
  readonly requests: readonly RoutedRequest[];
  /** Virtual hosts that have to do with the pools. */
  readonly hosts: readonly VirtualHost[];
  /** Routes that are taken by what a probe can't say, before the one that it found. */
  readonly unsure: readonly string[];
  /** Routes that a path can't be made up for. */
  readonly unprobed: readonly string[];
}

/** A connection manager whose requests ask the sidecar. */
type AskingManager = ConnectionManager & { readonly extProc: HttpFilter };

/** More paths than anybody tells apart by hand; each is asked for with every kind of request. */
const MAX_PATHS = 100;

/** Sends requests of each kind through the routes of an edge, for each path that its routes tell apart. */
export function surveyRoutes(edge: AskingManager, config: Config, snapshot: EnvoySnapshot): RouteSurvey {
  const reader = createDestinationReader(config, snapshot);
  const requests: RoutedRequest[] = [];
  const hosts: VirtualHost[] = [];
  const unsure = new Set<string>();
  const unprobed = new Set<string>();
  for (const item of listAt(edge.routeConfig, 'virtual_hosts')) {
    const host = { name: textAt(item, 'name') ?? '(no name)', config: item, routeConfig: edge.routeConfig };
    const routes = listAt(item, 'routes');
    if (!routes.some((route) => concernsPools(route, host, config, reader))) continue;
    hosts.push(host);
    const { paths, without } = pathsOf(routes, config);
    for (const route of without) unprobed.add(describeRoute(route));
    for (const path of paths) {
      const routed = kindsOf(config).map((kind) => send(kind, path, host, { reader, snapshot, unsure }));
      // Routes that have nothing to do with the pools: a redirect, an answer, another application.
      if (routed.every(({ route }) => route === routed[0]?.route) && isAside(routed[0], edge)) continue;
      requests.push(...routed);
    }
  }
  return { requests, hosts, unsure: [...unsure], unprobed: [...unprobed] };
}

interface Request {
  readonly kind: Kind;
  readonly pool: string;
  readonly headers: Readonly<Record<string, string>>;
}

function kindsOf(config: Config): Request[] {
  const local = config.localPool.cluster;
  const hop = config.remotePools[0]?.site ?? 'other';
  const remoteCookies = config.remotePools.map(({ cookie }) => `${cookie.name}=x`).join('; ');
  return [
    // With the other sites' cookies, as when a session is adopted: no route by cookie may come first.
    { kind: 'decided', pool: local, headers: { [POOL_HEADER]: local, cookie: remoteCookies } },
    // Without a cookie, as when the local pool is down: no route by cookie can stand in.
    ...config.remotePools.map(
      ({ cluster }): Request => ({ kind: 'decided', pool: cluster, headers: { [POOL_HEADER]: cluster } }),
    ),
    {
      kind: 'decided forwarded',
      pool: local,
      headers: { [POOL_HEADER]: local, [HOP_HEADER]: hop, cookie: remoteCookies },
    },
    { kind: 'undecided', pool: local, headers: {} },
    ...config.remotePools.map(
      (pool): Request => ({
        kind: 'undecided',
        pool: pool.cluster,
        headers: { cookie: `a=1; ${pool.cookie.name}=x` },
      }),
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
  readonly snapshot: EnvoySnapshot;
  readonly unsure: Set<string>;
}

function send(
  request: Request,
  path: string,
  host: VirtualHost,
  { reader, snapshot, unsure }: Surroundings,
): RoutedRequest {
  const { kind, pool, headers } = request;
  // What asks the sidecar has not taken the fast path.
  const runtime = new Map([...(snapshot.runtime ?? []), [FAST_PATH_KEY, '0'] as const]);
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

function concernsPools(route: unknown, host: VirtualHost, config: Config, reader: DestinationReader): boolean {
  const byHeader = { [POOL_HEADER]: config.localPool.cluster };
  const destination = reader.read(route, host.routeConfig, byHeader);
  return destination !== null && destination.first.size + destination.later.size > 0;
}

/** Whether a route that takes every kind of request has nothing to do with sessions. */
function isAside(routed: RoutedRequest | undefined, edge: AskingManager): boolean {
  if (routed?.route === undefined) return false;
  const { destination, route } = routed;
  if (destination === null || destination.first.size + destination.later.size === 0) return true;
  return isExtProcOff(route, edge);
}

const SWITCHES_OFF = [EXT_PROC_PER_ROUTE, FILTER_CONFIG];

/** Whether a route does without the sidecar. */
export function isExtProcOff(route: unknown, edge: AskingManager): boolean {
  return entriesAt(route, 'typed_per_filter_config').some(
    ([name, settings]) =>
      name === edge.extProc.name && SWITCHES_OFF.includes(typeOf(settings) ?? '') && isTrueAt(settings, 'disabled'),
  );
}

/** Each path that routes tell apart, and the routes for which none could be made up. */
function pathsOf(
  routes: readonly unknown[],
  config: Config,
): { paths: readonly string[]; without: readonly unknown[] } {
  const paths = new Set<string>();
  for (const route of routes) {
    const match = at(route, 'match');
    const path = textAt(match, 'prefix') ?? textAt(match, 'path') ?? textAt(match, 'path_separated_prefix');
    // The sidecar answers the status URI itself.
    if (path === undefined || path === config.statusUri) continue;
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
