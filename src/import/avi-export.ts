import { isMap, isScalar, isSeq, LineCounter, parseAllDocuments, Scalar } from 'yaml';
import { readTerraform } from './terraform.ts';

/** A DataScript as an export of Avi's configuration has it. */
export interface ExportedScript {
  /** Of the DataScript set. */
  readonly name: string | null;
  /** The event that runs it; null where the export does not say it. */
  readonly event: string | null;
  readonly content: ScriptContent;
}

export type ScriptContent =
  /** `line` is the file's line in front of the script's first; null where the export has the script in one line. */
  | { readonly kind: 'lua'; readonly text: string; readonly line: number | null }
  /** The script is elsewhere; this is what the export has in its place. */
  | { readonly kind: 'reference'; readonly to: string };

/** Whether a text is JSON if it is anything: no Lua script begins so. */
export function looksLikeJson(text: string): boolean {
  return /^\s*[{[]/.test(text);
}

/** The scripts in Avi's JSON: one object, a list, an API's answer or a whole configuration. @throws SyntaxError */
export function readJsonExport(text: string): ExportedScript[] {
  return [...scriptsIn(JSON.parse(text))];
}

/** The scripts in a text that is no Lua: Terraform's or Ansible's. Empty where it is neither. */
export function readCodeExport(text: string): ExportedScript[] {
  if (/\bdatascript\s*(=\s*\[\s*)?\{/.test(text)) return readTerraform(text);
  return /^[\s-]*["']?datascript["']?\s*:/m.test(text) ? readAnsible(text) : [];
}

/** Where in the export a value stands. */
interface Context {
  /** The nearest name around it. */
  readonly name: string | null;
  readonly isDatascript: boolean;
}

function* scriptsIn(root: unknown): Generator<ExportedScript> {
  // Not recursive: a file nested thousands of levels deep must not end the search.
  const pending: { value: unknown; context: Context }[] = [
    { value: root, context: { name: null, isDatascript: false } },
  ];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { value, context } = next;
    if (Array.isArray(value)) {
      for (const each of value.toReversed()) pending.push({ value: each, context });
    } else if (typeof value === 'object' && value !== null) {
      const fields = new Map<string, unknown>(Object.entries(value));
      const event = textOf(fields.get('evt'));
      const script = textOf(fields.get('script'));
      const name = textOf(fields.get('name')) ?? context.name;
      if (script !== null && (event !== null || context.isDatascript)) {
        yield { name, event, content: jsonContent(script) };
      }
      for (const [key, each] of [...fields].toReversed()) {
        pending.push({ value: each, context: { name, isDatascript: key === 'datascript' } });
      }
    }
  }
}

/** Terraform's JSON has an expression in a text of its own. */
function jsonContent(text: string): ScriptContent {
  const expression = /^\s*\$\{(.*)\}\s*$/s.exec(text)?.[1];
  return expression === undefined ? { kind: 'lua', text, line: null } : { kind: 'reference', to: expression.trim() };
}

function readAnsible(text: string): ExportedScript[] {
  const lines = new LineCounter();
  try {
    const documents = parseAllDocuments(text, { lineCounter: lines, logLevel: 'silent' });
    if (!Array.isArray(documents) || documents.some(({ errors }) => errors.length > 0)) return [];
    return documents.flatMap(({ contents }) => [
      ...yamlScriptsIn(contents, { name: null, isDatascript: false }, (offset) => lines.linePos(offset).line),
    ]);
  } catch {
    // The parser gives up on what is nested thousands of levels deep: that is no playbook.
    return [];
  }
}

function* yamlScriptsIn(
  node: unknown,
  context: Context,
  lineAt: (offset: number) => number,
): Generator<ExportedScript> {
  if (isSeq(node)) {
    for (const item of node.items) yield* yamlScriptsIn(item, context, lineAt);
  } else if (isMap(node)) {
    const event = textOf(node.get('evt'));
    const script = node.get('script', true);
    const name = textOf(node.get('name')) ?? context.name;
    if (isScalar(script) && (event !== null || context.isDatascript)) {
      yield { name, event, content: yamlContent(script, lineAt) };
    }
    for (const { key, value } of node.items) {
      const isDatascript = isScalar(key) && key.value === 'datascript';
      if (isDatascript && isScalar(value)) yield { name, event: null, content: yamlContent(value, lineAt) };
      yield* yamlScriptsIn(value, { name, isDatascript }, lineAt);
    }
  }
}

function yamlContent({ value, type, range }: Scalar, lineAt: (offset: number) => number): ScriptContent {
  const text = String(value);
  if (/^\s*\{\{.*\}\}\s*$/s.test(text)) return { kind: 'reference', to: text.trim() };
  const line = type === Scalar.BLOCK_LITERAL && range ? lineAt(range[0]) : null;
  return { kind: 'lua', text, line };
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
