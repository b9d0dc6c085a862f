import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { CommanderError } from 'commander';
import { stopAllProcesses } from '../lab/managed-process.ts';
import { startApplication } from './application.ts';
import type { Bench } from './bench.ts';
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
import { measureThroughputScale } from './throughput-scale.ts';
import { describeMachine, findTools, MissingTool } from './tools.ts';

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());

async function main(options: Options, directory: string): Promise<number> {
  const { tools, versions } = await findTools({ node: options.node, needsGo: needsGo(options), say });
  const { workers, nodeArgs } = options;
  const application = await startApplication(tools.haproxy);
  const bench: Bench = { tools, directory, application, workers, nodeArgs, say };
  if (options.profile) {
    process.stdout.write(`${await profileSidecar(bench, turnOptions(options))}\n`);
    return 0;
  }
  const results: Results = {
    date: new Date().toISOString(),
    machine: describeMachine(),
    versions,
    options: shownOptions(options),
  };
  await runParts(bench, options, results);
  process.stdout.write(`\n${formatReport(results)}`);
  await writeResults(options, results);
  return 0;
}

async function writeResults(options: Options, results: Results): Promise<void> {
  const out = options.out ?? (isWhole(options) ? `${PARTS}/results.json` : `${BUILD}/results.json`);
  await mkdir(dirname(out), { recursive: true });
  await writeFile(out, `${JSON.stringify(results, null, 2)}\n`);
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

function isWhole({ quick, parts, only, baseline }: Options): boolean {
  return !quick && baseline === null && parts.length === PARTS_OF_RUN.length && only.length === CONTESTANTS.length;
}

function shownOptions({
  rounds,
  seconds,
  decisions,
  workers,
  session,
  nodeArgs,
  quick,
}: Options): Record<string, unknown> {
  return { rounds, seconds, decisions, workers, session, nodeArgs, quick };
}

/** Rejects at Ctrl-C: what still runs then is ended, whatever it was about to do. */
async function aborted(): Promise<never> {
  return await new Promise((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(new Error('stopped')));
  });
}

function say(line: string): void {
  if (!stop.signal.aborted) process.stderr.write(`${new Date().toTimeString().slice(0, 8)} ${line}\n`);
}

async function run(): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-bench-'));
  try {
    return await Promise.race([main(parseOptions(process.argv.slice(2)), directory), aborted()]);
  } catch (error) {
    // Commander has said what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (stop.signal.aborted) return 130;
    process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
    return error instanceof MissingTool ? 2 : 1;
  } finally {
    await stopAllProcesses();
    await rm(directory, { recursive: true, force: true });
  }
}

process.exit(await run());
