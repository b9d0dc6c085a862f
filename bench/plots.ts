import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ComparisonResult, MemoryResult, PollResult, Results, ThroughputResult } from './results.ts';
import { drawBars, drawLines } from './svg.ts';

/** Of the loads that were measured this one is drawn. */
const CONNECTIONS = 32;

/** Draws whatever the results hold, one SVG file each. @returns the files' names */
export async function writePlots(results: Results, directory: string): Promise<string[]> {
  const { comparison, throughput, polls, memory } = results;
  const plots: Readonly<Record<string, string>> = {
    ...(comparison === undefined ? {} : drawComparison(comparison)),
    ...(throughput === undefined ? {} : { 'scale.svg': drawThroughput(throughput) }),
    ...(polls === undefined ? {} : { 'polls.svg': drawPolls(polls) }),
    ...(memory === undefined ? {} : { 'memory.svg': drawMemory(memory) }),
  };
  await mkdir(directory, { recursive: true });
  for (const [name, svg] of Object.entries(plots)) await writeFile(join(directory, name), svg);
  return Object.keys(plots);
}

function drawComparison({ contestants }: ComparisonResult): Record<string, string> {
  const bars = (figures: (best: ComparisonResult['contestants'][number]['loads'][number]['best']) => number[]) =>
    contestants.flatMap(({ label, loads }) => {
      const best = loads.find(({ connections }) => connections === CONNECTIONS)?.best;
      return best === undefined ? [] : [{ label, values: figures(best) }];
    });
  const under = `at ${CONNECTIONS} connections`;
  return {
    'throughput.svg': drawBars({
      title: 'Requests per second',
      subtitle: `${under}; more is better`,
      series: ['requests/s'],
      bars: bars((best) => [best.requestsPerSecond]),
      stacked: false,
      format: inThousands,
    }),
    'latency.svg': drawBars({
      title: 'Latency',
      subtitle: `ms ${under}; less is better`,
      series: ['p50', 'p99'],
      bars: bars((best) => [best.p50Us / 1_000, best.p99Us / 1_000]),
      stacked: false,
      format: (value) => value.toFixed(1),
    }),
    'cpu.svg': drawBars({
      title: 'CPU for each request',
      subtitle: `µs ${under}; less is better`,
      series: ['proxy', 'sidecar'],
      bars: bars((best) => [best.proxyCpuUs, best.sidecarCpuUs]),
      stacked: true,
      format: (value) => value.toFixed(0),
    }),
  };
}

function drawThroughput(results: readonly ThroughputResult[]): string {
  return drawBars({
    title: 'Requests per second by workers and sidecars',
    subtitle: `every request asks a sidecar, at ${CONNECTIONS} connections; more is better`,
    series: ['requests/s'],
    bars: results.map(({ workers, sidecars, best }) => ({
      label: `${workers} in Envoy, ${sidecars === 0 ? 'no decision' : `${sidecars} of sidecar`}`,
      values: [best.requestsPerSecond],
    })),
    stacked: false,
    format: inThousands,
  });
}

function drawPolls(results: readonly PollResult[]): string {
  return drawBars({
    title: 'What polling costs',
    subtitle: '% of one core at the default interval, without requests; less is better',
    series: ['sidecar', 'Envoy'],
    bars: results.map(({ hosts, otherClusters, sidecarCpuPercent, envoyCpuPercent, envoyAloneCpuPercent }) => ({
      label: `${hosts} hosts, ${otherClusters} other clusters`,
      values: [sidecarCpuPercent, Math.max(0, envoyCpuPercent - envoyAloneCpuPercent)],
    })),
    stacked: false,
    format: (value) => `${value.toFixed(1)} %`,
  });
}

function drawMemory(results: readonly MemoryResult[]): string {
  return drawLines({
    title: "The sidecar's memory",
    subtitle: `resident MB by decisions, at ${CONNECTIONS} connections; less is better`,
    lines: results.map(({ label, samples }) => ({
      label,
      points: samples.map(({ decisions, rssMb }) => [decisions, rssMb] as const),
    })),
    formatX: inThousands,
    formatY: (value) => value.toFixed(0),
  });
}

function inThousands(value: number): string {
  return value < 10_000 ? value.toFixed(0) : `${(value / 1_000).toFixed(value < 100_000 ? 1 : 0)} k`;
}
