import type { Config } from '../config/config.ts';
import type { SiteStateReport } from './state.ts';

/** Of many applications not each is named. */
const MAX_NAMED = 5;

/**
 * Why a drain would leave clients without a site; null: it would not.
 * @param names of the applications that are to drain; null: all
 */
export function whyNotDrain(
  config: Config,
  state: SiteStateReport,
  { names, evict }: { readonly names: readonly string[] | null; readonly evict: boolean },
): string | null {
  const asked = config.applications.filter(({ name }) => names === null || names.includes(name));
  const withOther = new Set(
    state.pools.filter(({ up, site }) => up && site !== config.site).map((pool) => pool.application),
  );
  const lonely = asked.filter(({ name }) => !withOther.has(name)).map(({ name }) => name);
  if (lonely.length > 0) {
    const which = asked.length === 1 ? '' : ` of ${list(lonely)}`;
    return state.health_known
      ? `no other site${which} is up, so its clients would have nowhere to go`
      : `health is not known, so nobody knows whether another site${which} is up`;
  }
  const refusing = evict ? asked.filter(({ onOwnerDown }) => onOwnerDown === 'refuse').map(({ name }) => name) : [];
  if (refusing.length === 0) return null;
  return `on_owner_down of ${list(refusing)} is refuse: evicted sessions would get 503 instead of another site`;
}

export function list(names: readonly string[]): string {
  const more = names.length - MAX_NAMED;
  return `${names.slice(0, MAX_NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
