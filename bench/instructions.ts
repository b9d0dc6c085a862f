import { Command } from 'commander';
import { NODE_ARGS } from '../lab/site-processes.ts';
import { startApplication } from './application.ts';
import type { Bench } from './bench.ts';
import { runCommand, say } from './command.ts';
import { baselineOf, CASES, type MeasuredCase } from './instructions/cases.ts';
import { type Measured, measureCase } from './instructions/measure-case.ts';
import { type CaseResult, formatInstructions, type InstructionResults, overBound } from './instructions/report.ts';
import { listOf, wholeNumber } from './options.ts';
import { BUILD, PARTS } from './paths.ts';
import { factsOfRun, writeResultsFile } from './results-file.ts';
import { findTools } from './tools.ts';

interface Options {
  readonly only: readonly string[];
  readonly runs: number;
  readonly parallel: number;
  readonly check: boolean;
  readonly out?: string;
}

function parseOptions(argv: readonly string[]): Options {
  const names = CASES.map(({ name }) => name);
  return new Command('npm run bench:instructions --')
    .description(
      "Counts the instructions that a request costs Envoy, with our decision and without it, by valgrind's callgrind.",
    )
    .option('--only <names>', `cases: ${names.join(', ')}`, listOf(names), names)
    .option('--runs <n>', 'measurements of each, of which the least counts', wholeNumber, 2)
    .option(
      '--parallel <n>',
      'how many Envoys are measured at a time; their figures do not depend on it',
      wholeNumber,
      2,
    )
    .option('--check', 'exit 1 where a case costs more than its bound', false)
    .option(
      '--out <file>',
      'where the results go (default: bench/results-instructions.json for all cases, else build/)',
    )
    .exitOverride()
    .parse([...argv], { from: 'user' })
    .opts<Options>();
}

async function main(options: Options, directory: string): Promise<number> {
  const { tools, versions } = await findTools({ node: process.execPath, needsGo: false, needsValgrind: true, say });
  const application = await startApplication(tools.haproxy);
  const bench: Bench = { tools, directory, application, workers: 1, accessLog: true, nodeArgs: NODE_ARGS, say };
  const cases = await measureCases(bench, options);
  process.stdout.write(`\n${formatInstructions(cases)}\n`);
  const { runs, parallel, only } = options;
  const out = options.out ?? `${only.length === CASES.length ? PARTS : BUILD}/results-instructions.json`;
  const results: InstructionResults = { ...factsOfRun(versions, { runs, parallel }), cases };
  await writeResultsFile(out, results);
  say(`the results are in ${out}`);
  const over = overBound(cases);
  for (const line of over) say(line);
  return options.check && over.length > 0 ? 1 : 0;
}

async function measureCases(bench: Bench, { only, runs, parallel }: Options): Promise<CaseResult[]> {
  const cases = CASES.filter(({ name }) => only.includes(name));
  const withBaselines = cases.flatMap((each) => [each, baselineOf(each)]).filter((each) => each !== null);
  // One may be the baseline of another.
  const toMeasure = [...new Map(withBaselines.map((each) => [each.name, each])).values()];
  const measured = new Map<string, Measured>();
  const measureNext = async (): Promise<void> => {
    for (let next = toMeasure.shift(); next !== undefined; next = toMeasure.shift()) {
      const result = await measureCase(bench, next, runs);
      measured.set(next.name, result);
      bench.say(`${next.label}: ${result.instructions.map(Math.round).join(', ')} instructions for a request`);
    }
  };
  await Promise.all(Array.from({ length: parallel }, measureNext));
  const found = (each: MeasuredCase): Measured => {
    const result = measured.get(each.name);
    if (result === undefined) throw new Error(`${each.name} was not measured`);
    return result;
  };
  return cases.map((each) => {
    const baseline = baselineOf(each);
    return {
      name: each.name,
      label: each.label,
      measured: found(each),
      baseline: baseline === null ? null : found(baseline),
      bound: each.bound,
    };
  });
}

await runCommand('bench:instructions', async (directory) => await main(parseOptions(process.argv.slice(2)), directory));
