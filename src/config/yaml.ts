import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type Scalar,
  visit,
  type YAMLError,
  type YAMLMap,
} from 'yaml';
import { ConfigError, type ConfigProblem, shorten } from './config-error.ts';

/** After the first few come only consequences of them. */
const MAX_SYNTAX_ERRORS = 10;

/** More than anybody writes; each is looked for among all anchors. */
const MAX_ALIASES = 100;

const MAX_QUOTED_LENGTH = 60;

/**
 * Nothing is read but plain YAML: no tags that change a value, no keys but text. Keys that are given twice are looked for
 * here: the parser compares each with all before it, which takes minutes where there are a hundred thousand.
 */
const YAML_OPTIONS = {
  prettyErrors: false,
  stringKeys: true,
  uniqueKeys: false,
  resolveKnownTags: false,
  logLevel: 'error',
} as const;

/** A YAML text as plain values, which still knows on which line each of them stands. */
export interface YamlFile {
  readonly value: unknown;
  /** 1-based; the line of the deepest part of the path that the file has. */
  lineOf(path: readonly PropertyKey[]): number;
}

/**
 * Reads a text that must be one YAML mapping.
 * @param start how such a mapping begins
 * @throws ConfigError that names the mistakes with their lines
 */
export function readYaml(text: string, file: string, start = 'site: NAME'): YamlFile {
  const lines = new LineCounter();
  const document = parse(text, lines);
  const lineOf = (offset: number): number => lines.linePos(offset).line;

  // A warning is a tag or a directive that would be passed over in silence.
  const syntaxErrors = describeSyntaxErrors([...document.errors, ...document.warnings], text, lineOf);
  const { duplicates, aliases, lost } = inspect(document);
  const mistakes = firstOfEachLine([...syntaxErrors, ...duplicates.map((key) => describeDuplicate(key, text, lineOf))]);
  if (mistakes.length > 0) throw new ConfigError(file, mistakes);
  const tooMany = aliases[MAX_ALIASES];
  if (tooMany !== undefined) {
    const message = `has ${aliases.length} aliases (*name), and ${MAX_ALIASES} at most are read: write the values out`;
    throw new ConfigError(file, [{ line: lineOf(offsetOfNode(tooMany)), message }]);
  }
  if (lost !== null) {
    const name = shorten(lost.source, MAX_QUOTED_LENGTH);
    const message = `not valid YAML: *${name} stands for nothing: there is no &${name} before it`;
    throw new ConfigError(file, [{ line: lineOf(offsetOfNode(lost)), message }]);
  }
  const value: unknown = toPlain(document, file);
  if (!isMap(document.contents)) {
    throw new ConfigError(file, [{ line: 1, message: `must be a YAML mapping that starts with ${start}` }]);
  }
  return { value, lineOf: (path) => lineOf(offsetOf(document, path)) };
}

/** Without the stack traces of the parser's errors, which are most of what a text full of mistakes takes. */
function parse(text: string, lineCounter: LineCounter): Document {
  const before = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    return parseDocument(text, { lineCounter, ...YAML_OPTIONS });
  } finally {
    Error.stackTraceLimit = before;
  }
}

function toPlain(document: Document, file: string): unknown {
  try {
    return document.toJS();
  } catch {
    // Aliases of aliases of aliases, which would become more than memory holds.
    throw new ConfigError(file, [{ line: 1, message: 'has too many aliases (*name): write the values out' }]);
  }
}

/** What the parser does not look at, or not in a time that the text's length bounds. */
interface Inspection {
  /** Keys that stand in their mapping already. */
  readonly duplicates: readonly Scalar[];
  readonly aliases: readonly Alias[];
  /** The first alias without an anchor before it. */
  readonly lost: Alias | null;
}

function inspect(document: Document): Inspection {
  const anchors = new Set<string>();
  const duplicates: Scalar[] = [];
  const aliases: Alias[] = [];
  let lost: Alias | null = null;
  visit(document, {
    Node(_, node) {
      if (isAlias(node)) {
        aliases.push(node);
        if (!anchors.has(node.source)) lost ??= node;
      } else if ('anchor' in node && typeof node.anchor === 'string') anchors.add(node.anchor);
      if (isMap(node)) addDuplicateKeys(node, duplicates);
    },
  });
  return { duplicates, aliases, lost };
}

function addDuplicateKeys({ items }: YAMLMap, duplicates: Scalar[]): void {
  const seen = new Set<unknown>();
  for (const { key } of items) {
    if (!isScalar(key)) continue;
    if (seen.has(key.value)) duplicates.push(key);
    seen.add(key.value);
  }
}

function describeDuplicate(key: Scalar, text: string, lineOf: (offset: number) => number): LineProblem {
  const name = shorten(text.slice(key.range?.[0], key.range?.[1]), MAX_QUOTED_LENGTH);
  return { line: lineOf(offsetOfNode(key)), message: `not valid YAML: the key ${name} is given twice` };
}

function offsetOfNode(node: Node): number {
  return node.range?.[0] ?? 0;
}

interface LineProblem extends ConfigProblem {
  readonly line: number;
}

function firstOfEachLine(problems: readonly LineProblem[]): LineProblem[] {
  const first = new Map<number, LineProblem>();
  for (const problem of problems) if (!first.has(problem.line)) first.set(problem.line, problem);
  return [...first.values()].sort((a, b) => a.line - b.line);
}

/** The first ones, of each line one. */
function describeSyntaxErrors(
  errors: readonly YAMLError[],
  text: string,
  lineOf: (offset: number) => number,
): LineProblem[] {
  // What is never closed is missed at the end, where a blank line would be no help.
  const end = text.trimEnd().length;
  const described = new Map<number, LineProblem>();
  for (const error of errors.toSorted((a, b) => a.pos[0] - b.pos[0])) {
    const line = lineOf(Math.min(error.pos[0], end));
    if (described.has(line)) continue;
    described.set(line, { line, message: `not valid YAML: ${describeSyntaxError(error)}` });
    if (described.size === MAX_SYNTAX_ERRORS) break;
  }
  return [...described.values()];
}

function describeSyntaxError(error: YAMLError): string {
  switch (error.code) {
    case 'MULTIPLE_DOCS':
      return 'a second document begins here: remove the line --- and what does not belong to this site';
    case 'NON_STRING_KEY':
      return 'a key must be plain text';
    case 'RESOURCE_EXHAUSTION':
      return 'nested too deeply';
    default:
      return shorten(error.message.split('\n', 1)[0] ?? '', 3 * MAX_QUOTED_LENGTH);
  }
}

/** Where the deepest part of the path that the file has begins: its key, or the list's item. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  let node: unknown = document.contents;
  let offset = 0;
  for (const key of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isPair(item) && isScalar(item.key) && item.key.value === key);
      if (pair === undefined) break;
      if (isScalar(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else {
      node = isSeq(node) && typeof key === 'number' ? node.items[key] : undefined;
      if (!isNode(node)) break;
      offset = node.range?.[0] ?? offset;
    }
  }
  return offset;
}
