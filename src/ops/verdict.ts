import type { OnOwnerDown } from '../config/config.ts';

/** `ok`: nothing to do. `warn`: its clients are served, but not as they should be. `down`: they are not, or nobody knows. */
export const VERDICT_LEVELS = ['ok', 'warn', 'down'] as const;
export type VerdictLevel = (typeof VERDICT_LEVELS)[number];

export interface Verdict {
  readonly level: VerdictLevel;
  readonly text: string;
}

interface PoolView {
  readonly site: string;
  readonly up: boolean;
  /** Why this site takes it for down; null: it does not. */
  readonly held: { readonly reason: string } | null;
}

export interface VerdictOptions {
  /** This site. */
  readonly site: string;
  /** Whether health is known. */
  readonly isKnown: boolean;
  readonly draining: boolean;
  /** Its sessions have ended. */
  readonly drained: boolean;
  /** Requests of its sessions in the last minute. */
  readonly ownRequests: number;
  /** Its sessions move to other sites. */
  readonly evicting: boolean;
  readonly onOwnerDown: OnOwnerDown;
  readonly local: PoolView | undefined;
  /** In the order of the config. */
  readonly others: readonly PoolView[];
}

/** The same of a site: of its only application, or how many of several are not well. */
export function verdictOfSite(verdicts: readonly Verdict[]): Verdict {
  const [only, ...others] = verdicts;
  if (only !== undefined && others.length === 0) return only;
  const level = (['down', 'warn'] as const).find((each) => verdicts.some((of) => of.level === each)) ?? 'ok';
  const unwell = verdicts.filter((of) => of.level !== 'ok').length;
  if (unwell === 0) return { level, text: `All ${verdicts.length} applications are well.` };
  return { level, text: `${unwell} of ${verdicts.length} applications ${unwell === 1 ? 'is' : 'are'} not well.` };
}

/** What the clients of an application get now, in one sentence. */
export function verdictOf(options: VerdictOptions): Verdict {
  const { level, text } = judge(options);
  return { level, text: `${text.charAt(0).toUpperCase()}${text.slice(1)}` };
}

function judge(options: VerdictOptions): Verdict {
  const { site, isKnown, draining, drained, evicting, ownRequests, onOwnerDown, local, others } = options;
  if (!isKnown) return { level: 'down', text: 'Health is not known: Envoy decides by its own health checks.' };
  const up = others.find((pool) => pool.up);
  const held = others.flatMap(({ site: of, held: hold }) => (hold === null ? [] : [{ site: of, reason: hold.reason }]));
  const andHeld = held.map((of) => `; ${of.site} is held: ${of.reason}`).join('');
  if (local?.up === true) {
    if (draining && up === undefined) {
      const why = held.length === 0 ? '' : ` (${held.map((of) => `${of.site} is held: ${of.reason}`).join('; ')})`;
      return { level: 'down', text: `${site} drains, and no other site is up${why}: new clients are sent nowhere.` };
    }
    if (drained) return { level: 'warn', text: `${site} is drained: nobody comes any more.` };
    if (evicting && up !== undefined) {
      return { level: 'warn', text: `${site} drains, and its sessions move: ${up.site} serves its clients${andHeld}.` };
    }
    if (draining) {
      const requests = `${ownRequests} ${ownRequests === 1 ? 'request' : 'requests'} of ${site}'s sessions`;
      return { level: 'warn', text: `Draining: new clients go elsewhere, ${requests} in the last minute${andHeld}.` };
    }
    const down = others.filter((pool) => !pool.up && pool.held === null).map((pool) => pool.site);
    const andDown = down.length === 0 ? '' : `; ${down.join(' and ')} ${down.length > 1 ? 'are' : 'is'} down`;
    const isWell = down.length === 0 && held.length === 0;
    return { level: isWell ? 'ok' : 'warn', text: `${site} serves its clients${andDown}${andHeld}.` };
  }
  if (up === undefined && held.length > 0) return { level: 'down', text: `${heldWhileDown(site, held)}.` };
  if (up === undefined) return { level: 'down', text: 'Nobody serves: all pools down, clients get 503.' };
  const text =
    onOwnerDown === 'refuse'
      ? `${site}'s pool is down: ${up.site} serves new clients, sessions of ${site} get 503 (on_owner_down: refuse)${andHeld}.`
      : `${site}'s pool is down: ${up.site} serves its clients${andHeld}.`;
  return { level: onOwnerDown === 'refuse' ? 'down' : 'warn', text };
}

/** The local pool went down while the sites that could serve are held: nothing is decided for them until somebody releases one. */
export function heldWhileDown(
  site: string,
  held: readonly { readonly site: string; readonly reason: string }[],
): string {
  const which = held.map((of) => `${of.site} is held (${of.reason})`).join(', ');
  return `No site is up: ${site}'s pool is down, and ${which}: release ${held.map((of) => of.site).join(' or ')}`;
}
