import type { ExportedScript, ScriptContent } from './avi-export.ts';

/** What of Terraform's language matters here; all else is passed over. */
const TOKEN = new RegExp(
  [
    '#.*|//.*|/\\*[\\s\\S]*?\\*/',
    'resource\\s+"avi_vsdatascriptset"\\s+"(?<label>[^"]*)"',
    '(?<block>\\bdatascript\\s*(?:=\\s*\\[\\s*)?\\{)',
    '(?<key>\\w+)\\s*=\\s*(?<call>(?:\\w+\\s*\\(\\s*)*)(?:<<-?(?<marker>\\w+)[ \\t]*\\r?\\n|"(?<text>(?:\\\\.|[^"\\\\])*)"|(?<other>[a-z][\\w.-]*\\b(?!\\s*\\()))',
    '"(?:\\\\.|[^"\\\\])*"',
  ].join('|'),
  'g',
);

interface Entry {
  name: string | null;
  event: string | null;
  content: ScriptContent | null;
}

/**
 * The scripts of the `datascript` blocks in a Terraform file, and texts that such a block may refer to (a heredoc among
 * the locals). A scan, not a parser: it knows strings, heredocs and comments.
 */
export function readTerraform(source: string): ExportedScript[] {
  const entries: Entry[] = [];
  let name: string | null = null;
  let current: Entry | null = null;
  const start = (): Entry => {
    const entry: Entry = { name, event: null, content: null };
    entries.push(entry);
    return entry;
  };

  TOKEN.lastIndex = 0;
  for (let token = TOKEN.exec(source); token !== null; token = TOKEN.exec(source)) {
    const { label, block, key, call, marker, text, other } = token.groups ?? {};
    if (label !== undefined) name = label;
    if (block !== undefined) current = start();
    if (key === undefined) continue;
    const heredoc = marker === undefined ? null : readHeredoc(source, TOKEN.lastIndex, marker);
    if (heredoc !== null) TOKEN.lastIndex = heredoc.end;
    if (key === 'evt') {
      if (current === null || current.event !== null) current = start();
      current.event = text ?? other ?? null;
    } else if (key === 'script' || heredoc !== null) {
      if (current === null || current.content !== null) current = start();
      current.content = contentOf({ call: call ?? '', heredoc, text, other });
      if (key !== 'script') current = null;
    }
  }
  return entries.flatMap(({ content, ...rest }) => (content === null ? [] : { ...rest, content }));
}

interface Heredoc {
  readonly body: string;
  readonly line: number;
  readonly end: number;
}

function readHeredoc(source: string, start: number, marker: string): Heredoc | null {
  const closing = new RegExp(`^[ \\t]*${marker}[ \\t]*$`, 'm').exec(source.slice(start));
  if (closing === null) return null;
  const end = start + closing.index;
  return {
    body: source.slice(start, end),
    line: source.slice(0, start).split('\n').length - 1,
    end: end + closing[0].length,
  };
}

function contentOf(value: {
  readonly call: string;
  readonly heredoc: Heredoc | null;
  readonly text: string | undefined;
  readonly other: string | undefined;
}): ScriptContent {
  if (value.heredoc !== null) {
    return { kind: 'lua', text: unescapeTemplate(value.heredoc.body), line: value.heredoc.line };
  }
  const { call, text, other } = value;
  if (text === undefined) return { kind: 'reference', to: other ?? '?' };
  if (!/^((trimspace|chomp)\s*\(\s*)*$/.test(call)) return { kind: 'reference', to: `${call.trim()}"${text}")` };
  return { kind: 'lua', text: unescapeTemplate(unescapeString(text)), line: null };
}

function unescapeString(text: string): string {
  const plain: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };
  return text.replace(/\\(?:u([\da-fA-F]{4})|U([\da-fA-F]{8})|([\s\S]))/g, (_, short, long, char) => {
    const code = Number.parseInt(String(short ?? long ?? ''), 16);
    if (!Number.isNaN(code)) return code > 0x10ffff ? '\ufffd' : String.fromCodePoint(code);
    return plain[String(char)] ?? String(char);
  });
}

/** Terraform's way to write `${` and `%{` as they are. */
function unescapeTemplate(text: string): string {
  return text.replaceAll('$${', '${').replaceAll('%%{', '%{');
}
