import type { Bench } from './bench.ts';
import { stopContestants } from './comparison.ts';
import type { ContestantKind } from './contestants.ts';
import { measure } from './measure.ts';
import type { MemoryResult, MemorySample } from './results.ts';

const CONNECTIONS = 32;
const SAMPLES_TO_TARGET = 20;
/** With fewer most of the time would go into starting the load. */
const MIN_REQUESTS = 1_000;
/** How far past the target is gone on, to see whether memory grows further. */
const BEYOND = 1.5;

/** The sidecar's memory up to so many decisions, and half as many again. */
export async function measureMemory(
  bench: Bench,
  kinds: readonly ContestantKind[],
  decisions: number,
): Promise<MemoryResult[]> {
  const results: MemoryResult[] = [];
  for (const { name, label, start } of kinds) {
    const contestant = await start(bench);
    const requests = Math.max(MIN_REQUESTS, Math.ceil(decisions / SAMPLES_TO_TARGET));
    const samples: MemorySample[] = [];
    let skipped = 0;
    for (let done = requests; done <= decisions * BEYOND; done += requests) {
      const run = await measure(bench, contestant, { session: 'own', connections: CONNECTIONS, requests });
      samples.push({ decisions: done, rssMb: run.sidecarRssMb });
      skipped += run.skipped;
      bench.say(`${name}: ${run.sidecarRssMb.toFixed(0)} MB at ${done} decisions`);
    }
    await stopContestants([contestant]);
    results.push({ name, label, decisions, ...summarise(samples, decisions), skipped, samples });
  }
  return results;
}

function summarise(samples: readonly MemorySample[], decisions: number) {
  const before = samples.filter((sample) => sample.decisions <= decisions);
  const most = (some: readonly MemorySample[]) => Math.max(...some.map(({ rssMb }) => rssMb));
  return {
    peakMb: most(before),
    atTargetMb: before.at(-1)?.rssMb ?? 0,
    peakBeyondMb: most(samples.slice(before.length)),
  };
}
