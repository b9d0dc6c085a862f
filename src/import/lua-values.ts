import type { FunctionDeclaration } from 'luaparse';

/** The run can't be followed any further: nothing is known of what it would have done. */
export class Lost extends Error {}

/** What an expression of a script comes to; `undefined` is Lua's nil. */
export type Value = undefined | boolean | number | string | Table | Closure | Api | CookieValue | Unknown;

export class Table {
  readonly entries = new Map<Value, Value>();

  /** What `#` gives: the entries 1, 2, 3… without a gap. */
  get length(): number {
    let length = 0;
    while (this.entries.has(length + 1)) length++;
    return length;
  }
}

/** A function that the script defines. */
export class Closure {
  readonly definition: FunctionDeclaration;
  readonly scope: Scope;

  constructor(definition: FunctionDeclaration, scope: Scope) {
    this.definition = definition;
    this.scope = scope;
  }
}

/** A function, module or constant that the script did not define, by its path: `avi.http.get_cookie`, `string.find`. */
export class Api {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }
}

/** The value of a cookie that the request carries: there, but equal to nothing that the script could know. */
export class CookieValue {
  readonly cookie: string;

  constructor(cookie: string) {
    this.cookie = cookie;
  }
}

/** What only a real request would tell, such as its host. */
export class Unknown {
  /** Whether it was computed from a cookie's value. */
  readonly isFromCookie: boolean;
  /** Whether chance or the clock has a part in it. */
  readonly isFromChance: boolean;

  constructor(isFromCookie: boolean, isFromChance = false) {
    this.isFromCookie = isFromCookie;
    this.isFromChance = isFromChance;
  }

  static from(values: readonly Value[]): Unknown {
    return new Unknown(
      values.some((value) => value instanceof CookieValue || (value instanceof Unknown && value.isFromCookie)),
      values.some((value) => value instanceof Unknown && value.isFromChance),
    );
  }
}

export class Scope {
  readonly #variables = new Map<string, Value>();
  readonly #parent: Scope | null;

  constructor(parent: Scope | null) {
    this.#parent = parent;
  }

  declare(name: string, value: Value): void {
    this.#variables.set(name, value);
  }

  /** Sets a variable where it was declared, else a global one. */
  assign(name: string, value: Value): void {
    const owner = this.#ownerOf(name);
    owner.#variables.set(name, value);
  }

  has(name: string): boolean {
    return this.#ownerOf(name).#variables.has(name);
  }

  get(name: string): Value {
    return this.#ownerOf(name).#variables.get(name);
  }

  /** The scope that has the variable, else the outermost. */
  #ownerOf(name: string): Scope {
    let scope: Scope = this;
    while (!scope.#variables.has(name) && scope.#parent !== null) scope = scope.#parent;
    return scope;
  }
}
