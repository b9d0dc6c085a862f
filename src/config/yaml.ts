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
  parseDocument,
  visit,
  type YAMLError,
} from 'yaml';
import { ConfigError, type ConfigProblem } from './config-error.ts';

const MAX_SYNTAX_ERRORS = 10;

/** Nothing is read but plain YAML: no tags that change a value, no keys but text. */
const YAML_OPTIONS = { prettyErrors: false, stringKeys: true, resolveKnownTags: false, logLevel: 'error' } as const;

/** A YAML text as plain values, which still knows on which line each of them stands. */
export interface YamlFile {
  readonly value: unknown;
  /** 1-based; the line of the deepest part of the path that the file has. */
  lineOf(path: readonly PropertyKey[]): number;
}

/** Reads a text that must be one YAML mapping. @throws ConfigError that names every mistake with its line */
export function readYaml(text: string, file: string): YamlFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, ...YAML_OPTIONS });
  const lineOf = (offset: number): number => lines.linePos(offset).line;

  // A warning is a tag or a directive that would be passed over in silence.
  const syntaxErrors = [...document.errors, ...document.warnings];
  if (syntaxErrors.length > 0) throw new ConfigError(file, describeSyntaxErrors(syntaxErrors, text, lineOf));
  const value: unknown = toPlain(document, file, lineOf);
  if (!isMap(document.contents)) {
    throw new ConfigError(file, [{ line: 1, message: 'must be a YAML mapping that starts with site: NAME' }]);
  }
  return { value, lineOf: (path) => lineOf(offsetOf(document, path)) };
}

function toPlain(document: Document, file: string, lineOf: (offset: number) => number): unknown {
  const lost = aliasWithoutAnchor(document);
  if (lost !== null) {
    const message = `not valid YAML: *${lost.source} stands for nothing: there is no &${lost.source} before it`;
    throw new ConfigError(file, [{ line: lineOf(lost.range?.[0] ?? 0), message }]);
  }
  try {
    return document.toJS();
  } catch {
    // Aliases of aliases of aliases, which would become more than memory holds.
    throw new ConfigError(file, [{ line: 1, message: 'has too many aliases (*name): write the values out' }]);
  }
}

function aliasWithoutAnchor(document: Document): Alias | null {
  const anchors = new Set<string>();
  let lost: Alias | null = null;
  visit(document, {
    Node(_, node) {
      if (!isAlias(node)) {
        if ('anchor' in node && typeof node.anchor === 'string') anchors.add(node.anchor);
        return undefined;
      }
      if (anchors.has(node.source)) return undefined;
      lost = node;
      return visit.BREAK;
    },
  });
  return lost;
}

function describeSyntaxErrors(
  errors: readonly YAMLError[],
  text: string,
  lineOf: (offset: number) => number,
): ConfigProblem[] {
  const firstOfLine = new Map<number, string>();
  // What is never closed is missed at the end, where a blank line would be no help.
  const end = text.trimEnd().length;
  for (const error of errors) {
    const line = lineOf(Math.min(error.pos[0], end));
    if (!firstOfLine.has(line)) firstOfLine.set(line, `not valid YAML: ${describeSyntaxError(error, text)}`);
  }
  const problems = [...firstOfLine].map(([line, message]) => ({ line, message }));
  // After the first few come only consequences of them.
  return problems.sort((a, b) => a.line - b.line).slice(0, MAX_SYNTAX_ERRORS);
}

function describeSyntaxError(error: YAMLError, text: string): string {
  switch (error.code) {
    case 'DUPLICATE_KEY':
      return `the key ${/^[^:,}\n]*/.exec(text.slice(error.pos[0]))?.[0].trim()} is given twice`;
    case 'MULTIPLE_DOCS':
      return 'a second document begins here: remove the line --- and what does not belong to this site';
    case 'NON_STRING_KEY':
      return 'a key must be plain text';
    case 'RESOURCE_EXHAUSTION':
      return 'nested too deeply';
    default:
      return error.message.split('\n', 1)[0] ?? '';
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
