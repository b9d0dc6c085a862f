import { stringify } from 'yaml';

/** `unchecked`: it could not be seen; the text says why. */
export type Mark = 'ok' | 'warn' | 'wrong' | 'unchecked';

/** What to do about a finding. */
export interface Fix {
  /** Where the lines go, or what they are: `in cluster local_pool:`. */
  readonly where: string;
  /** Lines to paste. */
  readonly lines: string;
}

/** What a check says. The text is one line. */
export interface Verdict {
  readonly mark: Mark;
  readonly text: string;
  readonly fix: Fix | null;
}

/** What a check says of what it looks at: a verdict or several. */
export type Said = Verdict | readonly Verdict[];

export interface Finding extends Verdict {
  readonly group: string;
  readonly check: string;
}

export function ok(text: string): Verdict {
  return { mark: 'ok', text, fix: null };
}

export function warn(text: string, fix: Fix | null = null): Verdict {
  return { mark: 'warn', text, fix };
}

/** Something is wrong; so there is something to do about it. */
export function wrong(text: string, fix: Fix): Verdict {
  return { mark: 'wrong', text, fix };
}

export function unchecked(text: string): Verdict {
  return { mark: 'unchecked', text, fix: null };
}

/** Lines of YAML to paste. */
export function yaml(where: string, config: unknown): Fix {
  return { where, lines: stringify(config, { lineWidth: 0, aliasDuplicateObjects: false }).trimEnd() };
}

/** A command to run, or something to do by hand. */
export function steps(where: string, ...lines: readonly string[]): Fix {
  return { where, lines: lines.join('\n') };
}
