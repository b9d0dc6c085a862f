import type { RunFacts } from '../results-file.ts';
import { formatTable } from '../table.ts';
import type { Measured } from './measure-case.ts';

/** What bench/results-instructions.json holds. */
export interface InstructionResults extends RunFacts {
  readonly cases: readonly CaseResult[];
}

export interface CaseResult {
  readonly name: string;
  readonly label: string;
  readonly measured: Measured;
  /** The same proxy without our decision; null where that is the same. */
  readonly baseline: Measured | null;
  readonly bound: number | null;
}

/** The results as a table in Markdown. */
export function formatInstructions(results: readonly CaseResult[]): string {
  const rows = results.map((result) => {
    const { label, measured, baseline, bound } = result;
    const ratio = ratioOf(result);
    const spreads = [measured, ...(baseline === null ? [] : [baseline])].map(spreadOf);
    return [
      label,
      measured.asks === 1 ? 'asked' : '',
      count(leastOf(measured)),
      baseline === null ? '' : count(leastOf(baseline)),
      ratio === null ? '' : ratio.toFixed(3),
      bound === null ? '' : bound.toFixed(2),
      `${(100 * Math.max(...spreads)).toFixed(2)} %`,
    ];
  });
  return formatTable(['instructions', 'sidecar', 'for a request', 'baseline', 'ratio', 'bound', 'spread'], rows);
}

/** The cases that cost more than they may, each as a sentence. */
export function overBound(results: readonly CaseResult[]): string[] {
  return results.flatMap((result) => {
    const { label, bound } = result;
    const ratio = ratioOf(result);
    if (bound === null || ratio === null || ratio <= bound) return [];
    return [`${label} costs ${ratio.toFixed(3)} times its baseline, and may cost ${bound.toFixed(2)} times`];
  });
}

/** Whatever else a run counts comes on top. */
function leastOf({ instructions }: Measured): number {
  return Math.min(...instructions);
}

/** How far the runs lie apart, as a part of the least. */
function spreadOf(measured: Measured): number {
  return Math.max(...measured.instructions) / leastOf(measured) - 1;
}

function ratioOf({ measured, baseline }: CaseResult): number | null {
  return baseline === null ? null : leastOf(measured) / leastOf(baseline);
}

function count(instructions: number): string {
  return Math.round(instructions).toLocaleString('en-US');
}
