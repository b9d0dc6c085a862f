import { readPattern } from './lua-library.ts';
import type { LuaScript } from './lua-script.ts';
import { ALL, ALL_TRUE, type Run, SERVERS, Simulator, type World } from './request-world.ts';

/** What a script does with requests, whatever its words for it are. Lines are those of the calls. */
export interface Behaviour {
  /** The path that is answered from a pool's server count; null without one. */
  readonly status: PathText | null;
  readonly localPool: string | null;
  readonly localCookie: string | null;
  /** Pools of other sites, each with a cookie whose presence leads to it, and others that do so as well. */
  readonly remotes: readonly { readonly pool: string; readonly cookie: string; readonly also: readonly string[] }[];
  /** Without the local pool, a client that carries no cookie gets a pool of another site. */
  readonly failsOver: boolean;
  /** Which pool a request gets is left to chance or the clock. */
  readonly isByChance: boolean;
  /** A client that carries both sites' cookies gets no pool of another site. */
  readonly isLocalFirst: boolean;
  readonly pools: ReadonlyMap<string, number>;
  readonly countsServers: boolean;
  /** With how many servers up, of {@link SERVERS}, the script does the same as with all of them. */
  readonly minUp: number;
  readonly cookiesAsked: ReadonlyMap<string, number>;
  /** Those of them that every site sets. */
  readonly applicationCookies: readonly string[];
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
const APPLICATION_COOKIE =
  /^(J?SESSIONID|PHPSESSID|ASP\.NET_SessionId|ASPSESSIONID\w*|SESSION|SID|connect\.sid|laravel_session|CFID|CFTOKEN|wordpress_[\w-]*)$/i;

/** Finds out what a script does by following it in small worlds: this cookie there, that pool down, such a path. */
export function findBehaviour(script: LuaScript): Behaviour {
  const simulator = new Simulator(script.chunk);
  const paths = unique(script.texts.slice(0, MAX_TEXTS).map((text) => ({ path: pathOf(text), text })));
  // What decides whether these are the original rules comes first: steps are limited, and paths are many.
  for (const cookie of cookiesTried(discover(simulator, script, []), script)) poolsLedTo(simulator, cookie);
  const runs = discover(simulator, script, paths);
  const pools = merged(runs, (run) => new Map([...run.poolsCounted, ...run.poolsSelected]));
  const counted = merged(runs, ({ poolsCounted }) => poolsCounted);
  const cookiesAsked = merged(runs, (run) => run.cookiesAsked);

  const status = paths.find(({ path }) => isAnsweredByCount(simulator, path, ALL)) ?? null;
  const led = cookiesTried(runs, script).flatMap((cookie) =>
    poolsLedTo(simulator, cookie).map((pool) => ({ pool, cookie })),
  );
  const localPool =
    (status && [...counted.keys()].find((pool) => isAnsweredByCount(simulator, status.path, pool))) ??
    [...pools.keys()].find((pool) => isReplaced(simulator, pool)) ??
    onlyOne([...ordinaryPools(simulator)].filter((pool) => !led.some((each) => each.pool === pool)));
  const remotes = led.filter(({ pool }) => pool !== localPool);
  const localCookie =
    led.find(({ pool }) => pool === localPool)?.cookie ??
    [...cookiesAsked.keys()].find(
      (cookie) =>
        !APPLICATION_COOKIE.test(cookie) &&
        !remotes.some((remote) => remote.cookie === cookie) &&
        remotes.some((remote) => overrules(simulator, cookie, remote)),
    ) ??
    null;
  const behaviour = {
    status,
    localPool,
    localCookie,
    remotes: remotes.flatMap(({ pool, cookie }) => {
      const [first, ...also] = remotes.filter((remote) => remote.pool === pool).map((remote) => remote.cookie);
      return first === cookie ? [{ pool, cookie, also }] : [];
    }),
    failsOver: [localPool ?? ALL, ALL].some((down) => isFailedOver(simulator, down, remotes)),
    isByChance: isByChance(simulator, [{}, ...remotes.map(({ cookie }) => ({ cookies: [cookie] }))]),
    isLocalFirst: localCookie !== null && remotes.every((remote) => isKept(simulator, localCookie, remote)),
    pools,
    minUp: findMinUp(simulator, [
      {},
      ...(status === null ? [] : [{ path: status.path }]),
      ...remotes.map(({ cookie }) => ({ cookies: [cookie] })),
    ]),
    countsServers: runs.some((run) => run.poolsCounted.size > 0),
    cookiesAsked,
    applicationCookies: [...cookiesAsked.keys()].filter((cookie) => APPLICATION_COOKIE.test(cookie)),
    otherPaths: paths.filter(
      ({ path }) =>
        path !== status?.path && somePair(simulator, [{ path }, {}], (one, other) => one.trace !== other.trace),
    ),
    unreadable: runs.flatMap((run) => run.unreadable),
    valuesCompared: merged(runs, (run) => run.valuesCompared),
  };
  return { ...behaviour, isCutShort: simulator.isExhausted };
}

/** Tries cookies and pools until no run asks for new ones. */
function discover(simulator: Simulator, script: LuaScript, paths: readonly PathText[]): Run[] {
  const runs = new Set<Run>();
  const worlds = new Map<string, World>();
  const add = (...more: World[]) => {
    for (const world of more) worlds.set(JSON.stringify(world), world);
  };
  add({}, { down: ALL }, ...paths.map(({ path }) => ({ path })));
  for (let before = -1; before !== worlds.size + simulator.variants.length; ) {
    before = worlds.size + simulator.variants.length;
    for (const world of [...worlds.values()]) {
      const variants = world.path === undefined ? simulator.variants : simulator.fewVariants;
      for (const variant of [...variants, ALL_TRUE]) {
        const run = simulator.run(world, variant);
        if (run === null) continue;
        runs.add(run);
        for (const cookie of cookiesTried([run], script)) add({ cookies: [cookie] }, { cookies: [cookie], down: ALL });
        for (const pool of run.poolsCounted.keys()) add({ down: pool });
      }
    }
  }
  return [...runs];
}

/** The cookies that the script asks for; where it looks through all of them, whatever text may be one. */
function cookiesTried(runs: readonly Run[], script: LuaScript): string[] {
  const asked = [...merged(runs, (run) => run.cookiesAsked).keys()];
  if (!runs.some((run) => run.listsCookies)) return asked;
  const texts = script.texts.slice(0, MAX_TEXTS).map((text) => text.replace(/=$/, ''));
  return [...new Set([...asked, ...texts.filter((text) => /^[\w.-]+$/.test(text))])];
}

/** Pools that are selected because the cookie is there, whatever its value. */
function poolsLedTo(simulator: Simulator, cookie: string): string[] {
  if (APPLICATION_COOKIE.test(cookie)) return [];
  const pools = simulator.variants.flatMap((variant) => {
    const [there, absent] = [simulator.run({ cookies: [cookie] }, variant), simulator.run({}, variant)];
    if (there === null || absent === null || there.valuesUsed.has(cookie)) return [];
    return [...there.poolsSelected.keys()].filter((pool) => !absent.poolsSelected.has(pool));
  });
  return [...new Set(pools)];
}

/** Whether a cookie keeps a request from the pool that another cookie leads to. */
function overrules(simulator: Simulator, cookie: string, remote: { pool: string; cookie: string }): boolean {
  const worlds = [{ cookies: [remote.cookie] }, { cookies: [remote.cookie, cookie] }] as const;
  return somePair(simulator, worlds, (alone, both) => {
    return alone.poolsSelected.has(remote.pool) && !both.poolsSelected.has(remote.pool);
  });
}

/** Whether the local cookie keeps a request from the pool that it would get by the other cookie alone. */
function isKept(
  simulator: Simulator,
  localCookie: string,
  { pool, cookie }: { pool: string; cookie: string },
): boolean {
  const worlds = [{ cookies: [cookie] }, { cookies: [cookie, localCookie] }] as const;
  return somePair(simulator, worlds, (alone, both) => alone.pool === pool && both.pool !== pool);
}

/** Whether a request that carries no cookie gets a remote pool because others are down. */
function isFailedOver(simulator: Simulator, down: string, remotes: readonly { readonly pool: string }[]): boolean {
  return somePair(simulator, [{ down }, {}], (without, up) =>
    remotes.some(({ pool }) => without.poolsSelected.has(pool) && !up.poolsSelected.has(pool)),
  );
}

/** Whether a request may get another pool the next time, though nothing but chance or the clock has changed. */
function isByChance(simulator: Simulator, worlds: readonly World[]): boolean {
  const isOther = ([one, other]: readonly [number, number], world: World) => {
    const [a, b] = [simulator.run(world, one), simulator.run(world, other)];
    return a !== null && b !== null && a.pool !== b.pool;
  };
  return worlds.some(
    (world) =>
      simulator.chances.some((pair) => isOther(pair, world)) ||
      simulator.variants.some((variant) => simulator.run(world, variant)?.isDrawn),
  );
}

/** Whether a path is answered with 200 only as long as pools, or that pool, are up; and other paths are not. */
function isAnsweredByCount(simulator: Simulator, path: string, down: string): boolean {
  const isAnswered = somePair(simulator, [{ path }, { path, down }], (up, without) => {
    return up.status === 200 && without.status !== 200;
  });
  return isAnswered && !somePair(simulator, [{}, {}], ({ status }) => status !== null);
}

/** The pool without which requests that carry no cookie go elsewhere. */
function isReplaced(simulator: Simulator, pool: string): boolean {
  return somePair(simulator, [{ down: pool }, {}], (down, up) => {
    return [...down.poolsSelected.keys()].some((other) => other !== pool && !up.poolsSelected.has(other));
  });
}

/** Pools that are counted or selected for a request that carries no cookie. */
function ordinaryPools(simulator: Simulator): Set<string> {
  const runs = simulator.variants.flatMap((variant) => simulator.run({}, variant) ?? []);
  return new Set(runs.flatMap((run) => [...run.poolsCounted.keys(), ...run.poolsSelected.keys()]));
}

function findMinUp(simulator: Simulator, worlds: readonly World[]): number {
  const answer = ({ status, poolsSelected }: Run) => JSON.stringify([status, ...poolsSelected.keys()]);
  const isEnough = (serversUp: number) =>
    !worlds.some((world) =>
      somePair(simulator, [{ ...world, serversUp }, world], (few, all) => answer(few) !== answer(all)),
    );
  let minUp = 1;
  while (minUp < SERVERS && !isEnough(minUp)) minUp++;
  return minUp;
}

/** Whether something holds of two worlds, with the script's unknown conditions turning out the same in both. */
function somePair(
  simulator: Simulator,
  [one, other]: readonly [World, World],
  holds: (one: Run, other: Run) => boolean,
): boolean {
  const variants = one.path === undefined ? simulator.variants : simulator.fewVariants;
  return variants.some((variant) => {
    const [a, b] = [simulator.run(one, variant), simulator.run(other, variant)];
    return a !== null && b !== null && holds(a, b);
  });
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
