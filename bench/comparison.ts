import type { Bench } from './bench.ts';
import type { Contestant, ContestantKind } from './contestants.ts';
import { checkCorrectness } from './correctness.ts';
import { measure, type Run, type Session } from './measure.ts';
import { bestOf, type ComparisonResult, type LoadResult } from './results.ts';

export interface TurnOptions {
  readonly rounds: number;
  /** How long each measured run takes, about. */
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly connections: readonly number[];
  readonly session: Session;
}

export interface ComparisonOptions extends TurnOptions {
  readonly kinds: readonly ContestantKind[];
}

/** Requests of the first warm-up, from which the speed is known roughly. */
const FIRST_REQUESTS = 500;

/** Starts all contestants, checks that each is right, and measures them. */
export async function compare(bench: Bench, options: ComparisonOptions): Promise<ComparisonResult> {
  const contestants: Contestant[] = [];
  for (const kind of options.kinds) {
    bench.say(`starting ${kind.label}`);
    contestants.push(await kind.start(bench));
  }
  bench.say('checking that each is right');
  await checkCorrectness(contestants, bench.application);
  const loads = await measureInTurns(bench, contestants, options);
  await stopContestants(contestants);
  return {
    contestants: options.kinds.map((kind, at) => ({ name: kind.name, label: kind.label, loads: loads[at] ?? [] })),
  };
}

/**
 * Measures contestants in turns, so that what else the machine does falls on all alike. Each round begins with another
 * one.
 * @returns for each contestant its results by number of connections
 */
export async function measureInTurns(
  bench: Bench,
  contestants: readonly Contestant[],
  options: TurnOptions,
): Promise<LoadResult[][]> {
  const { rounds, connections } = options;
  const entries = contestants.map((contestant) => ({
    contestant,
    loads: connections.map((count) => ({ count, runs: [] as Run[] })),
  }));
  for (let round = 0; round < rounds; round++) {
    for (const { contestant, loads } of rotate(entries, round)) {
      for (const { count, runs } of loads) {
        const run = await warmUpAndMeasure(bench, contestant, options, count, runs.at(-1)?.requestsPerSecond);
        runs.push(run);
        bench.say(`round ${round + 1} of ${rounds}: ${contestant.name}, ${count} connections: ${describe(run)}`);
      }
    }
  }
  return entries.map(({ loads }) => loads.map(({ count, runs }) => ({ connections: count, best: bestOf(runs), runs })));
}

export async function stopContestants(contestants: readonly Contestant[]): Promise<void> {
  await Promise.all(contestants.flatMap(({ proxy, sidecars }) => [proxy, ...sidecars]).map((child) => child.stop()));
}

/** A load for about so many seconds, after one that warms up. @param speed requests per second, if known */
export async function warmUpAndMeasure(
  bench: Bench,
  contestant: Contestant,
  { seconds, warmUpSeconds, session }: Pick<TurnOptions, 'seconds' | 'warmUpSeconds' | 'session'>,
  connections: number,
  speed?: number,
): Promise<Run> {
  const load = (requestsPerSecond: number, forSeconds: number) => ({
    session,
    connections,
    requests: Math.max(connections, Math.round(requestsPerSecond * forSeconds)),
  });
  const first = speed ?? (await measure(bench, contestant, load(FIRST_REQUESTS, 1))).requestsPerSecond;
  const warm = await measure(bench, contestant, load(first, warmUpSeconds));
  return await measure(bench, contestant, load(warm.requestsPerSecond, seconds));
}

function rotate<T>(items: readonly T[], by: number): T[] {
  const start = by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}

function describe(run: Run): string {
  return [
    `${Math.round(run.requestsPerSecond)} requests/s`,
    `p99 ${(run.p99Us / 1_000).toFixed(2)} ms`,
    `CPU ${run.proxyCpuUs.toFixed(0)} + ${run.sidecarCpuUs.toFixed(0)} µs`,
    ...(run.skipped === 0 ? [] : [`${run.skipped} SKIPPED`]),
  ].join(', ');
}
