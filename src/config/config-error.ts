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

  constructor(file: string, found: readonly ConfigProblem[]) {
    const problems = found.map(({ line, message }) => ({ line, message: printable(message) }));
    const lines = problems.map(({ line, message }) => `${file}${line === null ? '' : `:${line}`}: ${message}`);
    super(lines.join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/** On one line, and without what a terminal would take for a command. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)?.toString(16)}}`;
  });
}
