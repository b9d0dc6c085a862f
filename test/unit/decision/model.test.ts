import { describe, expect, test } from 'vitest';
import type { Settings } from './policy-of.ts';
import { type Answer, bit, has, type Ownership, Sites } from './sites.ts';
import { type Givens, sitesAsSeenBy, World } from './world.ts';

/** Four sites take 5 s. */
const SITE_COUNTS = [2, 3, 4];

const EVERY_SETTING: readonly Settings[] = (['adopt', 'keep', 'refuse'] as const).flatMap((onOwnerDown) =>
  (['remote', 'local'] as const).map((bothCookies) => ({ onOwnerDown, bothCookies })),
);
const ADOPT = EVERY_SETTING.filter(({ onOwnerDown }) => onOwnerDown === 'adopt');
const KEEP = EVERY_SETTING.filter(({ onOwnerDown }) => onOwnerDown === 'keep');
const REFUSE = EVERY_SETTING.filter(({ onOwnerDown }) => onOwnerDown === 'refuse');

/** `refuse` declines to serve on purpose: what is said of being served is said of the other two. */
const SERVING = [...ADOPT, ...KEEP];

/** Every site's sidecar and Envoy know each pool as it is. */
const SEES_WHAT_IS: Givens = { sidecarSees: () => 'right', envoySees: () => 'right', hasOpinion: () => true };

/** A client's request for one edge, in one class of states. */
interface Journey {
  readonly start: Start;
  readonly world: World;
  readonly answer: Answer;
  readonly passes: number;
}

interface Start {
  readonly siteCount: number;
  readonly settings: Settings;
  /** The site with the original rules; null: none. */
  readonly original: number | null;
  readonly firstEdge: number;
  /** The sites whose cookie the client holds, as a set of bits. */
  readonly carried: number;
}

/**
 * Nothing is given here: each pool is up, down or gone, each sidecar has any snapshot or no opinion, each Envoy takes
 * each pool for up or down whatever it is, any site is draining, none or any one site runs the original rules, and
 * the client holds any cookies and asks any edge.
 */
describe.each(SITE_COUNTS)('in every state of %i sites', (siteCount) => {
  test('a request is forwarded once at most, takes no cookie unserved, and leaves one owner', () => {
    const mostPasses = { alone: 0, withOriginal: 0 };
    const ownerships = new Set<Ownership>();
    let states = 0;
    let classes = 0;
    for (const start of everyStart({ siteCount, settings: EVERY_SETTING, originals: noneOrAny(siteCount) })) {
      let statesOfStart = 0;
      const world = walk(start, {}, (journey) => {
        const { answer, passes } = journey;
        isForwardedOnce(journey);
        keepsItsCookiesUnserved(journey);
        leavesOneOwner(journey);
        isServedWhereItCame(journey);
        isServedByAnOwnerUnderRefuse(journey);

        if (start.original === null) mostPasses.alone = Math.max(mostPasses.alone, passes);
        else mostPasses.withOriginal = Math.max(mostPasses.withOriginal, passes);
        ownerships.add(answer.ownership);
        statesOfStart += journey.world.statesInClass;
        classes++;
      });
      // The classes leave out no state and hold none twice.
      expect(statesOfStart).toBe(world.states);
      states += statesOfStart;
    }

    // The limits are reached and every exception happens: none of them is idle.
    expect(mostPasses).toEqual({ alone: 1, withOriginal: 3 });
    expect([...ownerships].sort()).toEqual(Object.keys(COOKIES_AFTERWARDS).sort());
    console.log(`${siteCount} sites: ${count(states)} states explored, in ${count(classes)} classes`);
  });
});

describe.each(SITE_COUNTS)('of %i sites', (siteCount) => {
  test('where every site sees what is, whatever is up serves, owners first, and leaves one cookie', () => {
    for (const start of everyStart({ siteCount, settings: SERVING, originals: noneOrAny(siteCount) })) {
      walk(start, SEES_WHAT_IS, (journey) => {
        const { world, answer } = journey;
        const { carried, settings, original } = start;
        const { servedBy } = answer;
        mustHold((servedBy !== null) === world.isAnyUp(), 'it is served while any pool is up', journey);
        if (servedBy === null) return;
        const isAnOwnerUp = sitesIn(carried, siteCount).some((site) => world.isUp(site));
        mustHold(has(carried, servedBy) || !isAnOwnerUp, 'an owner that is up serves its session', journey);
        const isKept = settings.onOwnerDown === 'keep' && carried !== 0 && !has(carried, servedBy);
        const ours = isKept ? carried : bit(servedBy);
        const expected = servedBy === original ? carried | bit(servedBy) : ours;
        mustHold(
          answer.cookies === expected,
          'it leaves the cookie of who served, and keep that of the owner',
          journey,
        );
      });
    }
  });

  test('under refuse a session is served by an owner or by nobody, where every site sees what is', () => {
    for (const start of everyStart({ siteCount, settings: REFUSE, originals: [null] })) {
      walk(start, SEES_WHAT_IS, (journey) => {
        const { world, answer } = journey;
        const { carried } = start;
        const owners = sitesIn(carried, siteCount);
        const mayServe = owners.length === 0 ? world.isAnyUp() : owners.some((site) => world.isUp(site));
        const { servedBy } = answer;
        mustHold((servedBy !== null) === mayServe, 'it is served while its owner is up', journey);
        mustHold(servedBy === null || carried === 0 || has(carried, servedBy), 'an owner serves', journey);
      });
    }
  });

  // Row 7 elsewhere, drain, and what the sites think of each other are free; only what the first edge knows counts.
  // `cautious`: min_up and hold_up make a sidecar take a pool for down that Envoy takes for up.
  test('the first edge alone need know which other site is up', () => {
    for (const start of everyStart({ siteCount, settings: SERVING, originals: [null] })) {
      const isFirst = (site: number) => site === start.firstEdge;
      const givens: Givens = {
        hasOpinion: (site) => (isFirst(site) ? true : undefined),
        sidecarSees: (site, of) => (isFirst(site) ? 'cautious' : site === of ? 'right' : 'free'),
        envoySees: (site, of) => (isFirst(site) || site === of ? 'right' : 'free'),
      };
      walk(start, givens, (journey) => {
        const { world, answer } = journey;
        const { firstEdge } = start;
        const isOtherKnown = remotesOf(start).some((site) => world.isUp(site) && world.sidecarSees(firstEdge, site));
        const canServe = world.isUp(firstEdge) || isOtherKnown;
        mustHold((answer.servedBy !== null) === canServe, 'it is served while the first edge knows by whom', journey);
      });
    }
  });

  test('a pool that is up serves what comes to its own edge also where another site has the original rules', () => {
    for (const start of everyStart({ siteCount, settings: SERVING, originals: noneOrAny(siteCount) })) {
      if (start.firstEdge === start.original) continue;
      const givens: Givens = {
        pool: (site) => (site === start.firstEdge ? 'up' : undefined),
        // The original rules answer a plain 503 that nobody may retry, so theirs must be right.
        envoySees: (site, of) =>
          site === start.original || (site === start.firstEdge && of === site) ? 'right' : 'free',
      };
      walk(start, givens, (journey) => {
        mustHold(journey.answer.servedBy !== null, 'it is served', journey);
      });
    }
  });

  // Envoy's routes know the cookies but not the sidecar's order of other sites: without an opinion there is no failover
  // to a site whose cookie the client does not hold, and of several cookies the first in the config file decides.
  test('without an opinion Envoy alone serves by the local pool or by the owner', () => {
    for (const start of everyStart({ siteCount, settings: SERVING, originals: [null] })) {
      const givens: Givens = {
        hasOpinion: (site) => (site === start.firstEdge ? false : undefined),
        sidecarSees: (site, of) => (site === of ? 'right' : 'free'),
        envoySees: () => 'right',
      };
      walk(start, givens, (journey) => {
        const { world, answer } = journey;
        const { firstEdge, carried } = start;
        const owner = remotesOf(start).find((site) => has(carried, site));
        const canServe = world.isUp(firstEdge) || (owner !== undefined && world.isUp(owner));
        mustHold((answer.servedBy !== null) === canServe, 'it is served by the local pool or the owner', journey);
      });
    }
  });

  // With more than two sites Envoy's priority groups end at the first remote that it knows to be down, since they do
  // not ask for health: then a third site is reached only once the sidecar knows.
  test('while nobody has noticed that the local pool died, Envoy tries the next site', () => {
    for (const start of everyStart({ siteCount, settings: SERVING, originals: [null] })) {
      const { firstEdge, carried, settings } = start;
      const view = (site: number, of: number) => (site === firstEdge && of === site ? 'up' : 'right');
      const givens: Givens = {
        ...SEES_WHAT_IS,
        pool: (site) => (site === firstEdge ? 'down' : undefined),
        sidecarSees: view,
        envoySees: view,
      };
      const isLocalSession = settings.bothCookies === 'local' && has(carried, firstEdge);
      walk(start, givens, (journey) => {
        const { world, answer } = journey;
        const [next = firstEdge, ...others] = remotesOf(start);
        const isOwnerUp = [next, ...others].some((site) => has(carried, site) && world.isUp(site));
        const canServe = world.isUp(next) || (isOwnerUp && !isLocalSession);
        mustHold((answer.servedBy !== null) === canServe, 'the owner or the next site serves', journey);
        if (answer.servedBy === null || answer.ownership !== 'retried elsewhere') return;
        // The local cookie names the other site's address; with both the next request heals it. But where the client
        // brought both and the local one was preferred, the cookie that is expired is that of the site that served.
        const both = bit(firstEdge) | bit(answer.servedBy);
        const expected = isLocalSession && has(carried, answer.servedBy) ? bit(firstEdge) : both;
        mustHold(settings.onOwnerDown !== 'adopt' || answer.cookies === expected, 'it holds two cookies', journey);
      });
    }
  });

  // Until its next poll the sidecar sends to the local pool what Envoy answers with a 503 by itself (flag UH).
  test('while only Envoy has noticed that the local pool died, other sites serve just their own sessions', () => {
    for (const start of everyStart({ siteCount, settings: SERVING, originals: [null] })) {
      const { firstEdge, carried, settings } = start;
      const givens: Givens = {
        ...SEES_WHAT_IS,
        pool: (site) => (site === firstEdge ? 'down' : undefined),
        sidecarSees: (site, of) => (site === firstEdge && of === site ? 'up' : 'right'),
      };
      const isLocalSession = settings.bothCookies === 'local' && has(carried, firstEdge);
      walk(start, givens, (journey) => {
        const { world, answer } = journey;
        const isOwnerUp = remotesOf(start).some((site) => has(carried, site) && world.isUp(site));
        mustHold((answer.servedBy !== null) === (isOwnerUp && !isLocalSession), 'the owner serves', journey);
      });
    }
  });

  // Behind a remote pool stands only the local one: with that down as well, a request for a site that just died is lost
  // until somebody notices, even where a third site is up.
  test('while nobody has noticed that another site died, the local pool serves for it', () => {
    for (const start of everyStart({ siteCount, settings: SERVING, originals: [null] })) {
      for (const dead of remotesOf(start)) {
        const { firstEdge, carried } = start;
        const view = (site: number, of: number) => (site === firstEdge && of === dead ? 'up' : 'right');
        const givens: Givens = {
          ...SEES_WHAT_IS,
          pool: (site) => (site === dead ? 'gone' : undefined),
          sidecarSees: view,
          envoySees: view,
        };
        walk(start, givens, (journey) => {
          const { world, answer } = journey;
          const seenUp = remotesOf(start).filter((site) => site === dead || world.isUp(site));
          const chosen = seenUp.find((site) => has(carried, site)) ?? seenUp[0];
          const canServe = world.isUp(firstEdge) || chosen !== dead;
          mustHold((answer.servedBy !== null) === canServe, 'the local pool or a site that is up serves', journey);
        });
      }
    }
  });
});

/**
 * Once among our own edges. The original rules add no hop header, so they are a first pass that nobody sees, and pass
 * on a request that has one, which is a third: original → ours → original → ours, where it stays.
 */
function isForwardedOnce(journey: Journey): void {
  const limit = journey.start.original === null ? 1 : 3;
  mustHold(journey.passes <= limit, 'it is forwarded once at most, three times with the original rules', journey);
}

/**
 * A client that got a 503 still holds the cookies of its session. The exception: decided for the local pool, which could
 * not be reached, and tried at a peer with the original rules, whose 503 is no refusal and looks like the application's.
 */
function keepsItsCookiesUnserved(journey: Journey): void {
  const { start, answer } = journey;
  const isOfOriginalPeer = start.original !== null && answer.ownership === 'retried elsewhere';
  if (answer.servedBy !== null || isOfOriginalPeer) return;
  mustHold(
    (answer.cookies & start.carried) === start.carried,
    'a client that nobody served keeps its cookies',
    journey,
  );
}

/**
 * The cookies that a client holds after an answer under adopt: that of the site that served it and no other, or what
 * an exception leaves. None of them lasts: where every site sees what is, the next answer of a site with our rules
 * leaves one cookie whatever the client brings (there is a test of that).
 */
const COOKIES_AFTERWARDS: Record<Ownership, (carried: number, servedBy: number, cookies: number) => boolean> = {
  'one owner': (_, servedBy, cookies) => cookies === bit(servedBy),
  nobody: () => false,
  // Decided as a forward, which leaves the expiry to the other site, and served here without stickiness.
  fallback: (carried, _, cookies) => cookies === carried,
  // Who owns the session is the decision's business, and there was none.
  'no opinion': (carried, servedBy, cookies) => cookies === (carried | bit(servedBy)),
  // Row 6 expires nothing, as nobody is expected to serve; a pool below min_up or within hold_up does.
  'counted as down': (carried, servedBy, cookies) => cookies === (carried | bit(servedBy)),
  'original rules': (carried, servedBy, cookies) => cookies === (carried | bit(servedBy)),
  // Both edges expire and set cookies; how that ends in the one case that needs no second mistake is a test below.
  'retried elsewhere': (_carried, _servedBy, cookies) => cookies !== 0,
};

function leavesOneOwner(journey: Journey): void {
  const { start, answer } = journey;
  if (start.settings.onOwnerDown !== 'adopt' || answer.servedBy === null) return;
  const isAsSaid = COOKIES_AFTERWARDS[answer.ownership](start.carried, answer.servedBy, answer.cookies);
  mustHold(isAsSaid, 'the client holds one cookie, or those of the exception', journey);
}

/** Better an error than a session in the wrong place, whatever anybody thinks and whatever Envoy does by itself. */
function isServedByAnOwnerUnderRefuse(journey: Journey): void {
  const { start, answer } = journey;
  if (start.settings.onOwnerDown !== 'refuse' || start.original !== null) return;
  const shouldEnable = answer.servedBy === null || start.carried === 0 || has(start.carried, answer.servedBy);
  mustHold(shouldEnable, 'under refuse an owner serves, or nobody', journey);
}

/**
 * Whatever anybody else thinks and whatever happens elsewhere: a request is lost only where the pool of the very edge
 * that it came to can't take it. (For a peer with the original rules there is a test of its own.)
 */
function isServedWhereItCame(journey: Journey): void {
  const { start, answer, world } = journey;
  const { settings, original, firstEdge } = start;
  if (original !== null || settings.onOwnerDown === 'refuse' || answer.servedBy !== null) return;
  const canTakeIt = world.isUp(firstEdge) && world.envoySees(firstEdge, firstEdge);
  mustHold(!canTakeIt, 'it is served where it came', journey);
}

interface Starts {
  readonly siteCount: number;
  readonly settings: readonly Settings[];
  readonly originals: readonly (number | null)[];
}

function* everyStart({ siteCount, settings, originals }: Starts): Generator<Start> {
  for (const setting of settings) {
    for (const original of originals) {
      for (const firstEdge of sitesAsSeenBy(0, siteCount)) {
        for (let carried = 0; carried < 2 ** siteCount; carried++) {
          yield { siteCount, settings: setting, original, firstEdge, carried };
        }
      }
    }
  }
}

/** Sends the request in every class of states that `givens` leave. */
function walk(start: Start, givens: Givens, check: (journey: Journey) => void): World {
  const world = new World({ ...start, givens });
  const sites = new Sites({ ...start, world });
  do {
    const answer = sites.request(start.firstEdge, start.carried);
    check({ start, world, answer, passes: sites.passes });
  } while (world.next());
  return world;
}

/** For millions of classes: `expect` would take minutes. */
function mustHold(holds: boolean, what: string, journey: Journey): void {
  if (holds) return;
  const { world, ...path } = journey;
  throw new Error(`not so: ${what}\n${JSON.stringify(path, null, 2)}\n${world.inWords()}`);
}

function noneOrAny(siteCount: number): (number | null)[] {
  return [null, ...sitesAsSeenBy(0, siteCount)];
}

function remotesOf({ firstEdge, siteCount }: Start): number[] {
  return sitesAsSeenBy(firstEdge, siteCount).slice(1);
}

function sitesIn(set: number, siteCount: number): number[] {
  return sitesAsSeenBy(0, siteCount).filter((site) => has(set, site));
}

function count(value: number): string {
  return value.toLocaleString('en');
}
