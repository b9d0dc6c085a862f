import { stringify } from 'yaml';

/** `unchecked`: it could not be seen; the text says why. */
export type Mark = 'ok' | 'warn' | 'wrong' | 'unchecked';

/** What to do about a finding. */
export interface Mend {
  /** Where the lines go, or what they are: `in cluster local_pool:`. */
  readonly where: string;
  /** Lines to paste. */
  readonly lines: string;
}

/** What a check says. The text is one line. */
export interface Verdict {
  readonly mark: Mark;
  readonly text: string;
  readonly mend: Mend | null;
}

export interface Finding extends Verdict {
  readonly group: string;
  readonly check: string;
}

export function ok(text: string): Verdict {
  return { mark: 'ok', text, mend: null };
}

export function warn(text: string, mend: Mend | null = null): Verdict {
  return { mark: 'warn', text, mend };
}

/** Something is wrong; so there is something to do about it. */
export function wrong(text: string, mend: Mend): Verdict {
  return { mark: 'wrong', text, mend };
}

export function unchecked(text: string): Verdict {
  return { mark: 'unchecked', text, mend: null };
}

/** Lines of YAML to paste. */
export function yaml(where: string, config: unknown): Mend {
  return { where, lines: stringify(config, { lineWidth: 0, aliasDuplicateObjects: false }).trimEnd() };
}

/** A command to run, or something to do by hand. */
export function steps(where: string, ...lines: readonly string[]): Mend {
  return { where, lines: lines.join('\n') };
}
