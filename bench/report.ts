import type { ComparisonResult, ContestantResult, Results } from './results.ts';
import { formatTable } from './table.ts';

/** The results as Markdown tables, with the ratios that matter. */
export function formatReport(results: Results): string {
  const sections = [formatVersions(results)];
  if (results.comparison !== undefined) sections.push(...formatComparison(results.comparison));
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
      return [
        [
          label,
          best.requestsPerSecond.toFixed(0),
          ratio(best.requestsPerSecond, plain),
          ms(best.p50Us),
          ms(best.p99Us),
          ratio(best.p99Us, go?.p99Us),
          best.proxyCpuUs.toFixed(0),
          best.sidecarCpuUs === 0 ? '' : best.sidecarCpuUs.toFixed(0),
          best.sidecarCpuUs === 0 ? '' : ratio(best.sidecarCpuUs, go?.sidecarCpuUs),
          best.proxyRssMb.toFixed(0),
          best.sidecarRssMb === 0 ? '' : best.sidecarRssMb.toFixed(0),
          best.askedShare === 0 ? '' : `${(best.askedShare * 100).toFixed(0)} %`,
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
