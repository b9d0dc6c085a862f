import type {
  ComparisonResult,
  ContestantResult,
  DelayResult,
  MemoryResult,
  PollResult,
  Results,
  ThroughputResult,
} from './results.ts';
import { formatTable } from './table.ts';

/** The results as Markdown tables, with the ratios that matter. */
export function formatReport(results: Results): string {
  const sections = [formatVersions(results)];
  if (results.comparison !== undefined) sections.push(...formatComparison(results.comparison));
  if (results.throughput !== undefined) sections.push(formatThroughput(results.throughput));
  if (results.polls !== undefined) sections.push(formatPolls(results.polls));
  if (results.memory !== undefined) sections.push(formatMemory(results.memory));
  return `${sections.join('\n\n')}\n`;
}

function formatVersions({ machine, versions, options }: Results): string {
  const pairs = (record: Readonly<Record<string, unknown>>) =>
    Object.entries(record)
      .map(([name, value]) => `${name} ${String(value)}`)
      .join('; ');
  return `machine: ${pairs(machine)}\nversions: ${pairs(versions)}\noptions: ${pairs(options)}`;
}

function formatComparison({ contestants }: ComparisonResult): string[] {
  const counts = contestants[0]?.loads.map(({ connections }) => connections) ?? [];
  return counts.map((connections) => {
    const plain = figure(contestants, 'plain', connections)?.requestsPerSecond;
    const go = figure(contestants, 'go', connections);
    const rows = contestants.flatMap(({ name, label }) => {
      const best = figure(contestants, name, connections);
      if (best === undefined) return [];
      const hasSidecar = best.sidecarRssMb > 0;
      return [
        [
          label,
          best.requestsPerSecond.toFixed(0),
          ratio(best.requestsPerSecond, plain),
          ms(best.p50Us),
          ms(best.p99Us),
          ratio(best.p99Us, go?.p99Us),
          best.proxyCpuUs.toFixed(0),
          hasSidecar ? best.sidecarCpuUs.toFixed(0) : '',
          hasSidecar ? ratio(best.sidecarCpuUs, go?.sidecarCpuUs) : '',
          best.proxyRssMb.toFixed(0),
          hasSidecar ? best.sidecarRssMb.toFixed(0) : '',
          hasSidecar ? `${(best.askedShare * 100).toFixed(0)} %` : '',
          String(best.skipped),
        ],
      ];
    });
    const head = [
      `${connections} connection${connections === 1 ? '' : 's'}`,
      ...['requests/s', 'of plain', 'p50 ms', 'p99 ms', 'of Go', 'proxy CPU µs', 'sidecar CPU µs', 'of Go'],
      ...['proxy MB', 'sidecar MB', 'asked', 'skipped'],
    ];
    return formatTable(head, rows);
  });
}

function formatThroughput(results: readonly ThroughputResult[]): string {
  const rows = results.map(({ workers, sidecars, connections, best }) => [
    `${workers} worker${workers === 1 ? '' : 's'}, ${sidecars === 0 ? 'no decision' : `${sidecars} sidecar${sidecars === 1 ? '' : 's'}`}`,
    String(connections),
    best.requestsPerSecond.toFixed(0),
    ms(best.p50Us),
    ms(best.p99Us),
    best.proxyCpuUs.toFixed(0),
    best.sidecarCpuUs.toFixed(0),
    String(best.skipped),
  ]);
  const head = ['Envoy', 'connections', 'requests/s', 'p50 ms', 'p99 ms', 'proxy CPU µs', 'sidecar CPU µs', 'skipped'];
  return formatTable(head, rows);
}

function formatPolls(results: readonly PollResult[]): string {
  const rows = results.map((result) => [
    `${result.hosts} hosts, ${result.otherClusters} other clusters`,
    percent(result.sidecarCpuPercent),
    percent(result.envoyCpuPercent),
    percent(result.envoyAloneCpuPercent),
    result.sidecarRssMb.toFixed(0),
    span(result.steady, ({ decisionMaxUs }) => decisionMaxUs / 1_000),
    span(result.steady, ({ loopMaxMs }) => loopMaxMs),
    span(result.change, ({ decisionMaxUs }) => decisionMaxUs / 1_000),
    span(result.change, ({ loopMaxMs }) => loopMaxMs),
  ]);
  const head = [
    ...['polling', 'sidecar CPU', 'Envoy CPU', 'Envoy CPU without polls', 'sidecar MB'],
    ...['longest decision ms', 'longest loop delay ms', 'at a change: decision ms', 'loop delay ms'],
  ];
  return formatTable(head, rows);
}

/** The lowest and the highest of the rounds: noise of the machine is in the highest. */
function span(rounds: readonly DelayResult[], figureOf: (round: DelayResult) => number): string {
  const figures = rounds.map(figureOf);
  return `${Math.min(...figures).toFixed(1)} to ${Math.max(...figures).toFixed(1)}`;
}

function formatMemory(results: readonly MemoryResult[]): string {
  const rows = results.map((result) => [
    `${result.label}, ${result.decisions} decisions`,
    result.peakMb.toFixed(0),
    result.atTargetMb.toFixed(0),
    result.peakBeyondMb.toFixed(0),
    String(result.skipped),
  ]);
  return formatTable(['memory', 'peak MB', 'then MB', 'peak MB of half as many more', 'skipped'], rows);
}

function percent(value: number): string {
  return `${value.toFixed(1)} %`;
}

function figure(contestants: readonly ContestantResult[], name: string, connections: number) {
  const loads = contestants.find((each) => each.name === name)?.loads;
  return loads?.find((load) => load.connections === connections)?.best;
}

function ratio(value: number, base: number | undefined): string {
  return base === undefined || base === 0 ? '' : (value / base).toFixed(2);
}

function ms(us: number): string {
  return (us / 1_000).toFixed(2);
}
