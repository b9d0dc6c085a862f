import { LOCAL, LOCAL_ALSO, type Policy } from './policy.ts';

/** What a request says that matters here. */
export interface RequestFacts {
  /** The percent-decoded path without its query is the status URI. */
  readonly isStatusUri: boolean;
  /** The hop header is present: another site forwarded this request. */
  readonly hasHop: boolean;
  /** The sites whose cookie the request carries, as a set of bits (see {@link Policy}), with {@link LOCAL_ALSO} beside them. */
  readonly cookies: number;
}

/** Which pools are up, by site index; or nothing, where Envoy has not said so for too long. */
export type PoolHealth = { readonly known: true; readonly up: readonly boolean[] } | { readonly known: false };

/** How an application stands at this site. */
export interface SiteState {
  readonly health: PoolHealth;
  /** The world is told to go elsewhere; the other sites still send the sessions that live here. */
  readonly draining: boolean;
}

/** No site owns the session: the request carries no site's cookie. */
export const NO_OWNER = -1;

/** What to do with a request, and why: `reason` is the metric label and goes into the access log with the owner. */
export type Decision =
  /** The sidecar answers the status URI itself. */
  | { readonly reason: 'status'; readonly owner: number; readonly up: boolean }
  /** 503 with the refusal header: not served, safe to try elsewhere. */
  | { readonly reason: 'refuse'; readonly owner: number }
  /** Envoy sends the request to the site `pool`. */
  | { readonly reason: RouteReason; readonly owner: number; readonly pool: number; readonly expire: number }
  /** No opinion: Envoy's fallback routes decide. */
  | { readonly reason: 'unknown'; readonly owner: number };

export type Reason = Decision['reason'];

export const REASONS = [
  'local',
  'forward',
  'failover',
  'adopt',
  'refuse',
  'unknown',
  'status',
] as const satisfies readonly Reason[];

/** What nobody is called as an owner: no site may have the name. */
export const NOBODY = 'none';

/** An owner as metrics, logs and Envoy's access log name it. */
export function ownerName(policy: Policy, owner: number): string {
  return policy.sites[owner]?.name ?? NOBODY;
}

/**
 * `forward`: to the site that owns the session. `adopt`: a session of another site becomes this site's.
 * `failover`: the local pool is down, so another site serves. `local`: all else that goes to the local pool.
 */
export type RouteReason = 'local' | 'forward' | 'failover' | 'adopt';

/**
 * Where a request goes. Pure; the first row that holds wins.
 *
 * `expire` is the set of other sites' cookies that the answer takes away, so that a client holds one site's cookie
 * after it was served: what makes a session move once and not bounce back when its old owner returns. With
 * {@link LOCAL_ALSO} in it this site's cookie goes under its other names, never before the client holds it under the one that it
 * is set under: while a name is changed, Envoy may not yet set that which the sidecar takes for the new one.
 */
export function decide(policy: Policy, state: SiteState, request: RequestFacts): Decision {
  const { health } = state;
  const { cookies } = request;

  if (request.isStatusUri) {
    const isDrainedFor = state.draining && !request.hasHop;
    // A sidecar that has lost Envoy's admin interface must not take a healthy site off the world: Envoy knows better.
    if (health.known || isDrainedFor) {
      const up = health.known && isUp(health.up, LOCAL) && !isDrainedFor;
      return { reason: 'status', owner: firstOwner(policy, cookies), up };
    }
  }
  if (!health.known) return { reason: 'unknown', owner: firstOwner(policy, cookies) };
  const { up } = health;

  // Never forwarded again, whatever the cookies say: this is what makes a loop impossible.
  if (request.hasHop) {
    const owner = has(cookies, LOCAL) ? LOCAL : firstOwner(policy, cookies);
    return isUp(up, LOCAL) ? serveHere(policy, owner, cookies) : { reason: 'refuse', owner };
  }

  const owner = ownerThatIsUp(policy, up, cookies);
  if (owner > LOCAL && isUp(up, owner)) return { reason: 'forward', owner, pool: owner, expire: 0 };
  if (policy.onOwnerDown === 'refuse' && owner !== NO_OWNER && !isUp(up, owner)) return { reason: 'refuse', owner };
  if (isUp(up, LOCAL)) return serveHere(policy, owner, cookies);

  const other = up.indexOf(true, LOCAL + 1);
  if (other !== -1) return { reason: 'failover', owner, pool: other, expire: 0 };
  // Nothing is up. Envoy's local cluster answers 503 at once, and no cookie is taken from a session that was not served.
  return { reason: 'local', owner, pool: LOCAL, expire: 0 };
}

/** Health as it is to be decided by while this site takes others for down, whatever they are. @param sites by index */
export function withoutHeld(health: PoolHealth, sites: Policy['sites'], held: ReadonlySet<string>): PoolHealth {
  if (!health.known || held.size === 0) return health;
  return { known: true, up: health.up.map((isSiteUp, site) => isSiteUp && !held.has(sites[site]?.name ?? '')) };
}

/**
 * Health as it is to be decided by while this site moves its sessions to others: its own pool does not serve. As long as there is
 * another, for a session that nobody serves is worse than one that stays.
 */
export function evicted(health: PoolHealth): PoolHealth {
  if (!health.known || health.up.indexOf(true, LOCAL + 1) === -1) return health;
  return { known: true, up: health.up.map((isSiteUp, site) => isSiteUp && site !== LOCAL) };
}

function serveHere(policy: Policy, owner: number, cookies: number): Decision {
  const isKept = policy.onOwnerDown === 'keep' && owner !== LOCAL;
  if (isKept) return { reason: 'local', owner, pool: LOCAL, expire: cookies & LOCAL_ALSO };
  const expire = cookies & ~(1 << LOCAL);
  return { reason: owner > LOCAL ? 'adopt' : 'local', owner, pool: LOCAL, expire };
}

/** The owner among the cookies' sites: the first that is up, or else the first. */
function ownerThatIsUp(policy: Policy, up: readonly boolean[], cookies: number): number {
  if (cookies === 0) return NO_OWNER;
  for (const site of policy.ownerOrder) {
    if (has(cookies, site) && isUp(up, site)) return site;
  }
  return firstOwner(policy, cookies);
}

function firstOwner(policy: Policy, cookies: number): number {
  if (cookies === 0) return NO_OWNER;
  for (const site of policy.ownerOrder) {
    if (has(cookies, site)) return site;
  }
  return NO_OWNER;
}

function has(sites: number, index: number): boolean {
  return (sites & (1 << index)) !== 0;
}

function isUp(up: readonly boolean[], index: number): boolean {
  return up[index] === true;
}
