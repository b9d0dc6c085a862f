import { NOBODY } from '../decision/decide.ts';
import type { ApplicationCounters } from './counters.ts';

/**
 * What becomes of sessions, counted by their requests at this site. `known`: this site's own, served here. `new`: without any
 * site's cookie, served here or by failover elsewhere. `server_gone`: of the known ones those that got another server than their
 * cookie names, which was gone or down. `moved`: this site's own, sent to another site, for its pool is down. `adopted`: another
 * site's that became this site's. `forwarded`: another site's, sent there. `both_cookies`: with more than one site's cookie,
 * beside what else becomes of them.
 */
export const SESSION_KINDS = ['known', 'new', 'server_gone', 'moved', 'adopted', 'forwarded', 'both_cookies'] as const;
export type SessionKind = (typeof SESSION_KINDS)[number];

export interface SessionCount {
  readonly kind: SessionKind;
  /** Whose session it is; `none` of new ones. */
  readonly site: string;
  readonly count: number;
}

/** Of one application, each kind by the sites of which there can be some; `server_gone` not where Envoy does not say. @param site this one */
export function sessionCounts(counters: ApplicationCounters, site: string): readonly SessionCount[] {
  const counts: SessionCount[] = [];
  for (const [owner, of] of counters.owners) {
    if (owner === NOBODY) {
      counts.push({ kind: 'new', site: owner, count: of.local.count + of.failover.count });
      continue;
    }
    if (owner === site) {
      const known = of.local.count;
      const gone = counters.serverGone ?? (known === 0 ? 0 : null);
      counts.push({ kind: 'known', site, count: known });
      if (gone !== null) counts.push({ kind: 'server_gone', site, count: gone });
      counts.push({ kind: 'moved', site, count: of.failover.count });
    } else {
      counts.push({ kind: 'adopted', site: owner, count: of.adopt.count });
      counts.push({ kind: 'forwarded', site: owner, count: of.forward.count });
    }
    const both = Object.values(of).reduce((sum, { bothCookies }) => sum + bothCookies, 0);
    counts.push({ kind: 'both_cookies', site: owner, count: both });
  }
  return counts;
}

export type SessionTotals = Readonly<Record<SessionKind, number>>;

/** The same for all sites together; what is not known is 0. */
export function sessionTotals(counts: readonly SessionCount[]): SessionTotals {
  const totals = forEachSessionKind(() => 0);
  for (const { kind, count } of counts) totals[kind] += count;
  return totals;
}

/** An object with an entry for each kind. */
export function forEachSessionKind<T>(make: (kind: SessionKind) => T): Record<SessionKind, T> {
  return {
    known: make('known'),
    new: make('new'),
    server_gone: make('server_gone'),
    moved: make('moved'),
    adopted: make('adopted'),
    forwarded: make('forwarded'),
    both_cookies: make('both_cookies'),
  };
}
