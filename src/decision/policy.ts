import type { BothCookies, Config, OnOwnerDown } from '../config/config.ts';

/**
 * A site as the decision sees it. Sites are known by their index: 0 is the local site, the others follow in the
 * order of the config file. A set of sites is an integer with bit `index` set for each.
 */
export interface Site {
  readonly name: string;
  /** The Envoy cluster that leads to it, and the value of the pool header. */
  readonly cluster: string;
  readonly cookieName: string;
}

export const LOCAL = 0;

/** What the decision needs of the config, computed once. */
export interface Policy {
  readonly sites: readonly Site[];
  readonly onOwnerDown: OnOwnerDown;
  /** The order in which a request's cookies are asked who owns the session. */
  readonly ownerOrder: readonly number[];
}

export function createPolicy(config: Config): Policy {
  const sites: Site[] = [
    { name: config.site, cluster: config.localPool.cluster, cookieName: config.localPool.cookie.name },
    ...config.remotePools.map((pool) => ({ name: pool.site, cluster: pool.cluster, cookieName: pool.cookie.name })),
  ];
  return { sites, onOwnerDown: config.onOwnerDown, ownerOrder: orderOfOwners(sites.length, config.bothCookies) };
}

function orderOfOwners(siteCount: number, bothCookies: BothCookies): number[] {
  const remotes = Array.from({ length: siteCount - 1 }, (_, index) => index + 1);
  return bothCookies === 'remote' ? [...remotes, LOCAL] : [LOCAL, ...remotes];
}
