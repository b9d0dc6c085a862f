import type { Chunk, Expression } from 'luaparse';
import { type Host, LuaRun } from './lua-run.ts';
import { Api, CookieValue, Lost, Table, Unknown, type Value } from './lua-values.ts';

/** A request, and the pools at that moment. All pools are up but those named. */
export interface World {
  readonly path?: string;
  readonly cookies?: readonly string[];
  /** A pool, or {@link ALL}. */
  readonly down?: string;
  /** Servers that are up in a pool that is up; all of them unless given. */
  readonly serversUp?: number;
}

/** What the script asked and did in one world: each text with the line of the call. */
export interface Run {
  readonly cookiesAsked: ReadonlyMap<string, number>;
  readonly poolsCounted: ReadonlyMap<string, number>;
  readonly poolsSelected: ReadonlyMap<string, number>;
  /** Of those selected the one that counts: the last; null without one. */
  readonly pool: string | null;
  /** A pool's name was drawn by chance or the clock. */
  readonly isDrawn: boolean;
  /** Of the first answer that the script gave itself; null without one. */
  readonly status: number | null;
  /** Every call of Avi's API, to tell whether two runs did the same. */
  readonly trace: string;
  /** The script looked for cookies in all of them, so any text may be a cookie's name. */
  readonly listsCookies: boolean;
  /** Calls whose cookie or pool is not a text. */
  readonly unreadable: readonly { readonly name: string; readonly line: number }[];
  readonly valuesCompared: ReadonlyMap<string, number>;
  /** Cookies whose value decided more than presence does: the value is kept in a table, names a server, and such. */
  readonly valuesUsed: ReadonlySet<string>;
}

/** In the place of a pool's name; no script's text has such a character. */
export const ALL = '\ufffe';
const MAX_FORKS = 5;
export const ALL_TRUE = -1;
const ORDINARY_PATH = '/a/path/that/no/script/treats/apart';
/** Of cookies in the Cookie header. */
const COOKIE_VALUE = '0a1b2c3d';

/** Of each pool. */
export const SERVERS = 8;

/** Calls that keep or look up sessions by what they are given. */
const BY_VALUE = /^avi\.(vs\.(persist|table_\w+)|pool\.select|crypto\.\w+|utils\.\w+)$/;

/** Follows one script in one world after the other, within a limit of steps for all of them together. */
export class Simulator {
  readonly #chunk: Chunk;
  readonly #choices = new Map<Expression, number>();
  /** Which of the choices are left to chance or the clock. */
  readonly #chances = new Set<number>();
  readonly #runs = new Map<string, Run | null>();
  #stepsLeft = 10_000_000;

  constructor(chunk: Chunk) {
    this.#chunk = chunk;
  }

  /** Ways in which the script's unknown conditions can turn out, a bit each; those past the fifth all the same. */
  get variants(): readonly number[] {
    const count = this.#choices.size;
    const bits = Array.from({ length: 2 ** Math.min(count, MAX_FORKS) }, (_, variant) => variant);
    return count > MAX_FORKS ? [...bits, ALL_TRUE] : bits;
  }

  /** Fewer of them, for what is asked of many worlds. */
  get fewVariants(): readonly number[] {
    return this.#choices.size > 2 ? [0, ALL_TRUE] : this.variants;
  }

  /** Pairs of variants that differ in one condition only, which is left to chance or the clock. */
  get chances(): readonly (readonly [number, number])[] {
    return [...this.#chances].flatMap((index) =>
      this.variants.flatMap((variant): [number, number][] => {
        const other = variant | (1 << index);
        return index >= MAX_FORKS || other === variant ? [] : [[variant, other]];
      }),
    );
  }

  /** Whether the limit of steps was reached, so that worlds were left out. */
  get isExhausted(): boolean {
    return this.#stepsLeft <= 0;
  }

  /** Null where the script can't be followed. */
  run(world: World, variant: number): Run | null {
    const key = JSON.stringify([world.path, world.cookies, world.down, world.serversUp, variant]);
    const known = this.#runs.get(key);
    if (known !== undefined) return known;
    const run = this.#follow(world, variant);
    this.#runs.set(key, run);
    return run;
  }

  #follow(world: World, variant: number): Run | null {
    const host = new RecordingHost(world, (condition, isByChance) => {
      const index = this.#choices.get(condition) ?? this.#choices.size;
      this.#choices.set(condition, index);
      if (isByChance) this.#chances.add(index);
      return variant === ALL_TRUE || (index < MAX_FORKS && ((variant >> index) & 1) === 1);
    });
    const limit = Math.min(this.#stepsLeft, 20_000);
    const run = new LuaRun(host, limit);
    try {
      run.follow(this.#chunk);
    } catch (error) {
      if (error instanceof Lost) return null;
      throw error;
    } finally {
      this.#stepsLeft -= limit - Math.max(run.stepsLeft, 0);
    }
    return host.recorded();
  }
}

class RecordingHost implements Host {
  readonly choose: Host['choose'];
  readonly #world: World;
  readonly #path: string;
  readonly #cookiesAsked = new Map<string, number>();
  readonly #poolsCounted = new Map<string, number>();
  readonly #poolsSelected = new Map<string, number>();
  readonly #unreadable: { name: string; line: number }[] = [];
  readonly #valuesCompared = new Map<string, number>();
  readonly #valuesUsed = new Set<string>();
  readonly #trace: string[] = [];
  #pool: string | null = null;
  #isDrawn = false;
  #status: number | null = null;
  #listsCookies = false;

  constructor(world: World, choose: Host['choose']) {
    this.#world = world;
    this.#path = world.path ?? ORDINARY_PATH;
    this.choose = choose;
  }

  recorded(): Run {
    return {
      cookiesAsked: this.#cookiesAsked,
      poolsCounted: this.#poolsCounted,
      poolsSelected: this.#poolsSelected,
      pool: this.#pool,
      isDrawn: this.#isDrawn,
      status: this.#status,
      trace: this.#trace.join('\n'),
      listsCookies: this.#listsCookies,
      unreadable: this.#unreadable,
      valuesCompared: this.#valuesCompared,
      valuesUsed: this.#valuesUsed,
    };
  }

  compared(cookie: string, line: number): void {
    this.#valuesCompared.set(cookie, line);
  }

  call(name: string, args: readonly Value[], line: number): readonly Value[] | undefined {
    if (BY_VALUE.test(name)) this.#noteValues(args);
    const [first] = args;
    switch (name) {
      case 'avi.http.get_path':
      case 'avi.http.get_uri':
        return [this.#path];
      case 'avi.http.get_path_tokens':
        return [this.#pathTokens(args)];
      case 'avi.http.cookie_exists': {
        const cookie = this.#note(this.#cookiesAsked, { name, line }, first);
        return cookie === null ? undefined : [this.#hasCookie(cookie)];
      }
      case 'avi.http.get_cookie': {
        const cookie = this.#note(this.#cookiesAsked, { name, line }, first);
        if (cookie === null) return undefined;
        return [this.#hasCookie(cookie) ? new CookieValue(cookie) : undefined];
      }
      case 'avi.http.get_cookie_names':
        this.#listsCookies = true;
        return [listOf(this.#world.cookies ?? [])];
      case 'avi.http.get_header':
        if (typeof first !== 'string' || first.toLowerCase() !== 'cookie') return undefined;
        this.#listsCookies = true;
        return [this.#world.cookies?.map((cookie) => `${cookie}=${COOKIE_VALUE}`).join('; ')];
      case 'avi.pool.get_servers': {
        const pool = this.#note(this.#poolsCounted, { name, line }, first);
        return pool === null ? undefined : [this.#isDown(pool) ? 0 : (this.#world.serversUp ?? SERVERS), SERVERS];
      }
      default:
        this.#trace.push(`${line} ${name} ${args.map(printed).join(' ')}`);
        // A server of a pool is not the pool: the original rules leave the choice of the server to the pool.
        if (name === 'avi.pool.select' && args.length === 1) {
          this.#isDrawn ||= first instanceof Unknown && first.isFromChance;
          this.#pool = this.#note(this.#poolsSelected, { name, line }, first);
        }
        if (name === 'avi.http.response' && typeof first === 'number') this.#status ??= first;
        return undefined;
    }
  }

  #hasCookie(cookie: string): boolean {
    return this.#world.cookies?.includes(cookie) === true;
  }

  #isDown(pool: string): boolean {
    return this.#world.down === ALL || this.#world.down === pool;
  }

  #note(texts: Map<string, number>, call: { name: string; line: number }, text: Value): string | null {
    if (typeof text !== 'string') {
      this.#unreadable.push(call);
      return null;
    }
    if (!texts.has(text)) texts.set(text, call.line);
    return text;
  }

  #noteValues(args: readonly Value[]): void {
    for (const each of args) if (each instanceof CookieValue) this.#valuesUsed.add(each.cookie);
  }

  /** Avi counts a path's parts from 1. */
  #pathTokens([start, end]: readonly Value[]): Value {
    const parts = this.#path.split('/').filter((part) => part !== '');
    const from = typeof start === 'number' ? start - 1 : 0;
    return parts.slice(from, typeof end === 'number' ? end : undefined).join('/');
  }
}

function listOf(texts: readonly string[]): Table {
  const table = new Table();
  for (const [index, text] of texts.entries()) table.entries.set(index + 1, text);
  return table;
}

function printed(value: Value): string {
  if (value instanceof Api) return value.path;
  if (value instanceof CookieValue) return `cookie ${value.cookie}`;
  return value instanceof Unknown || typeof value === 'object' ? '?' : String(value);
}
