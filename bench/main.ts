import { dirname, join } from 'node:path';
import { startApplication } from './application.ts';
import type { Bench } from './bench.ts';
import { runCommand, say } from './command.ts';
import { compare } from './comparison.ts';
import { baselineKind, CONTESTANTS } from './contestants.ts';
import { measureMemory } from './memory.ts';
import { type Options, PARTS_OF_RUN, parseOptions } from './options.ts';
import { BUILD, PARTS } from './paths.ts';
import { writePlots } from './plots.ts';
import { measurePolls } from './poll-scale.ts';
import { profileSidecar } from './profile.ts';
import { formatReport } from './report.ts';
import type { Results } from './results.ts';
import { factsOfRun, writeResultsFile } from './results-file.ts';
import { measureThroughputScale } from './throughput-scale.ts';
import { findTools } from './tools.ts';

async function main(options: Options, directory: string): Promise<number> {
  const { tools, versions } = await findTools({ node: options.node, needsGo: needsGo(options), say });
  const { workers, accessLog, nodeArgs } = options;
  const application = await startApplication(tools.haproxy);
  const bench: Bench = { tools, directory, application, workers, accessLog, nodeArgs, say };
  if (options.profile) {
    process.stdout.write(`${await profileSidecar(bench, turnOptions(options))}\n`);
    return 0;
  }
  const results: Results = factsOfRun(versions, shownOptions(options));
  await runParts(bench, options, results);
  process.stdout.write(`\n${formatReport(results)}`);
  await writeResults(options, results);
  return 0;
}

async function writeResults(options: Options, results: Results): Promise<void> {
  const out = options.out ?? (isWhole(options) ? `${PARTS}/results.json` : `${BUILD}/results.json`);
  await writeResultsFile(out, results);
  const plots = join(dirname(out), 'plots');
  await writePlots(results, plots);
  say(`the results are in ${out}, drawn in ${plots}`);
}

function needsGo({ only, parts, profile }: Options): boolean {
  return !profile && only.includes('go') && (parts.includes('compare') || parts.includes('memory'));
}

function turnOptions({ seconds, session, quick }: Options) {
  return { seconds, session, warmUpSeconds: quick ? 0.2 : 1.5 };
}

async function runParts(bench: Bench, options: Options, results: Results): Promise<void> {
  const { rounds, seconds, parts, only, baseline, decisions, quick } = options;
  const kinds = CONTESTANTS.filter(({ name }) => only.includes(name));
  if (baseline !== null) kinds.push(baselineKind(baseline));
  const turns = { rounds, ...turnOptions(options) };
  if (parts.includes('compare')) {
    results.comparison = await compare(bench, { ...turns, kinds, connections: [32, 1] });
  }
  if (parts.includes('throughput')) results.throughput = await measureThroughputScale(bench, turns);
  if (parts.includes('polls'))
    results.polls = await measurePolls(bench, { rounds: Math.min(rounds, 3), seconds, quick });
  if (parts.includes('memory')) {
    const withSidecar = kinds.filter(({ name }) => ['go', 'asked', 'baseline'].includes(name));
    results.memory = await measureMemory(bench, withSidecar, decisions);
  }
}

function isWhole({ quick, parts, only, baseline, accessLog }: Options): boolean {
  return (
    !quick &&
    !accessLog &&
    baseline === null &&
    parts.length === PARTS_OF_RUN.length &&
    only.length === CONTESTANTS.length
  );
}

function shownOptions({
  rounds,
  seconds,
  decisions,
  workers,
  accessLog,
  session,
  nodeArgs,
  quick,
}: Options): Record<string, unknown> {
  return { rounds, seconds, decisions, workers, accessLog, session, nodeArgs, quick };
}

await runCommand('bench', async (directory) => await main(parseOptions(process.argv.slice(2)), directory));
