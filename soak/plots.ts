import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { drawLines, type LineChart } from '../bench/svg.ts';
import type { Results } from './results.ts';
import type { Sample } from './sampler.ts';
import { CHURN } from './schedule.ts';

/** One SVG file for each thing that was looked at, over time, with what was done to the sites as marks. */
export async function writePlots(results: Results, directory: string): Promise<void> {
  const common = {
    marks: results.churn.map(({ kind, startMs }) => ({ x: startMs, label: CHURN[kind].letter })),
    formatX: minutesAndSeconds,
  };
  const ofSidecars = (value: (sample: Sample) => number | null): LineChart['lines'] =>
    results.sidecars.map(({ name, samples }) => ({
      label: name,
      points: samples.flatMap((sample) => {
        const y = value(sample);
        return y === null ? [] : [[sample.atMs, y] as const];
      }),
    }));
  const plots: Readonly<Record<string, LineChart>> = {
    'memory.svg': {
      ...common,
      title: "The sidecars' memory",
      subtitle: `resident MB; ${LETTERS}`,
      lines: ofSidecars(({ rssMb }) => rssMb),
      formatY: (mb) => mb.toFixed(0),
    },
    'event-loop.svg': {
      ...common,
      title: "The sidecars' event-loop delay",
      subtitle: `the longest of each second, ms; ${LETTERS}`,
      lines: ofSidecars(({ loopDelayMs }) => loopDelayMs),
      formatY: (ms) => ms.toFixed(0),
    },
    'handles.svg': {
      ...common,
      title: "The sidecars' open handles",
      subtitle: LETTERS,
      lines: ofSidecars(({ handles }) => handles),
      formatY: asCount,
    },
    'files.svg': {
      ...common,
      title: "The sidecars' open files",
      subtitle: LETTERS,
      lines: ofSidecars(({ files }) => files),
      formatY: asCount,
    },
    'lost.svg': {
      ...common,
      title: 'Lost requests',
      subtitle: `of ${results.requests}, added up; ${LETTERS}`,
      lines: [{ label: 'lost', points: lostOverTime(results) }],
      formatY: asCount,
    },
  };
  await mkdir(directory, { recursive: true });
  for (const [name, chart] of Object.entries(plots)) await writeFile(join(directory, name), drawLines(chart));
}

const LETTERS = Object.entries(CHURN)
  .map(([kind, { letter }]) => `${letter} ${kind}`)
  .join(', ');

function minutesAndSeconds(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** A line of the grid may stand between two whole numbers. */
function asCount(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}

/** As steps: flat until a loss, and then one higher. */
function lostOverTime({ losses, minutes }: Results): (readonly [x: number, y: number])[] {
  const steps = losses.flatMap(({ atMs }, index) => [[atMs, index] as const, [atMs, index + 1] as const]);
  return [[0, 0], ...steps, [minutes * 60_000, losses.length]];
}
