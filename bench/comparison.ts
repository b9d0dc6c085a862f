import type { Bench } from './bench.ts';
import type { Contestant, ContestantKind } from './contestants.ts';
import { checkCorrectness } from './correctness.ts';
import { measure, type Run, type Session } from './measure.ts';
import { bestOf, type ComparisonResult } from './results.ts';

export interface ComparisonOptions {
  readonly kinds: readonly ContestantKind[];
  readonly rounds: number;
  /** How long each measured run takes, about. */
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly connections: readonly number[];
  readonly session: Session;
}

/** Requests of the first warm-up, from which the speed is known roughly. */
const FIRST_REQUESTS = 500;

/**
 * Starts all contestants, checks that each is right, and measures them in turns, so that what else the machine does
 * falls on all alike. Each round begins with another one.
 */
export async function compare(bench: Bench, options: ComparisonOptions): Promise<ComparisonResult> {
  const { kinds, rounds, connections } = options;
  const contestants: Contestant[] = [];
  for (const kind of kinds) {
    bench.say(`starting ${kind.label}`);
    contestants.push(await kind.start(bench));
  }
  bench.say('checking that each is right');
  await checkCorrectness(contestants, bench.application);
  try {
    const runs = new Map<string, Run[]>();
    const speeds = new Map<string, number>();
    for (let round = 0; round < rounds; round++) {
      for (const contestant of rotate(contestants, round)) {
        for (const count of connections) {
          const key = keyOf(contestant.name, count);
          const run = await warmUpAndMeasure(bench, contestant, options, count, speeds.get(key));
          speeds.set(key, run.requestsPerSecond);
          runs.set(key, [...(runs.get(key) ?? []), run]);
          bench.say(`round ${round + 1} of ${rounds}: ${contestant.name}, ${count} connections: ${describe(run)}`);
        }
      }
    }
    return {
      contestants: kinds.map(({ name, label }) => ({
        name,
        label,
        loads: connections.map((count) => {
          const ofLoad = runs.get(keyOf(name, count)) ?? [];
          return { connections: count, best: bestOf(ofLoad), runs: ofLoad };
        }),
      })),
    };
  } finally {
    for (const { proxy, sidecars } of contestants) {
      await Promise.all([proxy, ...sidecars].map((child) => child.stop()));
    }
  }
}

/** A load for about so many seconds, after one that warms up. @param speed requests per second, if known */
export async function warmUpAndMeasure(
  bench: Bench,
  contestant: Contestant,
  { seconds, warmUpSeconds, session }: Pick<ComparisonOptions, 'seconds' | 'warmUpSeconds' | 'session'>,
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

function keyOf(name: string, connections: number): string {
  return `${name} ${connections}`;
}

function describe(run: Run): string {
  return [
    `${Math.round(run.requestsPerSecond)} requests/s`,
    `p99 ${(run.p99Us / 1_000).toFixed(2)} ms`,
    `CPU ${run.proxyCpuUs.toFixed(0)} + ${run.sidecarCpuUs.toFixed(0)} µs`,
    ...(run.skipped === 0 ? [] : [`${run.skipped} SKIPPED`]),
  ].join(', ');
}
