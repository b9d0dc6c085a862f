import { Command } from 'commander';
import { NODE_ARGS } from '../lab/site-processes.ts';
import { startApplication } from './application.ts';
import type { Bench } from './bench.ts';
import { runCommand, say } from './command.ts';
import { type ForwardedRun, type ForwardingSites, startForwardingSites } from './forwarded/sites.ts';
import { wholeNumber } from './options.ts';
import { BUILD, PARTS } from './paths.ts';
import { factsOfRun, type RunFacts, writeResultsFile } from './results-file.ts';
import { formatTable } from './table.ts';
import { findTools } from './tools.ts';

interface Options {
  readonly rounds: number;
  readonly requests: number;
  readonly out?: string;
}

/** What bench/results-forwarded.json holds. */
interface ForwardedResults extends RunFacts {
  readonly ways: readonly WayResult[];
}

interface WayResult {
  readonly name: string;
  readonly fastPath: boolean;
  /** The run that took the least CPU. */
  readonly best: ForwardedRun;
  readonly runs: readonly ForwardedRun[];
}

interface Way {
  readonly name: string;
  readonly fastPath: boolean;
  readonly sites: ForwardingSites;
  readonly runs: ForwardedRun[];
}

const FULL = { rounds: 5, requests: 20_000 };

function parseOptions(argv: readonly string[]): Options {
  return new Command('npm run bench:forwarded --')
    .description(
      'Measures the CPU of two sites for a request that one forwards to the other, without the fast path and with it.',
    )
    .option('--rounds <n>', 'measurements of each, of which the best counts', wholeNumber, FULL.rounds)
    .option('--requests <n>', 'requests of each measurement', wholeNumber, FULL.requests)
    .option('--out <file>', 'where the results go (default: bench/results-forwarded.json for a whole run, else build/)')
    .exitOverride()
    .parse([...argv], { from: 'user' })
    .opts<Options>();
}

async function main(options: Options, directory: string): Promise<number> {
  const { rounds, requests } = options;
  const { tools, versions } = await findTools({ node: process.execPath, needsGo: false, say });
  const application = await startApplication(tools.haproxy);
  const bench: Bench = { tools, directory, application, workers: 1, accessLog: true, nodeArgs: NODE_ARGS, say };
  const ways = await measureWays(bench, options);
  process.stdout.write(`${formatWays(ways)}\n`);
  const isWhole = rounds >= FULL.rounds && requests >= FULL.requests;
  const out = options.out ?? `${isWhole ? PARTS : BUILD}/results-forwarded.json`;
  const results: ForwardedResults = { ...factsOfRun(versions, { rounds, requests }), ways };
  await writeResultsFile(out, results);
  say(`the results are in ${out}`);
  return 0;
}

/** In turns, so that what else the machine does falls on both alike. */
async function measureWays(bench: Bench, { rounds, requests }: Options): Promise<WayResult[]> {
  const ways: Way[] = [];
  for (const fastPath of [false, true]) {
    const name = `fast_path: ${fastPath}`;
    bench.say(`starting two sites with ${name}`);
    const sites = await startForwardingSites(bench, { fastPath });
    await sites.measure(requests);
    ways.push({ name, fastPath, sites, runs: [] });
  }
  for (let round = 1; round <= rounds; round++) {
    for (const { name, sites, runs } of round % 2 === 1 ? ways : ways.toReversed()) {
      const run = await sites.measure(requests);
      runs.push(run);
      bench.say(`round ${round} of ${rounds}: ${name}: ${run.cpuUs.toFixed(0)} µs of CPU for a request`);
    }
  }
  await Promise.all(ways.map(({ sites }) => sites.close()));
  return ways.map(({ name, fastPath, runs }) => ({ name, fastPath, best: leastCpu(runs), runs }));
}

function leastCpu(runs: readonly ForwardedRun[]): ForwardedRun {
  return runs.reduce((best, run) => (run.cpuUs < best.cpuUs ? run : best));
}

function formatWays(ways: readonly WayResult[]): string {
  const without = ways.find(({ fastPath }) => !fastPath)?.best.cpuUs;
  const rows = ways.map(({ name, best }) => [
    name,
    ...[best.cpuUs, best.envoysCpuUs, best.sidecarsCpuUs].map((us) => us.toFixed(0)),
    without === undefined ? '' : (best.cpuUs / without).toFixed(2),
    ...[best.decisionsEast, best.decisionsWest].map((decisions) => decisions.toFixed(2)),
    String(best.skipped),
    best.requestsPerSecond.toFixed(0),
  ]);
  const head = [
    'forwarded',
    'CPU µs',
    'Envoys',
    'sidecars',
    'ratio',
    'decisions in east',
    'in west',
    'skipped',
    'requests/s',
  ];
  return formatTable(head, rows);
}

await runCommand('bench:forwarded', async (directory) => await main(parseOptions(process.argv.slice(2)), directory));
