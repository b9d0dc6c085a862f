import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { BUILD, ROOT } from '../bench/paths.ts';
import { describeMachine } from '../bench/tools.ts';
import { DEFAULT_ENVOY_VERSION } from '../lab/envoy-binary.ts';
import { stopAllProcesses } from '../lab/managed-process.ts';
import { formatEdits, soakEdits } from './edits.ts';
import { writePlots } from './plots.ts';
import { formatReport } from './report.ts';
import { soak } from './soak.ts';
import { judge } from './verdict.ts';

/** So long a run is one whose figures are kept in the repository. */
const WHOLE_RUN_MINUTES = 10;

interface Options {
  readonly minutes: number;
  readonly seed: number;
  /** The Node that runs the sidecars. */
  readonly node: string;
  readonly fastPath: boolean;
  /** Instead of what is killed and restarted: edits of the config files. */
  readonly edits: boolean;
  readonly out: string;
}

/** @throws CommanderError for wrong use, after it was said */
function parseOptions(argv: readonly string[]): Options {
  const command = new Command('npm run soak --')
    .description(
      'Two sites under steady load while things are killed and restarted: memory, event loop, lost requests.',
    )
    .argument('[minutes]', 'how long', positive, WHOLE_RUN_MINUTES)
    .option('--seed <n>', 'decides the order of what is done, so that two runs do the same', positive, 1)
    .option('--node <path>', 'the Node that runs the sidecars', process.execPath)
    .option('--asked', 'every request asks the sidecar', false)
    .option('--edits', 'instead: the config files are edited at random, and Envoy follows', false)
    .option('--out <file>', 'where the results go (default: in soak/ for a whole run, else in build/)')
    .exitOverride()
    .parse([...argv], { from: 'user' });
  const { seed, node, asked, edits, out } = command.opts<{
    seed: number;
    node: string;
    asked: boolean;
    edits: boolean;
    out?: string;
  }>();
  const [given]: unknown[] = command.processedArgs;
  const minutes = typeof given === 'number' ? given : WHOLE_RUN_MINUTES;
  const isWhole = minutes >= WHOLE_RUN_MINUTES && !asked && !edits;
  const directory = isWhole ? `${ROOT}soak` : `${BUILD}/soak-results`;
  return {
    minutes,
    seed,
    node,
    fastPath: !asked,
    edits,
    out: out ?? `${directory}/${edits ? 'edits' : 'results'}.json`,
  };
}

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('It must be a number above 0.');
  return value;
}

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());

/** Rejects at Ctrl-C: what still runs then is ended, whatever it was about to do. */
async function aborted(): Promise<never> {
  return await new Promise((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(new Error('stopped')));
  });
}

function say(line: string): void {
  if (!stop.signal.aborted) process.stderr.write(`${new Date().toTimeString().slice(0, 8)} ${line}\n`);
}

async function main({ minutes, seed, node, fastPath, edits, out }: Options): Promise<number> {
  if (edits) {
    const report = await soakEdits({ minutes, seed, node, fastPath, say });
    process.stdout.write(`\n${formatEdits(report)}`);
    await mkdir(dirname(out), { recursive: true });
    await writeFile(out, `${JSON.stringify(report)}\n`);
    return report.problems.length === 0 ? 0 : 1;
  }
  const { stdout: nodeVersion } = await promisify(execFile)(node, ['--version']);
  const seen = await soak({ minutes, seed, node, fastPath, say });
  const results = {
    date: new Date().toISOString(),
    machine: describeMachine(),
    versions: { envoy: DEFAULT_ENVOY_VERSION, node: nodeVersion.trim() },
    ...seen,
  };
  const verdict = judge(results);
  process.stdout.write(`\n${formatReport(results, verdict)}`);
  await mkdir(dirname(out), { recursive: true });
  await writeFile(out, `${JSON.stringify(results)}\n`);
  const plots = join(dirname(out), 'plots');
  await writePlots(results, plots);
  say(`the results are in ${out}, drawn in ${plots}`);
  return verdict.problems.length === 0 ? 0 : 1;
}

async function run(): Promise<number> {
  try {
    return await Promise.race([main(parseOptions(process.argv.slice(2))), aborted()]);
  } catch (error) {
    // Commander has said what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (stop.signal.aborted) return 130;
    process.stderr.write(`soak: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return 1;
  } finally {
    await stopAllProcesses();
  }
}

process.exit(await run());
