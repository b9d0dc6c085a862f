import { Command, InvalidArgumentError } from 'commander';
import { NODE_ARGS } from '../lab/site-processes.ts';
import { CONTESTANTS } from './contestants.ts';
import type { Session } from './measure.ts';

export const PARTS_OF_RUN = ['compare', 'throughput', 'polls', 'memory'] as const;
export type Part = (typeof PARTS_OF_RUN)[number];

export interface Options {
  readonly quick: boolean;
  /** Profiles the sidecar instead of everything else. */
  readonly profile: boolean;
  readonly parts: readonly Part[];
  /** Names of contestants. */
  readonly only: readonly string[];
  readonly rounds: number;
  readonly seconds: number;
  /** After which memory is judged. */
  readonly decisions: number;
  readonly workers: number;
  /** As users run it; the whole run has none, to compare what decides alone. */
  readonly accessLog: boolean;
  readonly session: Session;
  readonly node: string;
  readonly nodeArgs: readonly string[];
  readonly baseline: string | null;
  readonly out: string | null;
}

const QUICK = { rounds: 1, seconds: 0.3, decisions: 2_000 };
const FULL = { rounds: 5, seconds: 5, decisions: 1_000_000 };

/** @throws CommanderError for wrong use, after it was said */
export function parseOptions(argv: readonly string[]): Options {
  const names = CONTESTANTS.map(({ name }) => name);
  const command = new Command('npm run bench --')
    .description('Measures site-persistence beside what else does its job, and writes tables, JSON and plots.')
    .option('--quick', 'a short run that shows that everything works; its figures mean nothing', false)
    .option('--profile', 'say where the CPU of the sidecar goes under load, and nothing else', false)
    .option('--parts <parts>', `what to run: ${PARTS_OF_RUN.join(', ')}`, listOf(PARTS_OF_RUN), [...PARTS_OF_RUN])
    .option('--only <names>', `contestants: ${names.join(', ')}`, listOf(names), names)
    .option('--rounds <n>', `measurements of each, of which the best counts (default: ${FULL.rounds})`, wholeNumber)
    .option('--seconds <s>', `how long a measurement takes (default: ${FULL.seconds})`, positive)
    .option('--decisions <n>', `after which memory is judged (default: ${FULL.decisions})`, wholeNumber)
    .option('--workers <n>', "the proxy's workers", wholeNumber, 1)
    .option('--access-log', 'with the access log that users have, written to /dev/null', false)
    .option('--session <whose>', 'sessions of this site (own) or of the other (other)', oneOf(['own', 'other']), 'own')
    .option('--node <path>', 'the Node that runs the sidecar', process.execPath)
    .option('--node-args <flags>', 'flags for that Node, such as "--max-semi-space-size=8"', words, [...NODE_ARGS])
    .option('--baseline <main.js>', 'another build of site-persistence as one more contestant')
    .option(
      '--out <file>',
      'where the results go (default: bench/results.json for a whole run, else build/results.json)',
    )
    .exitOverride()
    .parse([...argv], { from: 'user' });
  const given = command.opts<{
    quick: boolean;
    profile: boolean;
    parts: Part[];
    only: string[];
    rounds?: number;
    seconds?: number;
    decisions?: number;
    workers: number;
    accessLog: boolean;
    session: Session;
    node: string;
    nodeArgs: string[];
    baseline?: string;
    out?: string;
  }>();
  const base = given.quick ? QUICK : FULL;
  return { ...base, ...given, baseline: given.baseline ?? null, out: given.out ?? null };
}

export function listOf<T extends string>(known: readonly T[]): (text: string) => T[] {
  return (text) =>
    text.split(',').map((name) => {
      const found = known.find((each) => each === name.trim());
      if (found === undefined) throw new InvalidArgumentError(`"${name}" is not one of ${known.join(', ')}.`);
      return found;
    });
}

function oneOf<T extends string>(known: readonly T[]): (text: string) => T {
  return (text) => {
    const found = known.find((each) => each === text);
    if (found === undefined) throw new InvalidArgumentError(`It must be ${known.join(' or ')}.`);
    return found;
  };
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('It must be a whole number from 1 up.');
  return value;
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 3_600)) throw new InvalidArgumentError('It must be a number of seconds above 0.');
  return value;
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}
