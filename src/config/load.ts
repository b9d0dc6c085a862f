import { readFile } from 'node:fs/promises';
import { type Document, isMap, isNode, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import type { Config } from './config.ts';
import { configSchema } from './schema.ts';

/** One mistake in a config file. */
export interface ConfigProblem {
  /** 1-based; null where the file could not be read at all. */
  readonly line: number | null;
  readonly message: string;
}

/** Everything that is wrong with a config file, all at once, in the order of its lines. */
export class ConfigError extends Error {
  readonly code = 'CONFIG_INVALID';
  readonly problems: readonly ConfigProblem[];

  constructor(file: string, problems: readonly ConfigProblem[]) {
    const lines = problems.map(({ line, message }) => `${file}${line === null ? '' : `:${line}`}: ${message}`);
    super(lines.join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/**
 * Reads and checks a config file.
 * @param needs `rendering`: what only `envoy` needs (servers, envoy.listen) must be there too
 * @throws ConfigError that names every mistake with its line
 */
export async function loadConfig(file: string, needs: 'names' | 'rendering' = 'names'): Promise<Config> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw new ConfigError(file, [{ line: null, message: whyUnreadable(error) }]);
  }
  return parseConfig(text, file, needs);
}

/** {@link loadConfig} for a text already read; `file` is only for messages. */
export function parseConfig(text: string, file: string, needs: 'names' | 'rendering' = 'names'): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const lineOf = (offset: number): number => lines.linePos(offset).line;

  if (document.errors.length > 0) {
    throw new ConfigError(
      file,
      document.errors.map((error) => ({ line: lineOf(error.pos[0]), message: `not valid YAML: ${firstLine(error)}` })),
    );
  }
  const value: unknown = toPlain(document, file);
  if (!isMap(document.contents)) {
    throw new ConfigError(file, [{ line: 1, message: 'must be a YAML mapping that starts with site: NAME' }]);
  }

  const result = configSchema.safeParse(value, { reportInput: true });
  const problems = result.success
    ? needs === 'rendering'
      ? missingForRendering(result.data)
      : []
    : result.error.issues.flatMap(describeIssue);
  if (!result.success || problems.length > 0) {
    throw new ConfigError(
      file,
      problems
        .map(({ path, message }) => ({
          line: lineOf(offsetOf(document, path)),
          message: `${path.length === 0 ? 'the file' : formatPath(path)}: ${message}`,
        }))
        .sort((a, b) => a.line - b.line),
    );
  }
  return result.data;
}

type Path = readonly PropertyKey[];

interface PathProblem {
  readonly path: Path;
  readonly message: string;
}

function toPlain(document: Document, file: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    // An alias without its anchor, or a document that is nothing but aliases of aliases.
    throw new ConfigError(file, [{ line: 1, message: `not usable YAML: ${firstLine(error)}` }]);
  }
}

function missingForRendering(config: Config): PathProblem[] {
  const problems: PathProblem[] = [];
  const need = (path: Path, missing: boolean, example: string) => {
    if (missing) problems.push({ path, message: `is missing: an Envoy config needs it, such as ${example}` });
  };
  need(['local_pool', 'servers'], config.localPool.servers.length === 0, '[127.0.0.1:3001]');
  config.remotePools.forEach((pool, index) => {
    need(['remote_pools', index, 'servers'], pool.servers.length === 0, '[west.example.com:443]');
  });
  need(['envoy', 'listen'], config.envoy.listen === null, '0.0.0.0:8080');
  return problems;
}

function describeIssue(issue: z.core.$ZodIssue): PathProblem[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...issue.path, key], message: issue.message }));
  }
  return [{ path: issue.path, message: `${quoteInput(issue)}${describeProblem(issue)}` }];
}

/** The value as written, where it is short enough to help. */
function quoteInput(issue: z.core.$ZodIssue): string {
  const { input } = issue;
  if (typeof input === 'string' || typeof input === 'number' || typeof input === 'boolean') {
    const quoted = JSON.stringify(input);
    return quoted.length > 60 ? `${quoted.slice(0, 57)}…" ` : `${quoted} `;
  }
  return '';
}

function describeProblem(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid input')) {
    return issue.input === undefined
      ? `is missing: it must be ${nameOfType(issue.expected)}`
      : `must be ${nameOfType(issue.expected)}`;
  }
  if (issue.code === 'invalid_value') {
    return issue.message.startsWith('Invalid') ? `must be one of ${issue.values.join(', ')}` : issue.message;
  }
  return issue.message;
}

function nameOfType(expected: string): string {
  switch (expected) {
    case 'object':
      return 'a mapping';
    case 'array':
      return 'a list';
    case 'string':
      return 'text';
    case 'boolean':
      return 'true or false';
    case 'int':
    case 'number':
      return 'a whole number';
    default:
      return expected;
  }
}

/** `remote_pools[0].cookie.name` */
function formatPath(path: Path): string {
  return path
    .map((key, index) => (typeof key === 'number' ? `[${key}]` : `${index > 0 ? '.' : ''}${String(key)}`))
    .join('');
}

/** Where the deepest part of the path that the file has begins: its key, or the list's item. */
function offsetOf(document: Document, path: Path): number {
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

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? '';
}

function whyUnreadable(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  switch (code) {
    case 'ENOENT':
      return 'no such file: name the config file with --config FILE';
    case 'EACCES':
      return 'no permission to read it';
    case 'EISDIR':
      return 'is a directory: name a YAML file';
    default:
      return `cannot be read: ${firstLine(error)}`;
  }
}
