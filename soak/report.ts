import { formatTable } from '../bench/table.ts';
import type { Results } from './results.ts';
import { CHURN } from './schedule.ts';
import { median, type Verdict } from './verdict.ts';

/** The tables, for a terminal and for a page of Markdown. */
export function formatReport(results: Results, { growth, lost, problems }: Verdict): string {
  const { requests, minutes, losses, slowerThan100Ms } = results;
  const flat = formatTable(
    ['sidecar, never restarted', 'MB in 2nd quarter', 'MB in last', 'open files', 'in last'],
    growth.map(({ name, rssMb, files }) => [name, ...rssMb.map((mb) => mb.toFixed(1)), ...files.map(String)]),
  );
  const delays = results.sidecars.flatMap(({ samples }) => samples.flatMap(({ loopDelayMs }) => loopDelayMs ?? []));
  const churn = formatTable(
    ['what', 'times', 'lost', 'most by one client', 'allowed'],
    lost.map(({ kind, events, lost: count, mostByOneClient, allowedByOneClient }) => [
      kind === 'peace' ? 'peace, before the first event' : CHURN[kind].what,
      ...[events, count, mostByOneClient, allowedByOneClient].map(String),
    ]),
  );
  return [
    `${requests} requests in ${minutes} min, ${losses.length} lost, ${slowerThan100Ms} took over 100 ms`,
    `longest event-loop delay of each second: median ${median(delays)} ms, highest ${Math.max(0, ...delays)} ms`,
    '',
    flat,
    '',
    churn,
    '',
    problems.length === 0 ? 'memory is flat, and nothing was lost beyond what is allowed' : problems.join('\n'),
    '',
  ].join('\n');
}
