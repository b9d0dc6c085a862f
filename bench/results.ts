import type { Run } from './measure.ts';
import type { RunFacts } from './results-file.ts';

/** What bench/results.json holds; a part that was not run is left out. */
export interface Results extends RunFacts {
  comparison?: ComparisonResult;
  throughput?: readonly ThroughputResult[];
  polls?: readonly PollResult[];
  memory?: readonly MemoryResult[];
}

export interface ComparisonResult {
  readonly contestants: readonly ContestantResult[];
}

export interface ContestantResult {
  readonly name: string;
  readonly label: string;
  /** By number of connections. */
  readonly loads: readonly LoadResult[];
}

export interface LoadResult {
  readonly connections: number;
  readonly best: Best;
  readonly runs: readonly Run[];
}

export interface ThroughputResult extends LoadResult {
  readonly workers: number;
  /** 0: Envoy without a decision. */
  readonly sidecars: number;
}

export interface PollResult {
  /** Of both pools together. */
  readonly hosts: number;
  readonly otherClusters: number;
  /** Of one core, without any request. */
  readonly sidecarCpuPercent: number;
  readonly envoyCpuPercent: number;
  /** Before there was a sidecar that polls. */
  readonly envoyAloneCpuPercent: number;
  readonly sidecarRssMb: number;
  /** While nothing changes, round by round. */
  readonly steady: readonly DelayResult[];
  /** While a host goes down and comes back, round by round. */
  readonly change: readonly DelayResult[];
}

/** How long decisions took under a light load, as Envoy saw it, and how long the sidecar's event loop was held up. */
export interface DelayResult {
  readonly decisionP99Us: number;
  readonly decisionMaxUs: number;
  readonly loopMaxMs: number;
}

export interface MemoryResult {
  readonly name: string;
  readonly label: string;
  /** What the memory is to be judged after; the run goes on to half as many again. */
  readonly decisions: number;
  /** The highest until then, the one then, and the highest after it. */
  readonly peakMb: number;
  readonly atTargetMb: number;
  readonly peakBeyondMb: number;
  readonly skipped: number;
  readonly samples: readonly MemorySample[];
}

export interface MemorySample {
  readonly decisions: number;
  readonly rssMb: number;
}

/** Of each figure the best of all runs; of memory and of skipped decisions the worst. */
export type Best = Pick<
  Run,
  'requestsPerSecond' | 'p50Us' | 'p99Us' | 'proxyCpuUs' | 'sidecarCpuUs' | 'proxyRssMb' | 'sidecarRssMb' | 'skipped'
> & {
  /** Which part of the requests asked the sidecar. */
  readonly askedShare: number;
};

export function bestOf(runs: readonly Run[]): Best {
  const least = (key: keyof Run) => Math.min(...runs.map((run) => run[key]));
  const most = (key: keyof Run) => Math.max(...runs.map((run) => run[key]));
  return {
    requestsPerSecond: most('requestsPerSecond'),
    p50Us: least('p50Us'),
    p99Us: least('p99Us'),
    proxyCpuUs: least('proxyCpuUs'),
    sidecarCpuUs: least('sidecarCpuUs'),
    proxyRssMb: most('proxyRssMb'),
    sidecarRssMb: most('sidecarRssMb'),
    skipped: runs.reduce((sum, run) => sum + run.skipped, 0),
    askedShare: Math.max(...runs.map((run) => run.asked / run.requests)),
  };
}
