import { type Chunk, type Options, parse } from 'luaparse';

/** A place in the script that matters, by its line. */
export interface AtLine {
  readonly line: number;
}

/** A text that is given a name: a variable's or a table's field. */
export interface NamedText {
  readonly name: string;
  readonly value: string;
}

export interface Call extends AtLine {
  /** By its path, such as `avi.http.get_cookie`, also where the script calls it by a short name of its own. */
  readonly name: string;
  readonly argumentCount: number;
}

export interface LuaScript {
  readonly chunk: Chunk;
  readonly names: readonly NamedText[];
  /** Each text that the script has between quotes, once, in the script's order. */
  readonly texts: readonly string[];
  /** The line that first has a text between quotes. */
  readonly lineOfText: ReadonlyMap<string, number>;
  readonly aviCalls: readonly Call[];
  /** Calls of anything but Avi's API, Lua's own functions on texts and tables, and the script's own functions. */
  readonly otherCalls: readonly Call[];
}

/** The text is no Lua. The message has the line and the column. */
export class NotLua extends Error {
  readonly code = 'NOT_LUA';
  /** Null where the parser does not say it. */
  readonly line: number | null;
  readonly what: string;

  constructor(what: string, at: { readonly line: number; readonly column: number } | null, options?: ErrorOptions) {
    super(at === null ? what : `line ${at.line}, column ${at.column}: ${what}`, options);
    this.name = 'NotLua';
    this.line = at?.line ?? null;
    this.what = what;
  }
}

type Node = { readonly type: string; readonly loc?: { readonly start: { readonly line: number } } } & Readonly<
  Record<string, unknown>
>;

/** Of Lua itself; they change nothing of what is decided. */
const HARMLESS = /^(string\.\w+|tonumber|tostring|type|i?pairs|next|pcall|table\.\w+|math\.(?!random)\w+|[\w.]+:\w+)$/;

/** luaparse wants bytes, one to a character; the script's texts become text again. */
const OPTIONS: Partial<Options> = {
  locations: true,
  comments: false,
  luaVersion: '5.2',
  encodingMode: 'pseudo-latin1',
  onCreateNode: (node) => {
    if (node.type === 'StringLiteral') node.value = Buffer.from(node.value, 'latin1').toString();
  },
};

/** Reads a DataScript without running it. @throws NotLua */
export function readLuaScript(source: string): LuaScript {
  const chunk = parseLua(source);
  const nodes = [...walk(chunk)];
  const aliases = readAliases(nodes);
  const calls = nodes.filter(isCall).map((node) => ({
    name: pathOf(node.base, aliases),
    argumentCount: Array.isArray(node.arguments) ? node.arguments.length : 1,
    line: lineOf(node),
  }));
  const own = new Set(
    nodes.flatMap(({ type, identifier }) => (type === 'FunctionDeclaration' ? pathOf(identifier) : [])),
  );
  const lineOfText = new Map<string, number>();
  for (const node of nodes) {
    const text = node.type === 'StringLiteral' ? textOf(node.value) : null;
    if (text !== null && !lineOfText.has(text)) lineOfText.set(text, lineOf(node));
  }
  return {
    chunk,
    names: readNames(nodes),
    texts: [...lineOfText.keys()],
    lineOfText,
    aviCalls: calls.filter(({ name }) => name.startsWith('avi.')),
    otherCalls: calls.filter(({ name }) => !name.startsWith('avi.') && !HARMLESS.test(name) && !own.has(name)),
  };
}

function parseLua(source: string): Chunk {
  try {
    return parse(Buffer.from(source).toString('latin1'), OPTIONS);
  } catch (error) {
    // luaparse says `[line:column] what is wrong`.
    const [, line, column, what] = /^\[(\d+):(\d+)\] (.*)$/s.exec(error instanceof Error ? error.message : '') ?? [];
    const at = line === undefined ? null : { line: Number(line), column: Number(column) + 1 };
    throw new NotLua(what ?? 'it cannot be read', at, { cause: error });
  }
}

function readNames(nodes: readonly Node[]): NamedText[] {
  return nodes.flatMap(assignmentsOf).flatMap(([target, init]) => {
    const name = target.type === 'Identifier' ? textOf(target.name) : nameOfMember(target);
    const value = init?.type === 'StringLiteral' ? textOf(init.value) : null;
    return name === null || value === null ? [] : [{ name, value }];
  });
}

/** Short names for parts of Avi's API, such as `local http = avi.http`. */
function readAliases(nodes: readonly Node[]): Map<string, string> {
  const aliases = new Map<string, string>();
  for (const [target, init] of nodes.flatMap(assignmentsOf)) {
    const path = target.type === 'Identifier' && init !== undefined ? pathOf(init, aliases) : '?';
    if (/^avi(\.\w+)*$/.test(path)) aliases.set(String(target.name), path);
  }
  return aliases;
}

/** What is assigned to what: by a statement, or as a field of a table. */
function assignmentsOf(node: Node): [Node, Node | undefined][] {
  if (node.type === 'TableKeyString' && isNode(node.key) && isNode(node.value)) return [[node.key, node.value]];
  if (node.type !== 'LocalStatement' && node.type !== 'AssignmentStatement') return [];
  const values = nodesOf(node.init);
  return nodesOf(node.variables).map((target, index) => [target, values[index]]);
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

/** `avi.http.get_cookie`, however it is written; what stands in front of the last parts can be an alias. */
function pathOf(node: unknown, aliases: ReadonlyMap<string, string> = new Map()): string {
  if (!isNode(node)) return '?';
  if (node.type === 'Identifier') return aliases.get(String(node.name)) ?? String(node.name);
  if (node.type === 'IndexExpression' && isNode(node.index)) {
    return `${pathOf(node.base, aliases)}.${textOf(node.index.value) ?? '?'}`;
  }
  const name = nameOfMember(node);
  return name === null ? '?' : `${pathOf(node.base, aliases)}${String(node.indexer)}${name}`;
}

function nameOfMember(node: Node): string | null {
  return node.type === 'MemberExpression' && isNode(node.identifier) ? textOf(node.identifier.name) : null;
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
