import type { Facts } from '../facts.ts';
import type { Said } from '../finding.ts';

/** One thing to look at. It says at least one line, whatever it finds. */
export interface Check {
  readonly name: string;
  readonly run: (facts: Facts) => Said;
}

export interface CheckGroup {
  readonly name: string;
  readonly checks: readonly Check[];
}
