import type { SiteState } from '../../../src/decision/decide.ts';

/** `gone`: nothing answers at the site's address. `down`: its edge does, its pool takes no request. */
export type Pool = 'up' | 'down' | 'gone';

const POOLS: readonly Pool[] = ['up', 'down', 'gone'];

/** What is given of a state; everything left out is free to be anything. */
export interface Givens {
  readonly pool?: (site: number) => Pool | undefined;
  readonly hasOpinion?: (site: number) => boolean | undefined;
  /** What the sidecar of `site` takes the pool of `of` for. */
  readonly sidecarSees?: (site: number, of: number) => View;
  /** What the Envoy of `site` takes the pool of `of` for: the sidecar's snapshot may be older, and counts otherwise. */
  readonly envoySees?: (site: number, of: number) => View;
}

/** `right`: just as the pool is. `cautious`: a pool that is up may be taken for down, but not the other way round. */
export type View = 'right' | 'cautious' | 'up' | 'free';

export interface WorldOptions {
  readonly siteCount: number;
  /** The site with the original rules, which has no sidecar; null: none. */
  readonly original: number | null;
  /** The edge that the client reaches, which is therefore not gone. */
  readonly firstEdge: number;
  readonly givens: Givens;
}

/**
 * All states of some sites, one after the other, without building each: what a request's way does not depend on is
 * never looked at, and the states that differ only there are one class. A walk sees one state of the class and asks it
 * for what it needs; {@link next} goes on to the next class, which differs in something that was asked for.
 */
export class World {
  readonly #options: WorldOptions;
  readonly #sites: readonly number[];
  readonly #variables: Variables;
  readonly #numberOfValues: Int8Array;
  /** The value of each variable in this class; {@link UNSEEN} where nobody has looked. */
  readonly #values: Int8Array;
  /** The variables that somebody looked at, in that order. */
  readonly #seen: number[] = [];
  /** How many states were left after each look of {@link #seen}; before the first: all. */
  readonly #statesLeft: number[];
  readonly #sidecars: readonly SiteState[];

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#sites = Array.from({ length: options.siteCount }, (_, site) => site);
    this.#variables = variablesOf(options.siteCount);
    this.#numberOfValues = new Int8Array(this.#variables.count).fill(2);
    for (const site of this.#sites) {
      // The first edge answers, so it has one value less.
      this.#numberOfValues[this.#variables.pool(site)] = site === options.firstEdge ? POOLS.length - 1 : POOLS.length;
    }
    this.#values = new Int8Array(this.#variables.count).fill(UNSEEN);
    this.#sidecars = this.#sites.map((site) => this.#sidecarOf(site));
    this.#statesLeft = [this.#countStates()];
  }

  /** How many states there are. Only where nothing is given. */
  get states(): number {
    return this.#statesLeft[0] ?? 0;
  }

  /** How many of them this class stands for. */
  get statesInClass(): number {
    return this.#statesLeft.at(-1) ?? 0;
  }

  /** Goes on to the next class of states; false after the last. */
  next(): boolean {
    for (;;) {
      const last = this.#seen.at(-1);
      if (last === undefined) return false;
      const value = (this.#values[last] ?? 0) + 1;
      this.#statesLeft.pop();
      if (value < (this.#numberOfValues[last] ?? 0)) {
        this.#values[last] = value;
        this.#statesLeft.push(this.#statesLeftAfter(last, value));
        return true;
      }
      this.#values[last] = UNSEEN;
      this.#seen.pop();
    }
  }

  pool(site: number): Pool {
    return this.#options.givens.pool?.(site) ?? POOLS[this.#look(this.#variables.pool(site))] ?? 'gone';
  }

  isUp(site: number): boolean {
    return this.pool(site) === 'up';
  }

  isAnyUp(): boolean {
    return this.#sites.some((site) => this.isUp(site));
  }

  hasOpinion(site: number): boolean {
    return this.#options.givens.hasOpinion?.(site) ?? this.#look(this.#variables.hasOpinion(site)) === 0;
  }

  sidecarSees(site: number, of: number): boolean {
    const view = this.#options.givens.sidecarSees?.(site, of) ?? 'free';
    return this.#isSeenUp(view, of, this.#variables.sidecarSees(site, of));
  }

  envoySees(site: number, of: number): boolean {
    const view = this.#options.givens.envoySees?.(site, of) ?? 'free';
    return this.#isSeenUp(view, of, this.#variables.envoySees(site, of));
  }

  /** The state that the sidecar of `site` decides by, in its own order of sites. */
  sidecar(site: number): SiteState {
    const state = this.#sidecars[site];
    if (state === undefined) throw new Error(`there is no site ${site}`);
    return state;
  }

  /** What was looked at in this class, for the message of a failed test. */
  inWords(): string {
    const upOrDown = (isUp: boolean) => (isUp ? 'up' : 'down');
    const { pool, hasOpinion, draining, sidecarSees, envoySees } = this.#variables;
    const words = new Map<number, () => string>();
    for (const site of this.#sites) {
      words.set(pool(site), () => `pool ${site} is ${this.pool(site)}`);
      words.set(hasOpinion(site), () => `sidecar ${site} has ${this.hasOpinion(site) ? 'an' : 'no'} opinion`);
      words.set(draining(site), () => `site ${site} is ${this.#isDraining(site) ? '' : 'not '}draining`);
      for (const of of this.#sites) {
        words.set(sidecarSees(site, of), () => `sidecar ${site} sees ${of} ${upOrDown(this.sidecarSees(site, of))}`);
        words.set(envoySees(site, of), () => `Envoy ${site} sees ${of} ${upOrDown(this.envoySees(site, of))}`);
      }
    }
    return this.#seen.map((variable) => words.get(variable)?.()).join(', ');
  }

  #look(variable: number): number {
    const value = this.#values[variable];
    if (value !== undefined && value !== UNSEEN) return value;
    this.#values[variable] = 0;
    this.#seen.push(variable);
    this.#statesLeft.push(this.#statesLeftAfter(variable, 0));
    return 0;
  }

  #isSeenUp(view: View, of: number, variable: number): boolean {
    switch (view) {
      case 'right':
        return this.isUp(of);
      case 'cautious':
        return this.isUp(of) && this.#look(variable) === 0;
      case 'up':
        return true;
      case 'free':
        return this.#look(variable) === 0;
    }
  }

  #isDraining(site: number): boolean {
    return this.#look(this.#variables.draining(site)) === 0;
  }

  /** Each part of it is looked at only when the decision looks at it. */
  #sidecarOf(site: number): SiteState {
    const world = this;
    const up: boolean[] = [];
    sitesAsSeenBy(site, this.#sites.length).forEach((of, index) => {
      Object.defineProperty(up, index, { get: () => world.sidecarSees(site, of), enumerable: true });
    });
    const known = { known: true, up } as const;
    const unknown = { known: false } as const;
    return {
      get health() {
        return world.hasOpinion(site) ? known : unknown;
      },
      get draining() {
        return world.#isDraining(site);
      },
    };
  }

  #countStates(): number {
    const { siteCount, original, firstEdge } = this.#options;
    const snapshots = 2 ** siteCount;
    let states = 1;
    for (const site of this.#sites) {
      const pools = site === firstEdge ? POOLS.length - 1 : POOLS.length;
      const envoyViews = 2 ** siteCount;
      // A sidecar has a snapshot or no opinion, and is draining or not.
      states *= pools * envoyViews * (site === original ? 1 : (snapshots + 1) * 2);
    }
    return states;
  }

  #statesLeftAfter(variable: number, value: number): number {
    const { siteCount } = this.#options;
    const before = this.statesInClass;
    if (!this.#variables.isOpinion(variable)) return before / (this.#numberOfValues[variable] ?? 1);
    const snapshots = 2 ** siteCount;
    return (before / (snapshots + 1)) * (value === 0 ? snapshots : 1);
  }
}

/** The order of a site's config file: itself, then the others. */
export function sitesAsSeenBy(site: number, siteCount: number): number[] {
  const others = Array.from({ length: siteCount }, (_, other) => other).filter((other) => other !== site);
  return [site, ...others];
}

const UNSEEN = -1;

type Variables = ReturnType<typeof variablesOf>;

/** Everything in a state that may be one way or another, numbered. */
function variablesOf(siteCount: number) {
  const pairs = siteCount * siteCount;
  return {
    pool: (site: number) => site,
    hasOpinion: (site: number) => siteCount + site,
    isOpinion: (variable: number) => variable >= siteCount && variable < 2 * siteCount,
    draining: (site: number) => 2 * siteCount + site,
    sidecarSees: (site: number, of: number) => 3 * siteCount + site * siteCount + of,
    envoySees: (site: number, of: number) => 3 * siteCount + pairs + site * siteCount + of,
    count: 3 * siteCount + 2 * pairs,
  };
}
