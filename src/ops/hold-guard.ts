import type { Config } from '../config/config.ts';
import { list } from './drain-guard.ts';
import type { SiteStateReport } from './state.ts';

/** What a state says that matters here. */
interface Stand {
  readonly health_known: boolean;
  readonly applications: readonly Pick<SiteStateReport['applications'][number], 'name' | 'draining'>[];
  readonly pools: readonly Pick<SiteStateReport['pools'][number], 'application' | 'site' | 'up'>[];
}

/**
 * Why to hold a site would leave clients without one; null: it would not.
 * @param names of the applications that it is to be held for
 */
export function whyNotHold(
  config: Config,
  state: Stand,
  { site, names }: { readonly site: string; readonly names: readonly string[] },
): string | null {
  const lonely = names.filter((name) => {
    const draining = state.applications.some((each) => each.name === name && each.draining);
    return !state.pools.some(
      (pool) => pool.application === name && pool.up && (pool.site === config.site ? !draining : pool.site !== site),
    );
  });
  if (lonely.length === 0) return null;
  const which = config.applications.length === 1 ? '' : ` of ${list(lonely)}`;
  return state.health_known
    ? `without ${site} no site${which} takes new clients: ${config.site}'s pool is down or drains, and no third site is up`
    : `health is not known, so nobody knows whether a site${which} is up without ${site}`;
}
