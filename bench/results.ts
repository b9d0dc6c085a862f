import type { Run } from './measure.ts';

/** What bench/results.json holds; a part that was not run is left out. */
export interface Results {
  readonly date: string;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, unknown>>;
  comparison?: ComparisonResult;
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
