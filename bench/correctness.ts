import { setTimeout as sleep } from 'node:timers/promises';
import type { Application } from './application.ts';
import type { Contestant } from './contestants.ts';

/** What a request got, as far as a decision shows in it. */
interface Outcome {
  readonly status: number;
  /** The pool whose server answered; none where the proxy or the sidecar did. */
  readonly pool: 'local' | 'remote' | 'none';
  /** The hop header that the server saw. */
  readonly hop: string;
  readonly expires: boolean;
  readonly setsOwn: boolean;
}

interface Case {
  readonly what: string;
  readonly path?: string;
  readonly headers: (own: string) => Readonly<Record<string, string>>;
  readonly expected: Outcome;
}

const OTHER = 'DDVHSLLQ=MTAuMC4wLjE6ODA';
const served = { status: 200, hop: '', expires: false, setsOwn: false } as const;
const HERE: Outcome = { ...served, pool: 'local' };
const THERE: Outcome = { ...served, pool: 'remote', hop: 'east' };
const STATUS = '/local_pool_status';

/** Both pools are up. */
const CASES: readonly Case[] = [
  { what: 'no cookie', headers: () => ({}), expected: { ...HERE, setsOwn: true } },
  { what: 'own cookie', headers: (own) => ({ cookie: `theme=dark; ${own}` }), expected: HERE },
  { what: "other site's cookie", headers: () => ({ cookie: `theme=dark; ${OTHER}` }), expected: THERE },
  { what: 'both cookies', headers: (own) => ({ cookie: `${own}; ${OTHER}` }), expected: THERE },
  {
    what: "hop header and other site's cookie",
    headers: () => ({ cookie: OTHER, 'x-site-hop': 'west' }),
    expected: { ...HERE, hop: 'west', expires: true, setsOwn: true },
  },
  {
    what: 'hop header and both cookies',
    headers: (own) => ({ cookie: `${OTHER}; ${own}`, 'x-site-hop': 'west' }),
    expected: { ...HERE, hop: 'west', expires: true },
  },
  {
    what: "a cookie whose name only ends like the other site's",
    headers: (own) => ({ cookie: `${own}; X${OTHER}; DDVHSLLQ; last="${OTHER}"` }),
    expected: HERE,
  },
  {
    what: "a client's own pool header",
    headers: (own) => ({ cookie: own, 'x-site-pool': 'remote_pool' }),
    expected: HERE,
  },
  { what: 'status URI', path: STATUS, headers: () => ({}), expected: { ...served, pool: 'none' } },
  {
    what: "status URI with other site's cookie",
    path: `${STATUS}?monitor=1`,
    headers: () => ({ cookie: OTHER }),
    expected: { ...served, pool: 'none' },
  },
];

/** Plain Envoy knows no site. */
const CASES_WITHOUT_DECISION = CASES.slice(0, 2);

/** The other site is down. Who can't see that adopts its sessions all the same, by the fallback of the remote route. */
const REMOTE_DOWN_CASES: readonly Case[] = [
  {
    what: "other site's cookie while that site is down",
    headers: () => ({ cookie: OTHER }),
    expected: { ...HERE, expires: true, setsOwn: true },
  },
];

const LOCAL_DOWN_CASES: readonly Case[] = [
  { what: 'own cookie while this site is down', headers: (own) => ({ cookie: own }), expected: THERE },
  {
    what: 'hop header while this site is down',
    headers: (own) => ({ cookie: own, 'x-site-hop': 'west' }),
    expected: { ...served, status: 503, pool: 'none' },
  },
  {
    what: 'status URI while this site is down',
    path: STATUS,
    headers: () => ({}),
    expected: { ...served, status: 503, pool: 'none' },
  },
];

/** How long health checks and polls may take to notice. */
const PATIENCE_MS = 10_000;

/**
 * Asks each contestant the same requests and compares what they got with the rules, with both pools up, with the other
 * site down, and with this one down.
 * @throws Error that names the contestant, the case and the difference
 */
export async function checkCorrectness(contestants: readonly Contestant[], application: Application): Promise<void> {
  const deciding = contestants.filter(({ decides }) => decides);
  const seeing = deciding.filter(({ seesHealth }) => seesHealth);
  const checkAll = async () => {
    for (const each of contestants) await expectSoon(each, each.decides ? CASES : CASES_WITHOUT_DECISION);
  };
  await checkAll();

  await application.stop('remote');
  for (const each of deciding) await expectSoon(each, REMOTE_DOWN_CASES);
  await application.start('remote');
  await checkAll();

  await application.stop('local');
  for (const each of seeing) await expectSoon(each, LOCAL_DOWN_CASES);
  await application.start('local');
  await checkAll();
}

/** The session cookie that a new client gets, as a Cookie header has it. */
export async function newSession(
  contestant: Pick<Contestant, 'name' | 'url'>,
  cookieName = 'KVAAVROI',
): Promise<string> {
  const answer = await fetch(contestant.url);
  await answer.arrayBuffer();
  const cookie = answer.headers.getSetCookie().find((each) => each.startsWith(`${cookieName}=`));
  if (cookie === undefined) throw new Error(`${contestant.name} gave a new client no cookie`);
  return cookie.split(';', 1)[0] ?? '';
}

/** Sessions are had while a local server is up; when none is, any cookie of this site will do. */
export async function ownCookie(contestant: Pick<Contestant, 'name' | 'url'>): Promise<string> {
  return await newSession(contestant).catch(() => 'KVAAVROI=MTAuMC4wLjE6ODA');
}

async function expectSoon(contestant: Contestant, cases: readonly Case[]): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const difference = await firstDifference(contestant, cases);
    if (difference === null) return;
    if (performance.now() > deadline) throw new Error(`${contestant.name} is wrong: ${difference}`);
    await sleep(50);
  }
}

async function firstDifference(contestant: Contestant, cases: readonly Case[]): Promise<string | null> {
  const own = await ownCookie(contestant);
  for (const { what, path = '/', headers, expected } of cases) {
    const outcome = await ask(new URL(path, contestant.url), headers(own)).catch((error: unknown) => String(error));
    if (JSON.stringify(outcome) !== JSON.stringify(order(expected))) {
      return `${what}: expected ${JSON.stringify(order(expected))}, got ${JSON.stringify(outcome)}`;
    }
  }
  return null;
}

function order({ status, pool, hop, expires, setsOwn }: Outcome): Outcome {
  return { status, pool, hop, expires, setsOwn };
}

async function ask(url: URL, headers: Readonly<Record<string, string>>): Promise<Outcome> {
  const answer = await fetch(url, { headers, signal: AbortSignal.timeout(5_000) });
  await answer.arrayBuffer();
  const cookies = answer.headers.getSetCookie();
  const server = answer.headers.get('x-served-by');
  return order({
    status: answer.status,
    pool: server === null ? 'none' : server === 'west' ? 'remote' : 'local',
    hop: answer.headers.get('x-seen-hop') ?? '',
    expires: cookies.some((cookie) => /^DDVHSLLQ=;.*Max-Age=0/.test(cookie)),
    setsOwn: cookies.some((cookie) => /^KVAAVROI=[^;]/.test(cookie)),
  });
}
