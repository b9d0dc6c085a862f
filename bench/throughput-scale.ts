import type { Bench } from './bench.ts';
import { measureInTurns, stopContestants, type TurnOptions } from './comparison.ts';
import { type Contestant, startOurs, startPlainEnvoy } from './contestants.ts';
import type { ThroughputResult } from './results.ts';

const CONNECTIONS = 32;
const COUNTS = [1, 2];

/** How much more is served with more workers in Envoy and more sidecars beside it, and by Envoy without a sidecar. */
export async function measureThroughputScale(
  bench: Bench,
  options: Omit<TurnOptions, 'connections'>,
): Promise<ThroughputResult[]> {
  const settings = COUNTS.flatMap((workers) => [0, ...COUNTS].map((sidecars) => ({ workers, sidecars })));
  const contestants: Contestant[] = [];
  for (const { workers, sidecars } of settings) {
    const name = `workers-${workers}-sidecars-${sidecars}`;
    const started =
      sidecars === 0
        ? startPlainEnvoy(bench, { name, workers })
        : startOurs(bench, { name, workers, sidecarCount: sidecars });
    contestants.push(await started);
  }
  const loads = await measureInTurns(bench, contestants, { ...options, connections: [CONNECTIONS] });
  await stopContestants(contestants);
  return settings.flatMap((setting, at) => (loads[at] ?? []).map((load) => ({ ...setting, ...load })));
}
