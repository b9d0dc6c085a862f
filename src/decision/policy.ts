import { type Application, type BothCookies, cookieNamesOf, type OnOwnerDown } from '../config/config.ts';

/**
 * A site as the decision sees it. Sites are known by their index: 0 is the local site, the others follow in the
 * order of the config file. A set of sites is an integer with bit `index` set for each.
 */
export interface Site {
  readonly name: string;
  /** The Envoy cluster that leads to it, and the value of the pool header. */
  readonly cluster: string;
  /** Each tells the site; the cookie is set under the first. */
  readonly cookieNames: readonly string[];
}

export const LOCAL = 0;

/**
 * Beside the bits of the sites in a set of cookies: the local site's cookie stands there under another name as well as under the
 * one that it is set under.
 */
export const LOCAL_ALSO = 1 << 16;

/** Whether a set of cookies has those of more than one site. */
export function areOfSeveralSites(cookies: number): boolean {
  const sites = cookies & ~LOCAL_ALSO;
  return (sites & (sites - 1)) !== 0;
}

/** What the decision needs of an application, computed once. */
export interface Policy {
  readonly sites: readonly Site[];
  readonly onOwnerDown: OnOwnerDown;
  /** The order in which a request's cookies are asked who owns the session. */
  readonly ownerOrder: readonly number[];
}

export function createPolicy({ site, localPool, remotePools, onOwnerDown, bothCookies }: Application): Policy {
  const sites: Site[] = [
    { name: site, cluster: localPool.cluster, cookieNames: cookieNamesOf(localPool.cookie) },
    ...remotePools.map((pool) => ({ name: pool.site, cluster: pool.cluster, cookieNames: cookieNamesOf(pool.cookie) })),
  ];
  return { sites, onOwnerDown, ownerOrder: orderOfOwners(sites.length, bothCookies) };
}

function orderOfOwners(siteCount: number, bothCookies: BothCookies): number[] {
  const remotes = Array.from({ length: siteCount - 1 }, (_, index) => index + 1);
  return bothCookies === 'remote' ? [...remotes, LOCAL] : [LOCAL, ...remotes];
}
