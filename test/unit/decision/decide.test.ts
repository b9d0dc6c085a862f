import { describe, expect, test } from 'vitest';
import {
  type Decision,
  decide,
  NO_OWNER,
  type PoolHealth,
  type SiteState,
  withoutHeld,
} from '../../../src/decision/decide.ts';
import { LOCAL, LOCAL_ALSO } from '../../../src/decision/policy.ts';
import { type NamedSite, policyOf, type Settings } from './policy-of.ts';

/** East is the local site; the others are its remotes in the order of its config file. */
const EAST = { name: 'east', cookie: 'KVAAVROI' };
const WEST = { name: 'west', cookie: 'DDVHSLLQ' };
const NORTH = { name: 'north', cookie: 'QWZNORTH' };
const SITES = [EAST, WEST, NORTH];

const ADOPT: Settings = { onOwnerDown: 'adopt', bothCookies: 'remote' };

/** All that a decision may depend on, in the design's words. */
interface Situation {
  readonly sites: readonly NamedSite[];
  readonly settings: Settings;
  readonly known: boolean;
  readonly up: ReadonlySet<NamedSite>;
  readonly carried: ReadonlySet<NamedSite>;
  readonly hop: boolean;
  readonly draining: boolean;
  readonly statusUri: boolean;
}

/** A decision in words, so that a failed comparison can be read. */
interface Verdict {
  readonly reason: string;
  readonly owner: string;
  /** The site whose pool gets the request, or the answer that needs none. */
  readonly to: string;
  readonly expires: readonly string[];
}

const NOBODY = '-';

describe('decide()', () => {
  // One rule a line: the original ones, the rows of the design's table, the settings. E is east (the local site), W is
  // west, N is north; `has` the cookies carried, `takes` those expired; `up` is `?` while health is not known.
  // Settings: K keep, R refuse, L both_cookies: local; nothing is adopt and both_cookies: remote. D: draining.
  test.each(
    rowsOf(`
    rule                                            | path   | has | up    | hop | set || reason   | to  | owner | takes
    orig 1: the status URI of a site that is up     | status |     | E W   |     |     || status   | 200 | -     |
    orig 1: the status URI of a site that is down   | status |     | W     |     |     || status   | 503 | -     |
    orig 1: whatever cookies come with it           | status | W   | E W   |     |     || status   | 200 | W     |
    orig 3: a session of west, and west is up       | /      | W   | E W   |     |     || forward  | W   | W     |
    orig 3: also with the local pool down           | /      | W   | W     |     |     || forward  | W   | W     |
    orig 3: also with east's cookie beside it       | /      | E W | E W   |     |     || forward  | W   | W     |
    orig 4: a session of west, and west is down     | /      | W   | E     |     |     || adopt    | E   | W     | W
    orig 4: a new client                            | /      |     | E W   |     |     || local    | E   | -     |
    orig 4: a session of east                       | /      | E   | E W   |     |     || local    | E   | E     |
    orig 5: a new client, the local pool is down    | /      |     | W     |     |     || failover | W   | -     |
    orig 5: a session of east, east is down         | /      | E   | W     |     |     || failover | W   | E     |
    1: a health check by another site               | status |     | E W   | hop |     || status   | 200 | -     |
    7: the status URI, health is not known          | status |     | ?     |     |     || unknown  | -   | -     |
    7: the same, asked by another site              | status |     | ?     | hop |     || unknown  | -   | -     |
    7: the same, draining, for the world            | status |     | ?     |     | D   || status   | 503 | -     |
    7: the same, draining, for another site         | status |     | ?     | hop | D   || unknown  | -   | -     |
    1: draining, for the world                      | status |     | E W   |     | D   || status   | 503 | -     |
    1: draining, for another site                   | status |     | E W   | hop | D   || status   | 200 | -     |
    1: draining and down, for another site          | status |     | W     | hop | D   || status   | 503 | -     |
    2: forwarded here, without a session            | /      |     | E W   | hop |     || local    | E   | -     |
    2: forwarded here, a session of east            | /      | E   | E W   | hop |     || local    | E   | E     |
    2: forwarded here, a session of west that is up | /      | W   | E W   | hop |     || adopt    | E   | W     | W
    2: forwarded here with both cookies             | /      | E W | E W   | hop |     || local    | E   | E     | W
    2: forwarded here, the local pool is down       | /      | E   | W     | hop |     || refuse   | 503 | E     |
    2: forwarded here, nothing is up                | /      | W   |       | hop |     || refuse   | 503 | W     |
    3: the first remote that is up owns the session | /      | W N | E W N |     |     || forward  | W   | W     |
    3: a remote that is down does not               | /      | W N | E N   |     |     || forward  | N   | N     |
    3: both_cookies: remote, the remote is down     | /      | E W | E     |     |     || local    | E   | E     | W
    3: both_cookies: local                          | /      | E W | E W   |     | L   || local    | E   | E     | W
    3: both_cookies: local, the local pool is down  | /      | E W | W     |     | L   || forward  | W   | W     |
    3: both_cookies: local, only west's cookie      | /      | W   | E W   |     | L   || forward  | W   | W     |
    4: draining changes nothing for requests        | /      |     | E W   |     | D   || local    | E   | -     |
    4: several owners that are down                 | /      | W N | E     |     |     || adopt    | E   | W     | W N
    5: the first site that is up                    | /      |     | W N   |     |     || failover | W   | -     |
    5: not one that is down                         | /      | E   | N     |     |     || failover | N   | E     |
    5: a session of west, west and east are down    | /      | W   | N     |     |     || failover | N   | W     |
    6: nothing is up                                | /      |     |       |     |     || local    | E   | -     |
    6: nothing is up, no cookie is taken            | /      | E W |       |     |     || local    | E   | W     |
    7: no opinion                                   | /      |     | ?     |     |     || unknown  | -   | -     |
    7: no opinion on a session of west              | /      | E W | ?     |     |     || unknown  | -   | W     |
    7: no opinion on a forwarded request            | /      | E   | ?     | hop |     || unknown  | -   | E     |
    keep: a session of west is served, not adopted  | /      | W   | E     |     | K   || local    | E   | W     |
    keep: a forwarded session of west neither       | /      | W   | E W   | hop | K   || local    | E   | W     |
    keep: a session of west goes back to west       | /      | E W | E W   |     | K   || forward  | W   | W     |
    keep: a session of east fails over              | /      | E   | W     |     | K   || failover | W   | E     |
    refuse: a session of west, west is down         | /      | W   | E     |     | R   || refuse   | 503 | W     |
    refuse: a session of east, east is down         | /      | E   | W     |     | R   || refuse   | 503 | E     |
    refuse: nothing is up                           | /      | W   |       |     | R   || refuse   | 503 | W     |
    refuse: a new client, nothing is up             | /      |     |       |     | R   || local    | E   | -     |
    refuse: a new client fails over                 | /      |     | W     |     | R   || failover | W   | -     |
    refuse: one of two owners is up                 | /      | E W | E     |     | R   || local    | E   | E     | W
      refuse: a forwarded session is served           | /      | W   | E     | hop | R   || adopt    | E   | W     | W
    `),
  )('$rule: $when', ({ situation, expected }) => {
    expect(verdictOf(situation)).toEqual(expected);
  });

  test.each([2, 3])('follows the design in every combination of %i sites', (count) => {
    let compared = 0;
    for (const situation of everySituation(SITES.slice(0, count))) {
      const verdict = verdictOf(situation);
      const expected = byTheDesign(situation);
      // Compared as text first: toEqual for each of thousands of situations takes seconds.
      if (JSON.stringify(verdict) !== JSON.stringify(expected)) {
        expect({ situation: inWords(situation), verdict }).toEqual({
          situation: inWords(situation),
          verdict: expected,
        });
      }
      compared++;
    }
    expect(compared).toBe(2 ** count * 2 ** count * 2 ** 4 * 3 * 2);
  });

  const [OF_EAST, OF_WEST] = [1 << LOCAL, 1 << 1];
  test.each<[what: string, cookies: number, settings: Partial<Settings>, up: readonly boolean[], expire: number]>([
    ['is served here', OF_EAST, {}, [true, true], LOCAL_ALSO],
    ['is served here under keep', OF_EAST, { onOwnerDown: 'keep' }, [true, true], LOCAL_ALSO],
    ['is adopted', OF_EAST | OF_WEST, {}, [true, false], LOCAL_ALSO | OF_WEST],
    ['is served here, and not adopted', OF_WEST, { onOwnerDown: 'keep' }, [true, false], LOCAL_ALSO],
    ['is no longer both sites', OF_EAST | OF_WEST, { onOwnerDown: 'keep' }, [true, false], LOCAL_ALSO | OF_WEST],
    ['is forwarded', OF_EAST | OF_WEST, {}, [true, true], 0],
    ['is served by another site', OF_EAST, {}, [false, true], 0],
    ['is served by nobody', OF_EAST, {}, [false, false], 0],
  ])(
    "says whether this site's cookie goes under its other names when the session %s",
    (_, carried, settings, up, expire) => {
      const policy = policyOf(EAST, [WEST], { ...ADOPT, ...settings });
      const cookies = carried | LOCAL_ALSO;
      const state = { health: { known: true, up }, draining: false } as const;
      expect(decide(policy, state, { isStatusUri: false, hasHop: false, cookies })).toMatchObject({ expire });
    },
  );

  test('depends on nothing but its arguments, and changes none of them', () => {
    for (const situation of everySituation([EAST, WEST])) {
      const { policy, state, request } = argumentsOf(situation);
      const before = JSON.stringify({ policy, state, request });
      expect(decide(policy, state, request)).toEqual(decide(policy, state, request));
      expect(JSON.stringify({ policy, state, request })).toBe(before);
    }
  });
});

/**
 * The design's table read as it is written: rows in order, sites by name, sets instead of bits. Written from
 * design.md and not from the code, so that the two can disagree.
 */
function byTheDesign(situation: Situation): Verdict {
  const { settings, known, up, carried, hop, draining, statusUri } = situation;
  const [local = EAST, ...remotes] = situation.sites;
  const preference = settings.bothCookies === 'local' ? [local, ...remotes] : [...remotes, local];
  const carriedInOrder = preference.filter((site) => carried.has(site));
  const whoeverIsUp = carriedInOrder.find((site) => up.has(site)) ?? carriedInOrder[0];
  const firstCarried = carriedInOrder[0];
  const ownerOfForwarded = carried.has(local) ? local : firstCarried;
  const owner = statusUri || !known ? firstCarried : hop ? ownerOfForwarded : whoeverIsUp;
  const otherSite = remotes.find((site) => up.has(site));

  const goes = (reason: string, to: string, expires: readonly string[] = []): Verdict => ({
    reason,
    to,
    owner: owner?.name ?? NOBODY,
    expires,
  });
  const isRemote = owner !== undefined && owner !== local;
  const servedHere = (): Verdict => {
    if (settings.onOwnerDown === 'keep' && owner !== local) return goes('local', local.name);
    const expires = remotes.filter((site) => carried.has(site)).map((site) => site.name);
    return goes(isRemote ? 'adopt' : 'local', local.name, expires);
  };

  const rows: readonly (readonly [holds: boolean, then: () => Verdict])[] = [
    // "Drain", which the operator asked for, whatever is known.
    [statusUri && draining && !hop, () => goes('status', '503')],
    // Row 1.
    [statusUri && known, () => goes('status', up.has(local) ? '200' : '503')],
    // Row 7 stands last in the table but comes before all that ask who is up.
    [!known, () => goes('unknown', NOBODY)],
    // Row 2.
    [hop && up.has(local), servedHere],
    [hop, () => goes('refuse', '503')],
    // Row 3, and with both cookies the site that `both_cookies` prefers.
    [isRemote && up.has(owner), () => goes('forward', owner?.name ?? NOBODY)],
    // "on_owner_down: refuse": better an error than a session in the wrong place.
    [settings.onOwnerDown === 'refuse' && owner !== undefined && !up.has(owner), () => goes('refuse', '503')],
    // Row 4.
    [up.has(local), servedHere],
    // Row 5.
    [otherSite !== undefined, () => goes('failover', otherSite?.name ?? NOBODY)],
    // Row 6: nobody is served, so no cookie is taken.
    [true, () => goes('local', local.name)],
  ];
  const row = rows.find(([holds]) => holds);
  if (row === undefined) throw new Error('no row holds');
  return row[1]();
}

function verdictOf(situation: Situation): Verdict {
  const { policy, state, request } = argumentsOf(situation);
  const decision = decide(policy, state, request);
  const nameOf = (site: number) => situation.sites[site]?.name ?? `site ${site}`;
  const isExpired = (site: number) => 'expire' in decision && (decision.expire & (1 << site)) !== 0;
  return {
    reason: decision.reason,
    to: destinationOf(decision, nameOf),
    owner: decision.owner === NO_OWNER ? NOBODY : nameOf(decision.owner),
    expires: situation.sites.filter((_, site) => isExpired(site)).map((site) => site.name),
  };
}

function destinationOf(decision: Decision, nameOf: (site: number) => string): string {
  switch (decision.reason) {
    case 'status':
      return decision.up ? '200' : '503';
    case 'refuse':
      return '503';
    case 'unknown':
      return NOBODY;
    default:
      return nameOf(decision.pool);
  }
}

function argumentsOf(situation: Situation) {
  const { sites, settings, known, up, carried, hop, draining, statusUri } = situation;
  const [local = EAST, ...remotes] = sites;
  const health: PoolHealth = known ? { known, up: sites.map((site) => up.has(site)) } : { known };
  const state: SiteState = { health, draining };
  const cookies = sites.reduce((bits, site, index) => (carried.has(site) ? bits | (1 << index) : bits), 0);
  return {
    policy: policyOf(local, remotes, settings),
    state,
    request: { isStatusUri: statusUri, hasHop: hop, cookies },
  };
}

function* everySituation(sites: readonly NamedSite[]): Generator<Situation> {
  for (const settings of everySetting()) {
    for (const carried of everySubset(sites)) {
      for (const up of everySubset(sites)) {
        for (const flags of everySubset(['known', 'hop', 'draining', 'statusUri'])) {
          yield {
            sites,
            settings,
            carried,
            up,
            known: flags.has('known'),
            hop: flags.has('hop'),
            draining: flags.has('draining'),
            statusUri: flags.has('statusUri'),
          };
        }
      }
    }
  }
}

function* everySetting(): Generator<Settings> {
  for (const onOwnerDown of ['adopt', 'keep', 'refuse'] as const) {
    for (const bothCookies of ['remote', 'local'] as const) yield { onOwnerDown, bothCookies };
  }
}

function everySubset<T>(items: readonly T[]): ReadonlySet<T>[] {
  return Array.from(
    { length: 2 ** items.length },
    (_, bits) => new Set(items.filter((_, index) => bits & (1 << index))),
  );
}

function inWords(situation: Situation): object {
  const names = (sites: ReadonlySet<NamedSite>) => [...sites].map((site) => site.name).join(' ');
  const { sites, up, carried, ...rest } = situation;
  return { sites: sites.length, up: names(up), carried: names(carried), ...rest };
}

interface Row {
  readonly rule: string;
  readonly when: string;
  readonly situation: Situation;
  readonly expected: Verdict;
}

/** Reads the table above: a line of headings, then one row a line. */
function rowsOf(table: string): Row[] {
  const [, ...lines] = table.trim().split('\n');
  return lines.map((line) => {
    const cells = line.split('|').map((cell) => cell.trim());
    const [rule = '', path = '', carried = '', up = '', hop = '', set = '', , reason = '', to = '', owner = ''] = cells;
    const names = (letters: string) => [...sitesOf(letters)].map((site) => site.name);
    return {
      rule,
      when: `${path} with [${carried}] and [${up}] up`,
      situation: {
        sites: SITES,
        settings: settingsOf(set),
        known: up !== '?',
        up: sitesOf(up),
        carried: sitesOf(carried),
        hop: hop === 'hop',
        draining: set.includes('D'),
        statusUri: path === 'status',
      },
      expected: {
        reason,
        to: names(to)[0] ?? to,
        owner: names(owner)[0] ?? owner,
        expires: names(cells[10] ?? ''),
      },
    };
  });
}

function settingsOf(letters: string): Settings {
  return {
    onOwnerDown: letters.includes('K') ? 'keep' : letters.includes('R') ? 'refuse' : ADOPT.onOwnerDown,
    bothCookies: letters.includes('L') ? 'local' : ADOPT.bothCookies,
  };
}

/** `W N` → west and north; nothing for what is no list of such letters. */
function sitesOf(letters: string): ReadonlySet<NamedSite> {
  const listed = letters.split(' ');
  return new Set(SITES.filter((site) => listed.includes(site.name.charAt(0).toUpperCase())));
}

test('a site that is held counts as down, whatever it is, and nothing else changes', () => {
  const up: PoolHealth = { known: true, up: [true, true, true] };
  const sites = ['east', 'west', 'north'].map((name) => ({ name, cluster: name, cookieNames: [name] }));
  expect(withoutHeld(up, sites, new Set(['west']))).toEqual({ known: true, up: [true, false, true] });
  expect(withoutHeld(up, sites, new Set(['west', 'north']))).toEqual({ known: true, up: [true, false, false] });
  // Per request nothing is made where nothing is held.
  expect(withoutHeld(up, sites, new Set())).toBe(up);
  expect(withoutHeld({ known: false }, sites, new Set(['west']))).toEqual({ known: false });
});
