import type { Chunk, Expression, Statement } from 'luaparse';
import { callLibrary, numberOf } from './lua-library.ts';
import { binary, unary } from './lua-operators.ts';
import { Api, Closure, Lost, Scope, Table, Unknown, type Value } from './lua-values.ts';

/** The world that a script is followed in. */
export interface Host {
  /** Answers a call of anything under `avi.`; undefined leaves the answer unknown. */
  call(path: string, args: readonly Value[], line: number): readonly Value[] | undefined;
  /** Takes a side where a condition is unknown. @param isByChance whether chance or the clock has a part in it */
  choose(condition: Expression, isByChance: boolean): boolean;
  /** A cookie's value was compared with a text. */
  compared(cookie: string, line: number): void;
}

const MAX_DEPTH = 150;
const GLOBALS = new Set([
  ...['avi', 'string', 'math', 'table', 'os', 'io', 'bit', 'tonumber', 'tostring', 'type', 'ipairs', 'pairs', 'next'],
  ...['pcall', 'print', 'require', 'error', 'assert', 'select', 'unpack', 'setmetatable', '_G'],
]);

type Exit = { readonly values: readonly Value[] } | 'break' | null;

/**
 * Follows a script on paper: nothing of it is executed. Only the given host sees its calls, and every loop ends, because
 * the steps are counted.
 * @throws Lost
 */
export class LuaRun {
  readonly #host: Host;
  readonly #requestVariables = new Table();
  #stepsLeft: number;
  #depth = 0;

  constructor(host: Host, maxSteps: number) {
    this.#host = host;
    this.#stepsLeft = maxSteps;
  }

  get stepsLeft(): number {
    return this.#stepsLeft;
  }

  follow(chunk: Chunk): void {
    this.#block(chunk.body, new Scope(null));
  }

  #step(): void {
    if (--this.#stepsLeft < 0) throw new Lost('too many steps');
  }

  #deeper<T>(work: () => T): T {
    if (++this.#depth > MAX_DEPTH) throw new Lost('nested too deep');
    try {
      return work();
    } finally {
      this.#depth--;
    }
  }

  #block(body: readonly Statement[], scope: Scope): Exit {
    return this.#deeper(() => {
      for (const statement of body) {
        const exit = this.#statement(statement, scope);
        if (exit !== null) return exit;
      }
      return null;
    });
  }

  #statement(node: Statement, scope: Scope): Exit {
    this.#step();
    switch (node.type) {
      case 'LocalStatement': {
        const values = this.#list(node.init, scope);
        for (const [index, { name }] of node.variables.entries()) scope.declare(name, values[index]);
        return null;
      }
      case 'AssignmentStatement': {
        const values = this.#list(node.init, scope);
        for (const [index, target] of node.variables.entries()) this.#assign(target, values[index], scope);
        return null;
      }
      case 'CallStatement':
        this.#values(node.expression, scope);
        return null;
      case 'FunctionDeclaration':
        if (node.identifier === null) return null;
        if (node.isLocal && node.identifier.type === 'Identifier') scope.declare(node.identifier.name, undefined);
        this.#assign(node.identifier, new Closure(node, scope), scope);
        return null;
      case 'ReturnStatement':
        return { values: this.#list(node.arguments, scope) };
      case 'BreakStatement':
        return 'break';
      case 'DoStatement':
        return this.#block(node.body, new Scope(scope));
      case 'IfStatement':
        for (const clause of node.clauses) {
          if (clause.type === 'ElseClause' || this.#holds(clause.condition, scope)) {
            return this.#block(clause.body, new Scope(scope));
          }
        }
        return null;
      case 'WhileStatement':
        return this.#loop(() =>
          this.#holds(node.condition, scope) ? this.#block(node.body, new Scope(scope)) : 'break',
        );
      case 'RepeatStatement':
        return this.#loop(() => {
          const inner = new Scope(scope);
          return this.#block(node.body, inner) ?? (this.#holds(node.condition, inner) ? 'break' : null);
        });
      case 'ForNumericStatement': {
        const [start, end, step] = [node.start, node.end, node.step].map((each) =>
          each === null ? 1 : numberOf(this.#value(each, scope)),
        );
        if (typeof start !== 'number' || typeof end !== 'number' || typeof step !== 'number' || step === 0) return null;
        let next = start;
        return this.#loop(() => {
          if (step > 0 ? next > end : next < end) return 'break';
          const inner = new Scope(scope);
          inner.declare(node.variable.name, next);
          next += step;
          return this.#block(node.body, inner);
        });
      }
      case 'ForGenericStatement': {
        const entries = this.#entries(node.iterators[0], scope);
        return this.#loop(() => {
          const entry = entries.shift();
          if (entry === undefined) return 'break';
          const inner = new Scope(scope);
          for (const [index, { name }] of node.variables.entries()) inner.declare(name, entry[index]);
          return this.#block(node.body, inner);
        });
      }
      default:
        return null;
    }
  }

  #loop(pass: () => Exit): Exit {
    for (;;) {
      this.#step();
      const exit = pass();
      if (exit === 'break') return null;
      if (exit !== null) return exit;
    }
  }

  /** What `ipairs(t)` or `pairs(t)` gives; nothing for an iterator of another kind. */
  #entries(iterator: Expression | undefined, scope: Scope): Value[][] {
    if (iterator?.type !== 'CallExpression') return [];
    const called = this.#value(iterator.base, scope);
    const [table] = this.#list(iterator.arguments, scope);
    if (!(called instanceof Api) || !/^i?pairs$/.test(called.path) || !(table instanceof Table)) return [];
    return [...table.entries].filter(([key]) => called.path === 'pairs' || typeof key === 'number');
  }

  #assign(target: Expression, value: Value, scope: Scope): void {
    if (target.type === 'Identifier') {
      scope.assign(target.name, value);
      return;
    }
    if (target.type !== 'MemberExpression' && target.type !== 'IndexExpression') return;
    const base = this.#value(target.base, scope);
    const key = target.type === 'MemberExpression' ? target.identifier.name : this.#value(target.index, scope);
    if (base instanceof Table) base.entries.set(key, value);
  }

  /** Several expressions, the last with all that it gives. */
  #list(nodes: readonly Expression[], scope: Scope): Value[] {
    return nodes.flatMap((node, index) =>
      index === nodes.length - 1 ? this.#values(node, scope) : [this.#value(node, scope)],
    );
  }

  #value(node: Expression, scope: Scope): Value {
    return this.#values(node, scope)[0];
  }

  #values(node: Expression, scope: Scope): readonly Value[] {
    this.#step();
    return this.#deeper(() => this.#evaluate(node, scope));
  }

  #evaluate(node: Expression, scope: Scope): readonly Value[] {
    switch (node.type) {
      case 'NilLiteral':
        return [undefined];
      case 'StringLiteral':
      case 'NumericLiteral':
      case 'BooleanLiteral':
        return [node.value];
      case 'Identifier':
        return [!scope.has(node.name) && GLOBALS.has(node.name) ? new Api(node.name) : scope.get(node.name)];
      case 'FunctionDeclaration':
        return [new Closure(node, scope)];
      case 'TableConstructorExpression': {
        const table = new Table();
        let next = 1;
        for (const field of node.fields) {
          const value = this.#value(field.value, scope);
          if (field.type === 'TableValue') table.entries.set(next++, value);
          else table.entries.set(field.type === 'TableKey' ? this.#value(field.key, scope) : field.key.name, value);
        }
        return [table];
      }
      case 'MemberExpression':
        return [this.#member(this.#value(node.base, scope), node.identifier.name)];
      case 'IndexExpression':
        return [this.#member(this.#value(node.base, scope), this.#value(node.index, scope))];
      case 'UnaryExpression':
        return [unary(node.operator, this.#value(node.argument, scope))];
      case 'LogicalExpression': {
        const left = this.#value(node.left, scope);
        const isRight = this.#isTrue(left, node.left) === (node.operator === 'and');
        return [isRight ? this.#value(node.right, scope) : left];
      }
      case 'BinaryExpression': {
        const line = node.loc?.start.line ?? 0;
        return [
          binary(node.operator, this.#value(node.left, scope), this.#value(node.right, scope), (cookie) =>
            this.#host.compared(cookie, line),
          ),
        ];
      }
      case 'CallExpression':
        return this.#call(node.base, this.#list(node.arguments, scope), scope);
      case 'StringCallExpression':
        return this.#call(node.base, [this.#value(node.argument, scope)], scope);
      case 'TableCallExpression':
        return this.#call(node.base, [this.#value(node.arguments, scope)], scope);
      default:
        return [new Unknown(false)];
    }
  }

  #member(base: Value, key: Value): Value {
    if (base instanceof Table) {
      return key instanceof Unknown && key.isFromChance ? key : base.entries.get(key);
    }
    if (!(base instanceof Api)) return base instanceof Unknown ? base : undefined;
    if (typeof key !== 'string') return new Unknown(false);
    if (base.path === 'avi.vs' && key === 'reqvar') return this.#requestVariables;
    return new Api(base.path === '_G' ? key : `${base.path}.${key}`);
  }

  #call(callee: Expression, args: readonly Value[], scope: Scope): readonly Value[] {
    if (callee.type !== 'MemberExpression' || callee.indexer !== ':') {
      return this.#invoke(this.#value(callee, scope), args, callee.loc?.start.line ?? 0);
    }
    const self = this.#value(callee.base, scope);
    const { name } = callee.identifier;
    if (self instanceof Table)
      return this.#invoke(self.entries.get(name), [self, ...args], callee.loc?.start.line ?? 0);
    return callLibrary(`string.${name}`, [self, ...args]);
  }

  #invoke(called: Value, args: readonly Value[], line: number): readonly Value[] {
    if (called instanceof Closure) return this.#enter(called, args);
    if (!(called instanceof Api)) return [Unknown.from(args)];
    if (called.path === 'pcall') return [true, ...this.#invoke(args[0], args.slice(1), line)];
    if (!called.path.startsWith('avi.')) return callLibrary(called.path, args);
    return this.#host.call(called.path, args, line) ?? [Unknown.from(args)];
  }

  #enter({ definition, scope }: Closure, args: readonly Value[]): readonly Value[] {
    const inner = new Scope(scope);
    for (const [index, parameter] of definition.parameters.entries()) {
      if (parameter.type === 'Identifier') inner.declare(parameter.name, args[index]);
    }
    const exit = this.#block(definition.body, inner);
    return exit === null || exit === 'break' ? [] : exit.values;
  }

  #holds(condition: Expression, scope: Scope): boolean {
    return this.#isTrue(this.#value(condition, scope), condition);
  }

  #isTrue(value: Value, node: Expression): boolean {
    if (!(value instanceof Unknown)) return value !== undefined && value !== false;
    if (value.isFromCookie) throw new Lost("decided by a cookie's value");
    return this.#host.choose(node, value.isFromChance);
  }
}
