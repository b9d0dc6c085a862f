/** One mistake in a config file. */
export interface ConfigProblem {
  /** 1-based; null where the file could not be read at all. */
  readonly line: number | null;
  readonly message: string;
}

/** Nobody corrects more at once, and a log shall not be filled by a file that is something else altogether. */
export const MAX_MISTAKES_TOLD = 20;

/** A mistake says its key, its value and what to write instead; all of them are short where they are right. */
const MAX_MESSAGE_LENGTH = 600;

/** What is wrong with a config file, in the order of its lines: the first {@link MAX_MISTAKES_TOLD} mistakes. */
export class ConfigError extends Error {
  readonly code = 'CONFIG_INVALID';
  readonly file: string;
  readonly problems: readonly ConfigProblem[];
  /** How many mistakes there are beside the {@link problems}. */
  readonly more: number;

  /** @param more mistakes beside those that were found */
  constructor(file: string, found: readonly ConfigProblem[], more = 0) {
    const problems = found.slice(0, MAX_MISTAKES_TOLD).map(({ line, message }) => ({ line, message: told(message) }));
    const lines = problems.map(({ line, message }) => `${file}${line === null ? '' : `:${line}`}: ${message}`);
    const left = more + found.length - problems.length;
    if (left > 0) lines.push(`and ${left} more ${left === 1 ? 'error' : 'errors'}`);
    super(lines.join('\n'));
    this.name = 'ConfigError';
    this.file = file;
    this.problems = problems;
    this.more = left;
  }
}

function told(message: string): string {
  return shorten(printable(shorten(message, MAX_MESSAGE_LENGTH)), MAX_MESSAGE_LENGTH);
}

/** A text of at most so many characters, of which the end is left out. */
export function shorten(text: string, length: number): string {
  if (text.length <= length) return text;
  const kept = text.slice(0, length - 1);
  // Half of a character that takes two would be no text.
  return `${/[\ud800-\udbff]$/.test(kept) ? kept.slice(0, -1) : kept}…`;
}

/** On one line, and without what a terminal would take for a command. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)?.toString(16)}}`;
  });
}
