import { describe, expect, test } from 'vitest';
import type { Reason } from '../../../src/decision/decide.ts';
import { RouteCounts } from '../../../src/health/route-counts.ts';
import { Counters } from '../../../src/metrics/counters.ts';
import { sessionCounts, sessionTotals } from '../../../src/metrics/sessions.ts';

/** The counters of an application at east, with these decisions by reason and owner. */
function countersOf(decisions: readonly (readonly [Reason, string, number])[]) {
  const counters = new Counters().ofApplication('shop');
  for (const owner of ['none', 'east', 'west', 'north']) counters.addOwner(owner);
  for (const [reason, owner, count] of decisions) counters.decision(reason, owner).count += count;
  return counters;
}

const NOTHING = { known: 0, new: 0, server_gone: 0, moved: 0, adopted: 0, forwarded: 0, both_cookies: 0 };

const ROWS: readonly (readonly [Reason, owner: string, expected: Partial<typeof NOTHING>])[] = [
  ['local', 'east', { known: 1 }],
  ['local', 'none', { new: 1 }],
  ['failover', 'none', { new: 1 }],
  ['failover', 'east', { moved: 1 }],
  ['failover', 'west', {}],
  ['adopt', 'west', { adopted: 1 }],
  ['adopt', 'north', { adopted: 1 }],
  ['forward', 'north', { forwarded: 1 }],
  // What stays another site's while this one serves it, on_owner_down: keep.
  ['local', 'west', {}],
  ['refuse', 'east', {}],
  ['unknown', 'east', {}],
  ['status', 'none', {}],
];

test.each(ROWS)('%s of %s', (reason, owner, expected) => {
  const totals = sessionTotals(sessionCounts(countersOf([[reason, owner, 1]]), 'east'));
  expect({ ...totals, server_gone: 0 }).toEqual({ ...NOTHING, ...expected });
});

test('each kind has the site whose sessions they are, also before there is one', () => {
  expect(sessionCounts(countersOf([]), 'east').map(({ kind, site }) => `${kind} ${site}`)).toEqual([
    ...['new none', 'known east', 'server_gone east', 'moved east', 'both_cookies east'],
    ...['adopted west', 'forwarded west', 'both_cookies west'],
    ...['adopted north', 'forwarded north', 'both_cookies north'],
  ]);
});

test('requests with the cookies of several sites are counted beside what else becomes of them', () => {
  const counters = countersOf([
    ['forward', 'west', 3],
    ['adopt', 'west', 2],
  ]);
  counters.decision('forward', 'west').bothCookies = 2;
  counters.decision('adopt', 'west').bothCookies = 1;
  expect(sessionTotals(sessionCounts(counters, 'east'))).toMatchObject({ forwarded: 3, adopted: 2, both_cookies: 3 });
});

describe('sessions whose server is gone', () => {
  const PREFIX = 'site_persistence_shop_own_sessions';
  const counted = { decisions: [], sessions: [{ application: 'shop', statPrefix: PREFIX }] };

  function start() {
    const counters = new Counters();
    const routeCounts = new RouteCounts(counters);
    const shop = counters.ofApplication('shop');
    shop.addOwner('east');
    /** @param failedOpen as Envoy says it; null: no such counter */
    const poll = (failedOpen: number | null) => {
      const ownSessions = new Map(failedOpen === null ? [] : [[PREFIX, { failedOpen }]]);
      routeCounts.observe(counted, {
        ...{ pools: new Map(), routes: new Map(), statusAnswers: 0 },
        ownSessions,
        isWarming: false,
      });
    };
    return { shop, poll, gone: () => sessionCounts(shop, 'east').find(({ kind }) => kind === 'server_gone')?.count };
  }

  test("are those since this sidecar's start, and go on when Envoy begins anew", () => {
    const { shop, poll, gone } = start();
    shop.decision('local', 'east').count = 9;
    poll(5);
    expect(gone()).toBe(0);
    poll(7);
    expect(gone()).toBe(2);
    // A restart; a counter that Envoy has not used yet it does not say.
    poll(null);
    expect(gone()).toBe(2);
    poll(1);
    expect(gone()).toBe(3);
  });

  test('are not known of an Envoy that has no such counter, as long as there are own sessions', () => {
    const { shop, poll, gone } = start();
    poll(null);
    expect(gone()).toBe(0);
    shop.decision('local', 'east').count = 1;
    poll(null);
    expect(gone()).toBeUndefined();
    poll(0);
    expect(gone()).toBe(0);
  });
});
