import { type ExportedScript, looksLikeJson, readCodeExport, readJsonExport } from './avi-export.ts';
import { NotLua, readLuaScript } from './lua-script.ts';
import { findOriginalSettings, type OriginalSettings } from './original-settings.ts';

export interface ImportedScript {
  readonly settings: OriginalSettings;
  /** Of the DataScript set in an export; null where nothing names the script. */
  readonly name: string | null;
  /** The script whose own lines are counted, because an export has it in one line; null where they are the file's. */
  readonly linesOf: string | null;
}

export type Imported =
  /** An export can have several scripts of the original rules, in its own order. */
  | { readonly kind: 'original'; readonly scripts: readonly [ImportedScript, ...ImportedScript[]] }
  /** A script of other rules. `why` follows the file's name. */
  | { readonly kind: 'other'; readonly why: string }
  /** No script that could be read. `why` follows the file's name. */
  | { readonly kind: 'unreadable'; readonly why: string };

const NAMELESS = 'without a name';

interface Candidate {
  readonly name: string | null;
  /** With blank lines in front where that lets its lines count as the file's. */
  readonly text: string;
  readonly hasFileLines: boolean;
}

/** Reads a DataScript, or an export of Avi's configuration that holds it. */
export function importText(text: string): Imported {
  if (looksLikeJson(text)) {
    try {
      return choose(readJsonExport(text));
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return { kind: 'unreadable', why: `is neither a Lua script nor JSON: ${oneLine(error.message)}` };
    }
  }
  const settings = readSettings(text);
  const isOriginal = !(settings instanceof NotLua) && !('lacks' in settings);
  // Terraform's blocks can happen to be Lua as well: calls with a table.
  const exported = isOriginal ? [] : readCodeExport(text);
  if (exported.length > 0) return choose(exported);
  return settings instanceof NotLua
    ? { kind: 'unreadable', why: `is not a Lua script: ${oneLine(settings.message)}` }
    : judge(settings);
}

function readSettings(text: string) {
  try {
    return findOriginalSettings(readLuaScript(text));
  } catch (error) {
    if (error instanceof NotLua) return error;
    throw error;
  }
}

function judge(settings: Exclude<ReturnType<typeof readSettings>, NotLua>): Imported {
  return 'lacks' in settings
    ? notOriginal(`it ${settings.lacks}`)
    : { kind: 'original', scripts: [{ settings, name: null, linesOf: null }] };
}

function notOriginal(why: string): Imported {
  return { kind: 'other', why: `this is not the site-persistence script: ${why}` };
}

/** The scripts of an export that have the original rules. */
function choose(exported: readonly ExportedScript[]): Imported {
  const requests = exported.filter(({ event }) => event === null || /HTTP_REQ$/i.test(event));
  const [reference] = requests.flatMap(({ content }) => (content.kind === 'reference' ? oneLine(content.to) : []));
  const candidates = candidatesOf(requests);
  const [first] = candidates;
  if (first === undefined) {
    if (reference !== undefined) {
      return { kind: 'unreadable', why: `has no script in it but ${reference}: import the file that this refers to` };
    }
    return notOriginal(exported.length === 0 ? 'it has no DataScript' : 'it has no DataScript of the event HTTP_REQ');
  }

  const read = candidates.map((candidate) => ({ ...candidate, settings: readSettings(candidate.text) }));
  const [original, ...others] = read.flatMap(({ settings, name, hasFileLines }): ImportedScript[] =>
    settings instanceof NotLua || 'lacks' in settings
      ? []
      : [{ settings, name, linesOf: hasFileLines ? null : (name ?? NAMELESS) }],
  );
  if (original !== undefined) return { kind: 'original', scripts: [original, ...others] };
  if (candidates.length > 1 || reference !== undefined) {
    const elsewhere = reference === undefined ? '' : `; if it is ${reference}, import the file that this refers to`;
    return { kind: 'other', why: `none of these is the site-persistence script: ${names(candidates)}${elsewhere}` };
  }
  const [settings] = read.map((each) => each.settings);
  return settings === undefined || settings instanceof NotLua
    ? { kind: 'unreadable', why: `has a script that is not Lua: ${oneLine(settings?.message ?? '')}` }
    : judge(settings);
}

/** Each text once: an export of a whole configuration has the same script in many sets. */
function candidatesOf(exported: readonly ExportedScript[]): Candidate[] {
  const candidates = new Map<string, Candidate>();
  for (const { content, name } of exported) {
    if (content.kind !== 'lua' || candidates.has(content.text)) continue;
    candidates.set(content.text, {
      name: name === null ? null : oneLine(name),
      text: `${'\n'.repeat(content.line ?? 0)}${content.text}`,
      hasFileLines: content.line !== null,
    });
  }
  return [...candidates.values()];
}

function names(candidates: readonly Candidate[]): string {
  return candidates.map(({ name }) => JSON.stringify(name ?? NAMELESS)).join(', ');
}

/** An error is one line, whatever the file has. */
function oneLine(text: string): string {
  return text.replace(/[\s\p{Cc}]+/gu, ' ').trim();
}
