import type { Application } from '../config/config.ts';
import { HOP_HEADER, siteKeys } from '../contract.ts';
import { type Decision, decide, type RequestFacts } from '../decision/decide.ts';
import { createPolicy, LOCAL, LOCAL_ALSO, type Policy } from '../decision/policy.ts';
import type { HttpFilter } from './connection-managers.ts';
import type { DestinationReader } from './destination.ts';
import { at, textAt } from './json.ts';
import { isOn } from './per-route.ts';
import { firstRoute } from './route-survey.ts';
import type { VirtualHost } from './virtual-hosts.ts';

/** A request, and how the sites stand: what the decision is made of. */
export interface SteadyProbe {
  readonly request: RequestFacts;
  /** By site, this one first. */
  readonly up: readonly boolean[];
  readonly path: string;
  /** Of the cookies that it carries. */
  readonly cookieNames: readonly string[];
}

/** The sites' cookies that a request carries, as bits and by their names. */
interface Carried {
  readonly cookies: number;
  readonly cookieNames: readonly string[];
}

const NOTHING: Carried = { cookies: 0, cookieNames: [] };

/** A request that asks no sidecar. */
export interface Steady {
  readonly probe: SteadyProbe;
  readonly route: unknown;
  /** Where the route sends it; empty: nowhere. */
  readonly sentTo: readonly string[];
  /** What the sidecar would decide. */
  readonly decision: Decision;
  /** Whether that is the same. */
  readonly isRight: boolean;
}

export interface SteadyOptions {
  readonly application: Application;
  readonly host: VirtualHost;
  readonly extProc: HttpFilter;
  readonly reader: DestinationReader;
}

/** Sends each request through the routes, with the keys as the sidecars keep them. @returns those that ask no sidecar */
export function surveySteady(probes: Iterable<SteadyProbe>, options: SteadyOptions): readonly Steady[] {
  const { application, host, extProc, reader } = options;
  const policy = createPolicy(application);
  const keys = siteKeys(application);
  const steady: Steady[] = [];
  for (const probe of probes) {
    const headers = headersOf(probe, policy);
    const runtime = new Map(keys.map((key, site) => [key, probe.up[site] === true ? '100' : '0'] as const));
    const route = firstRoute(host, { path: probe.path, headers, runtime }, new Set());
    if (route === undefined || isOn({ ...extProc, isDisabled: false }, [route, host.config, host.routeConfig]))
      continue;
    const decision = decide(policy, { health: { known: true, up: probe.up }, draining: false }, probe.request);
    const sentTo = [...(reader.read(route, host.routeConfig, headers)?.first ?? [])];
    // It is told elsewhere that such clusters are not those of the config.
    if (sentTo.length === 0 && at(route, 'direct_response') === undefined && !isForStatus(route)) continue;
    steady.push({ probe, route, sentTo, decision, isRight: isRight(decision, { policy, route, sentTo }) });
  }
  return steady;
}

interface Taken {
  readonly policy: Policy;
  readonly route: unknown;
  readonly sentTo: readonly string[];
}

function isRight(decision: Decision, { policy, route, sentTo }: Taken): boolean {
  // Envoy's health_check filter says DOWN where the key is behind, so that a route for UP is never wrong for long.
  if (decision.reason === 'status') return decision.up && isForStatus(route);
  if (decision.reason === 'refuse' || decision.reason === 'unknown' || isForStatus(route)) return false;
  // What the answer must take away only the sidecar takes away.
  return decision.expire === 0 && sentTo.length === 1 && sentTo[0] === policy.sites[decision.pool]?.cluster;
}

/** Whether it is one by which Envoy answers the status URI. */
export function isForStatus(route: unknown): boolean {
  return textAt(route, 'metadata', 'filter_metadata', 'site_persistence', 'decision') === 'status';
}

function headersOf({ request, cookieNames }: SteadyProbe, { sites }: Policy): Record<string, string> {
  const cookies = cookieNames.map((name) => `${name}=x`);
  return {
    ...(cookies.length === 0 ? {} : { cookie: ['a=1', ...cookies].join('; ') }),
    ...(request.hasHop ? { [HOP_HEADER]: sites[1]?.name ?? 'other' } : {}),
  };
}

/** Every request in every state: 4^sites times 8, and with more names of a cookie more. */
export function* allProbes(application: Application): Generator<SteadyProbe> {
  const { sites } = createPolicy(application);
  const all = sites.reduce<Carried[]>(
    (before, _, site) =>
      before.flatMap((one) => [NOTHING, ...waysToCarry(sites, site)].map((other) => both(one, other))),
    [NOTHING],
  );
  for (let set = 0; set < 2 ** sites.length; set++) {
    const up = sites.map((_, site) => (set & (1 << site)) !== 0);
    for (const carried of all) yield* probesOf(application, up, carried);
  }
}

/** With all sites up, which is when steady routes are taken, and the cookies of at most two: what tells a wrong route. */
export function* someProbes(application: Application): Generator<SteadyProbe> {
  const { sites } = createPolicy(application);
  const up = sites.map(() => true);
  yield* probesOf(application, up, NOTHING);
  for (const site of sites.keys()) {
    const others = new Set([LOCAL, (site + 1) % sites.length]);
    others.delete(site);
    for (const one of waysToCarry(sites, site)) {
      yield* probesOf(application, up, one);
      for (const other of others) yield* probesOf(application, up, both(one, byOwnName(sites, other)));
    }
  }
}

/** A site's cookie under its own name, under each of its others, and under both. */
function waysToCarry(sites: Policy['sites'], site: number): Carried[] {
  const own = byOwnName(sites, site);
  const others = (sites[site]?.cookieNames ?? []).slice(1).map((name) => ({
    cookies: 1 << site,
    cookieNames: [name],
  }));
  const underBoth = others.map((other) => both(own, other));
  if (site !== LOCAL) return [own, ...others, ...underBoth];
  return [own, ...others, ...underBoth.map((carried) => ({ ...carried, cookies: carried.cookies | LOCAL_ALSO }))];
}

function byOwnName(sites: Policy['sites'], site: number): Carried {
  return { cookies: 1 << site, cookieNames: (sites[site]?.cookieNames ?? []).slice(0, 1) };
}

function both(one: Carried, other: Carried): Carried {
  return { cookies: one.cookies | other.cookies, cookieNames: [...one.cookieNames, ...other.cookieNames] };
}

function* probesOf(
  { statusUri }: Application,
  up: readonly boolean[],
  { cookies, cookieNames }: Carried,
): Generator<SteadyProbe> {
  const escaped = `/%${statusUri.charCodeAt(1).toString(16)}${statusUri.slice(2)}`;
  for (const hasHop of [false, true]) {
    for (const path of ['/', statusUri, escaped, `${statusUri}2`]) {
      const request = { isStatusUri: path === statusUri || path === escaped, hasHop, cookies };
      yield { request, up, path, cookieNames };
    }
  }
}

/** In words, for a finding. */
export function describeProbe({ request, up, path, cookieNames }: SteadyProbe, { sites }: Policy): string {
  const names = sites.flatMap((site) => {
    const carried = site.cookieNames.filter((name) => cookieNames.includes(name));
    if (carried.length === 0) return [];
    // Of a site with one name it goes without saying.
    return site.cookieNames.length === 1 ? [site.name] : [`${site.name} as ${carried.join(' and as ')}`];
  });
  const down = sites.filter((_, site) => up[site] !== true).map(({ name }) => name);
  const parts = [
    ...(request.isStatusUri ? [path.includes('%') ? 'for the status URI, escaped' : 'for the status URI'] : []),
    ...(request.hasHop ? [`with ${HOP_HEADER}`] : []),
    ...(names.length === 0 ? [] : [`with the cookie of ${names.join(' and ')}`]),
    ...(down.length === 0 ? [] : [`while ${down.join(' and ')} ${down.length > 1 ? 'are' : 'is'} down`]),
  ];
  return parts.length === 0 ? 'without a cookie' : parts.join(' ');
}

/** Of a decision, where it leads. */
export function describeDecision(decision: Decision, { sites }: Policy): string {
  if (decision.reason === 'status') return `the answer ${decision.up ? 'UP' : 'DOWN'}`;
  if (!('pool' in decision)) return decision.reason;
  const cluster = sites[decision.pool]?.cluster ?? sites[LOCAL]?.cluster ?? '';
  return decision.expire === 0 ? cluster : `${cluster}, and its answer expires cookies`;
}
