import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Bench } from './bench.ts';
import { stopContestants, type TurnOptions, warmUpAndMeasure } from './comparison.ts';
import { startOurs } from './contestants.ts';
import { formatTable } from './table.ts';

const CONNECTIONS = 32;
const FUNCTIONS_SHOWN = 30;

const profileSchema = z.object({
  nodes: z.array(
    z.object({
      id: z.number(),
      callFrame: z.object({ functionName: z.string(), url: z.string(), lineNumber: z.number() }),
    }),
  ),
  /** Of the same clock as `process.hrtime()`, in microseconds. */
  startTime: z.number(),
  samples: z.array(z.number()),
  timeDeltas: z.array(z.number()),
});

type Profile = z.infer<typeof profileSchema>;

/** Where a sidecar's CPU goes under load, as tables: by who wrote the code, and by function. */
export async function profileSidecar(
  bench: Bench,
  options: Omit<TurnOptions, 'connections' | 'rounds'>,
): Promise<string> {
  const directory = join(bench.directory, 'profile');
  const nodeArgs = ['--cpu-prof', `--cpu-prof-dir=${directory}`];
  const contestant = await startOurs(bench, { name: 'profiled', nodeArgs });
  const run = await warmUpAndMeasure(bench, contestant, options, CONNECTIONS);
  const toUs = Number(process.hrtime.bigint() / 1_000n);
  const fromUs = toUs - run.seconds * 1e6;
  // The profile is written when the process ends.
  await stopContestants([contestant]);
  const [file] = await readdir(directory);
  if (file === undefined) throw new Error('the sidecar wrote no profile');
  const profile = profileSchema.parse(JSON.parse(await readFile(join(directory, file), 'utf8')));
  const selfUs = selfTimes(profile, fromUs, toUs);
  const named = profile.nodes.map((node) => ({ ...node.callFrame, us: selfUs.get(node.id) ?? 0 }));
  const busy = named.filter(({ functionName }) => functionName !== '(idle)');
  const totalUs = busy.reduce((sum, { us }) => sum + us, 0);
  const share = (us: number) => [
    `${((100 * us) / totalUs).toFixed(1)} %`,
    ((run.sidecarCpuUs * us) / totalUs).toFixed(2),
  ];
  const table = (what: string, sums: ReadonlyMap<string, number>, most: number) => {
    const rows = [...sums]
      .filter(([, us]) => us > 0)
      .sort(([, a], [, b]) => b - a)
      .slice(0, most);
    return formatTable(
      [what, 'of the time', 'µs per decision'],
      rows.map(([name, us]) => [name, ...share(us)]),
    );
  };
  return [
    `${run.requestsPerSecond.toFixed(0)} requests/s, ${run.sidecarCpuUs.toFixed(1)} µs of CPU per decision while profiled`,
    table('whose code', sumBy(busy, ownerOf), Number.POSITIVE_INFINITY),
    table('function', sumBy(busy, describe), FUNCTIONS_SHOWN),
  ].join('\n\n');
}

type Frame = Profile['nodes'][number]['callFrame'] & { readonly us: number };

/** Microseconds by node, of the samples of that time. A sample lasts until the next one. */
function selfTimes({ startTime, samples, timeDeltas }: Profile, fromUs: number, toUs: number): Map<number, number> {
  const selfUs = new Map<number, number>();
  let atUs = startTime;
  samples.forEach((id, at) => {
    atUs += timeDeltas[at] ?? 0;
    if (atUs >= fromUs && atUs <= toUs) selfUs.set(id, (selfUs.get(id) ?? 0) + (timeDeltas[at + 1] ?? 0));
  });
  return selfUs;
}

function sumBy(frames: readonly Frame[], keyOf: (frame: Frame) => string): Map<string, number> {
  const sums = new Map<string, number>();
  for (const frame of frames) sums.set(keyOf(frame), (sums.get(keyOf(frame)) ?? 0) + frame.us);
  return sums;
}

/** The package, the module of Node, or this project. */
function ownerOf({ url, functionName }: Frame): string {
  const dependency = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1];
  if (dependency !== undefined) return dependency;
  if (url.startsWith('node:internal/http2') || url === 'node:http2') return 'node:http2';
  if (/^node:(internal\/)?streams?/.test(url)) return 'node:stream';
  if (url.startsWith('node:')) return 'the rest of Node';
  if (url.includes('/dist/')) return 'site-persistence';
  if (functionName === '(garbage collector)') return 'garbage collection';
  return "V8's and Node's native code";
}

function describe({ functionName, url, lineNumber }: Frame): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  return `${name} ${url.replace(/^.*\/(node_modules|dist)\//, '')}:${lineNumber + 1}`;
}
