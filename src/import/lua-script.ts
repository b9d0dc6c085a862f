import { type Chunk, parse } from 'luaparse';

/** A place in the script that matters, by its line. */
export interface AtLine {
  readonly line: number;
}

export interface Variable extends AtLine {
  readonly name: string;
  /** Null where it is not simply a text: computed, a number, or assigned more than once with different texts. */
  readonly value: string | null;
}

/** A call of Avi's API, such as `avi.http.get_cookie`. */
export interface AviCall extends AtLine {
  readonly name: string;
  /** Texts as they are, and variables by their one text. */
  readonly args: readonly Argument[];
}

export interface Argument {
  /** Null where the script computes it. */
  readonly value: string | null;
  /** The variable that it is given as; null for a text. */
  readonly variable: string | null;
}

/** A branch of an `if`: what its condition asks for, and what is done then. */
export interface Branch extends AtLine {
  readonly asked: readonly AviCall[];
  readonly done: readonly AviCall[];
}

export interface LuaScript {
  readonly variables: readonly Variable[];
  readonly calls: readonly AviCall[];
  readonly branches: readonly Branch[];
  /** What the request's path is compared with. */
  readonly comparedPaths: readonly (Argument & AtLine)[];
  /** Calls of anything but Avi's API and Lua's own functions on texts. */
  readonly otherCalls: readonly (AtLine & { readonly name: string })[];
}

/** The text is no Lua. The message has the line and the column. */
export class NotLua extends Error {
  readonly code = 'NOT_LUA';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'NotLua';
  }
}

type Node = { readonly type: string; readonly loc?: { readonly start: { readonly line: number } } } & Readonly<
  Record<string, unknown>
>;

/** Functions that give the path of the request. */
const PATH_CALLS = ['avi.http.get_path', 'avi.http.get_uri', 'avi.http.get_path_tokens'];

/** Of Lua itself; they change nothing of what is decided. */
const HARMLESS = /^(string\.\w+|tonumber|tostring|type|ipairs|pairs|table\.\w+|math\.\w+|[\w.]+:\w+)$/;

/** Reads a DataScript without running it. @throws NotLua */
export function readLuaScript(source: string): LuaScript {
  const nodes = [...walk(parseLua(source))];
  const variables = readVariables(nodes);
  const texts = new Map(variables.map(({ name, value }) => [name, value]));
  const argument = (node: Node): Argument => {
    if (node.type === 'StringLiteral') return { value: textOf(node.value), variable: null };
    if (node.type === 'Identifier') return { value: texts.get(String(node.name)) ?? null, variable: String(node.name) };
    return { value: null, variable: null };
  };
  const callsIn = (within: Iterable<Node>): AviCall[] =>
    [...within].filter(isCall).flatMap((node) => {
      const name = pathOf(node.base);
      return name.startsWith('avi.') ? [{ name, args: argumentsOf(node).map(argument), line: lineOf(node) }] : [];
    });

  return {
    variables,
    calls: callsIn(nodes),
    branches: nodes
      .filter((node) => node.type === 'IfClause' || node.type === 'ElseifClause')
      .map((node) => ({
        asked: callsIn(walkAll(node.condition)),
        done: callsIn(walkAll(node.body)),
        line: lineOf(node),
      })),
    comparedPaths: nodes
      .filter((node) => node.type === 'BinaryExpression' && node.operator === '==')
      .flatMap(({ left, right, ...node }) => {
        const sides = [left, right].filter(isNode);
        const [path] = sides.filter((side) => isPath(side, nodes));
        const [other] = sides.filter((side) => side !== path);
        return path === undefined || other === undefined ? [] : [{ ...argument(other), line: lineOf(node) }];
      }),
    otherCalls: nodes.filter(isCall).flatMap((node) => {
      const name = pathOf(node.base);
      return name.startsWith('avi.') || HARMLESS.test(name) ? [] : [{ name, line: lineOf(node) }];
    }),
  };
}

function parseLua(source: string): Chunk {
  try {
    return parse(source, { locations: true, comments: false, luaVersion: '5.2', encodingMode: 'pseudo-latin1' });
  } catch (error) {
    // luaparse says `[line:column] what is wrong`.
    const [, line, column, what] = /^\[(\d+):(\d+)\] (.*)$/s.exec(error instanceof Error ? error.message : '') ?? [];
    const where = line === undefined ? '' : `line ${line}, column ${Number(column) + 1}: `;
    throw new NotLua(`${where}${what ?? 'it cannot be read'}`, { cause: error });
  }
}

function readVariables(nodes: readonly Node[]): Variable[] {
  const found = new Map<string, Variable>();
  for (const node of nodes) {
    if (node.type !== 'LocalStatement' && node.type !== 'AssignmentStatement') continue;
    const values = nodesOf(node.init);
    for (const [index, target] of nodesOf(node.variables).entries()) {
      if (target.type !== 'Identifier') continue;
      const name = String(target.name);
      const init = values[index];
      const value = init?.type === 'StringLiteral' ? textOf(init.value) : null;
      const before = found.get(name);
      const isSame = before === undefined || before.value === value;
      found.set(name, { name, value: isSame ? value : null, line: before?.line ?? lineOf(node) });
    }
  }
  return [...found.values()];
}

/** Whether an expression is the path of the request: a call that gives it, or a variable that holds it. */
function isPath(node: Node, nodes: readonly Node[]): boolean {
  if (isCall(node)) return PATH_CALLS.includes(pathOf(node.base));
  if (node.type !== 'Identifier') return false;
  return nodes.some((statement) => {
    if (statement.type !== 'LocalStatement' && statement.type !== 'AssignmentStatement') return false;
    const index = nodesOf(statement.variables).findIndex((target) => target.name === node.name);
    const init = nodesOf(statement.init)[index];
    return init !== undefined && isCall(init) && PATH_CALLS.includes(pathOf(init.base));
  });
}

function* walk(value: unknown): Generator<Node> {
  // Not recursive: a script nested thousands of levels deep must not end the walk.
  const pending: unknown[] = [value];
  while (pending.length > 0) {
    const next = pending.pop();
    if (Array.isArray(next)) {
      pending.push(...next.toReversed());
    } else if (isNode(next)) {
      yield next;
      pending.push(...Object.values(next).toReversed());
    }
  }
}

function walkAll(value: unknown): Node[] {
  return [...walk(value)];
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

function nodesOf(value: unknown): Node[] {
  return Array.isArray(value) ? value.filter(isNode) : [];
}

/** `f(…)`, and Lua's short forms `f"…"` and `f{…}`. */
function isCall(node: Node): boolean {
  return ['CallExpression', 'StringCallExpression', 'TableCallExpression'].includes(node.type);
}

function argumentsOf(node: Node): Node[] {
  if (Array.isArray(node.arguments)) return nodesOf(node.arguments);
  return [node.argument, node.arguments].filter(isNode);
}

/** `avi.http.get_cookie` */
function pathOf(node: unknown): string {
  if (!isNode(node)) return '?';
  if (node.type === 'Identifier') return String(node.name);
  if (node.type !== 'MemberExpression' || !isNode(node.identifier)) return '?';
  return `${pathOf(node.base)}${String(node.indexer)}${String(node.identifier.name)}`;
}

function lineOf(node: { readonly loc?: unknown }): number {
  const { loc } = node;
  if (typeof loc !== 'object' || loc === null || !('start' in loc)) return 0;
  const { start } = loc;
  return typeof start === 'object' && start !== null && 'line' in start && typeof start.line === 'number'
    ? start.line
    : 0;
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
