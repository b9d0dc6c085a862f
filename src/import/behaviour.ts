import { readPattern } from './lua-library.ts';
import type { LuaScript } from './lua-script.ts';
import { ALL_TRUE, type Run, SERVERS, Simulator, type World } from './request-world.ts';

/** What a script does with requests, whatever its words for it are. Lines are those of the calls. */
export interface Behaviour {
  /** The path that is answered from a pool's server count; null without one. */
  readonly status: PathText | null;
  readonly localPool: string | null;
  readonly localCookie: string | null;
  /** Pools of other sites, each with a cookie whose presence leads to it. */
  readonly remotes: readonly { readonly pool: string; readonly cookie: string }[];
  readonly pools: ReadonlyMap<string, number>;
  readonly countsServers: boolean;
  /** With how many servers up, of {@link SERVERS}, the script does the same as with all of them. */
  readonly minUp: number;
  readonly cookiesAsked: ReadonlyMap<string, number>;
  /** Whether the script was too much to follow to its end in every world. */
  readonly isCutShort: boolean;
  /** Other paths that change what the script does. */
  readonly otherPaths: readonly PathText[];
  readonly unreadable: readonly { readonly name: string; readonly line: number }[];
  readonly valuesCompared: ReadonlyMap<string, number>;
}

/** A path, and the text of the script that names it. */
export interface PathText {
  readonly path: string;
  readonly text: string;
}

/** A script with more texts than this is no hand-written list of rules; the rest is not tried as paths. */
const MAX_TEXTS = 200;

/** Sessions of applications: every site sets the same, so none tells the site. */
const APPLICATION_COOKIE = /^(JSESSIONID|PHPSESSID|ASP\.NET_SessionId|ASPSESSIONID\w*|connect\.sid|CFID|CFTOKEN)$/i;

/** Finds out what a script does by following it in small worlds: this cookie there, that pool down, such a path. */
export function findBehaviour(script: LuaScript): Behaviour {
  const simulator = new Simulator(script.chunk);
  const paths = unique(script.texts.slice(0, MAX_TEXTS).map((text) => ({ path: pathOf(text), text })));
  // What decides whether these are the original rules comes first: steps are limited, and paths are many.
  for (const cookie of merged(discover(simulator, []), (run) => run.cookiesAsked).keys()) poolsLedTo(simulator, cookie);
  const runs = discover(simulator, paths);
  const pools = merged(runs, (run) => new Map([...run.poolsCounted, ...run.poolsSelected]));
  const counted = merged(runs, ({ poolsCounted }) => poolsCounted);
  const cookiesAsked = merged(runs, (run) => run.cookiesAsked);

  const status = paths.find(({ path }) => isAnsweredByCount(simulator, path)) ?? null;
  const led = [...cookiesAsked.keys()].flatMap((cookie) =>
    [...poolsLedTo(simulator, cookie)].map((pool) => ({ pool, cookie })),
  );
  const localPool =
    (status && localByStatus(simulator, status.path, counted)) ??
    localByFailover(simulator, pools) ??
    onlyOne([...ordinaryPools(simulator)].filter((pool) => !led.some((each) => each.pool === pool)));
  const remotes = led.filter(({ pool }) => pool !== localPool);
  const behaviour = {
    status,
    localPool,
    localCookie:
      led.find(({ pool }) => pool === localPool)?.cookie ??
      [...cookiesAsked.keys()].find((cookie) => remotes.some((remote) => overrules(simulator, cookie, remote))) ??
      null,
    remotes: remotes.filter(({ pool }, index) => remotes.findIndex((other) => other.pool === pool) === index),
    pools,
    minUp: findMinUp(simulator, [
      {},
      ...(status === null ? [] : [{ path: status.path }]),
      ...remotes.map(({ cookie }) => ({ cookies: [cookie] })),
    ]),
    countsServers: runs.some((run) => run.poolsCounted.size > 0),
    cookiesAsked,
    otherPaths: paths.filter(({ path }) => path !== status?.path && differs(simulator, { path }, {})),
    unreadable: runs.flatMap((run) => run.unreadable),
    valuesCompared: merged(runs, (run) => run.valuesCompared),
  };
  return { ...behaviour, isCutShort: simulator.isExhausted };
}

/** Tries cookies and pools until no run asks for new ones. */
function discover(simulator: Simulator, paths: readonly PathText[]): Run[] {
  const runs = new Set<Run>();
  const worlds = new Map<string, World>();
  const add = (...more: World[]) => {
    for (const world of more) worlds.set(JSON.stringify(world), world);
  };
  add({}, { down: 'all' }, ...paths.map(({ path }) => ({ path })));
  for (let before = -1; before !== worlds.size + simulator.variants.length; ) {
    before = worlds.size + simulator.variants.length;
    for (const world of [...worlds.values()]) {
      const variants = world.path === undefined ? simulator.variants : simulator.fewVariants;
      for (const variant of [...variants, ALL_TRUE]) {
        const run = simulator.run(world, variant);
        if (run === null) continue;
        runs.add(run);
        for (const cookie of run.cookiesAsked.keys()) add({ cookies: [cookie] }, { cookies: [cookie], down: 'all' });
        for (const pool of run.poolsCounted.keys()) add({ down: pool });
      }
    }
  }
  return [...runs];
}

/** Pools that are selected because the cookie is there, whatever its value. */
function poolsLedTo(simulator: Simulator, cookie: string): Set<string> {
  const pools = new Set<string>();
  if (APPLICATION_COOKIE.test(cookie)) return pools;
  forEachPair(simulator, { cookies: [cookie] }, {}, (there, absent) => {
    if (there.valuesUsed.has(cookie)) return;
    for (const pool of there.poolsSelected.keys()) if (!absent.poolsSelected.has(pool)) pools.add(pool);
  });
  return pools;
}

/** Whether a cookie keeps a request from the pool that another cookie leads to. */
function overrules(simulator: Simulator, cookie: string, remote: { pool: string; cookie: string }): boolean {
  if (cookie === remote.cookie) return false;
  let isOverruled = false;
  forEachPair(simulator, { cookies: [remote.cookie] }, { cookies: [remote.cookie, cookie] }, (alone, both) => {
    isOverruled ||= alone.poolsSelected.has(remote.pool) && !both.poolsSelected.has(remote.pool);
  });
  return isOverruled;
}

function isAnsweredByCount(simulator: Simulator, path: string): boolean {
  let isAnswered = false;
  forEachPair(simulator, { path }, { path, down: 'all' }, (up, down) => {
    isAnswered ||= up.status === 200 && down.status !== null && down.status !== 200;
  });
  return isAnswered && !simulator.variants.some((variant) => (simulator.run({}, variant)?.status ?? null) !== null);
}

/** The pool that the status path is answered from. */
function localByStatus(simulator: Simulator, path: string, counted: ReadonlyMap<string, number>): string | null {
  return (
    [...counted.keys()].find((pool) => {
      let isAnswered = false;
      forEachPair(simulator, { path }, { path, down: pool }, (up, down) => {
        isAnswered ||= up.status === 200 && down.status !== null && down.status !== 200;
      });
      return isAnswered;
    }) ?? null
  );
}

/** The pool without which requests that carry no cookie go elsewhere. */
function localByFailover(simulator: Simulator, pools: ReadonlyMap<string, number>): string | null {
  return (
    [...pools.keys()].find((pool) => {
      let isReplaced = false;
      forEachPair(simulator, { down: pool }, {}, (down, up) => {
        isReplaced ||= [...down.poolsSelected.keys()].some((other) => other !== pool && !up.poolsSelected.has(other));
      });
      return isReplaced;
    }) ?? null
  );
}

/** Pools that are counted or selected for a request that carries no cookie. */
function ordinaryPools(simulator: Simulator): Set<string> {
  const runs = simulator.variants.flatMap((variant) => simulator.run({}, variant) ?? []);
  return new Set(runs.flatMap((run) => [...run.poolsCounted.keys(), ...run.poolsSelected.keys()]));
}

function findMinUp(simulator: Simulator, worlds: readonly World[]): number {
  const answer = ({ status, poolsSelected }: Run) => JSON.stringify([status, ...poolsSelected.keys()]);
  const isEnough = (serversUp: number) =>
    worlds.every((world) => {
      let isSame = true;
      forEachPair(simulator, { ...world, serversUp }, world, (few, all) => {
        isSame &&= answer(few) === answer(all);
      });
      return isSame;
    });
  let minUp = 1;
  while (minUp < SERVERS && !isEnough(minUp)) minUp++;
  return minUp;
}

function differs(simulator: Simulator, one: World, other: World): boolean {
  let isDifferent = false;
  forEachPair(simulator, one, other, (a, b) => {
    isDifferent ||= a.trace !== b.trace;
  });
  return isDifferent;
}

/** Compares two worlds with the script's unknown conditions turning out the same in both. */
function forEachPair(simulator: Simulator, one: World, other: World, see: (one: Run, other: Run) => void): void {
  const variants = one.path === undefined ? simulator.variants : simulator.fewVariants;
  for (const variant of variants) {
    const [a, b] = [simulator.run(one, variant), simulator.run(other, variant)];
    if (a !== null && b !== null) see(a, b);
  }
}

/** The path that a text of the script may stand for: as it is, as a pattern, or without its first slash. */
function pathOf(text: string): string {
  const literal = readPattern(text).literal ?? text;
  return literal.startsWith('/') ? literal : `/${literal}`;
}

function unique(paths: readonly PathText[]): PathText[] {
  return [...new Map(paths.toReversed().map((each) => [each.path, each])).values()].toReversed();
}

function merged(runs: readonly Run[], of: (run: Run) => ReadonlyMap<string, number>): Map<string, number> {
  const all = new Map<string, number>();
  for (const run of runs) for (const [text, line] of of(run)) if (!all.has(text)) all.set(text, line);
  return new Map([...all].sort(([, a], [, b]) => a - b));
}

function onlyOne(pools: readonly string[]): string | null {
  return pools.length === 1 ? (pools[0] ?? null) : null;
}
