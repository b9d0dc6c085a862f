import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ManagedProcess } from '../lab/managed-process.ts';

export interface LoadOptions {
  readonly url: string;
  readonly connections: number;
  /** All of them are answered before the load ends: none is broken off, so Envoy's counts agree to the last one. */
  readonly requests: number;
  /** As fast as they are answered where it is left out. */
  readonly requestsPerSecond?: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Where the log of the single requests is kept for a moment. */
  readonly directory: string;
}

export interface LoadReport {
  readonly requests: number;
  readonly seconds: number;
  readonly requestsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
}

/**
 * Lets h2load ask over HTTP/1.1. The percentiles are exact: they are of its log of each
 * single request.
 * @throws Error when a request was not answered with 2xx
 */
export async function runLoad(options: LoadOptions): Promise<LoadReport> {
  const logFile = join(options.directory, 'requests.log');
  await rm(logFile, { force: true });
  const headers = Object.entries(options.headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const h2load = new ManagedProcess({
    name: 'h2load',
    command: 'h2load',
    args: [
      ...['--h1', '-t', '1', '-c', String(options.connections), '-n', String(options.requests)],
      ...(options.requestsPerSecond === undefined
        ? []
        : ['--rps', String(options.requestsPerSecond / options.connections)]),
      ...[`--log-file=${logFile}`, ...headers, options.url],
    ],
  });
  const { code } = await h2load.ended;
  const output = h2load.lines.join('\n');
  const succeeded = Number(/(\d+) succeeded/.exec(output)?.[1] ?? 0);
  const good = Number(/status codes: (\d+) 2xx/.exec(output)?.[1] ?? 0);
  if (code !== 0 || succeeded !== options.requests || good !== options.requests) {
    throw h2load.failure(`had ${good} of ${options.requests} requests to ${options.url} answered with 2xx`);
  }
  const { seconds, timesUs } = parseLog(await readFile(logFile, 'latin1'));
  await rm(logFile, { force: true });
  return {
    requests: options.requests,
    seconds,
    requestsPerSecond: options.requests / seconds,
    p50Us: percentile(timesUs, 0.5),
    p99Us: percentile(timesUs, 0.99),
    maxUs: timesUs.at(-1) ?? 0,
  };
}

/** Each line: when the request began, in microseconds since 1970, its status, and how long it took in microseconds. */
function parseLog(log: string): { readonly seconds: number; readonly timesUs: Float64Array } {
  const lines = log.trimEnd().split('\n');
  const timesUs = new Float64Array(lines.length);
  let firstUs = Number.POSITIVE_INFINITY;
  let lastUs = 0;
  lines.forEach((line, index) => {
    const [start, , time] = line.split('\t').map(Number);
    timesUs[index] = time ?? 0;
    firstUs = Math.min(firstUs, start ?? 0);
    lastUs = Math.max(lastUs, (start ?? 0) + (time ?? 0));
  });
  return { seconds: (lastUs - firstUs) / 1e6, timesUs: timesUs.sort() };
}

/** @param sorted from the least to the greatest */
export function percentile(sorted: Float64Array, part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * part) - 1)] ?? 0;
}
