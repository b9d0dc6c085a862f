import type { SampledSidecar } from './sampler.ts';
import type { ChurnEvent } from './schedule.ts';

/** What a run saw; what `results.json` holds. */
export interface Results {
  readonly date: string;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly minutes: number;
  readonly seed: number;
  readonly fastPath: boolean;
  readonly clients: number;
  readonly requests: number;
  readonly slowerThan100Ms: number;
  readonly churn: readonly Churn[];
  /** In the order in which they were lost. */
  readonly losses: readonly Loss[];
  readonly sidecars: readonly SampledSidecar[];
}

/** An event of the schedule as it came to pass. */
export interface Churn extends Omit<ChurnEvent, 'atMs'> {
  readonly startMs: number;
  /** When both sites were whole again. */
  readonly endMs: number;
}

/** A request without an answer, or with another than a 200. */
export interface Loss {
  readonly atMs: number;
  readonly client: number;
  readonly reason: string;
}
