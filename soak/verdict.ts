import type { Churn, Loss, Results } from './results.ts';
import type { Sample, SampledSidecar } from './sampler.ts';
import { CHURN, type ChurnKind } from './schedule.ts';

/** What the last quarter may have more than the second, which is the first after the warm-up. */
const GROWTH_ALLOWED = { rssMb: 8, files: 4 };
/** A shorter run is over before V8's heap has its size, and may grow so much. */
const MINUTES_TO_BE_FLAT = 5;
const GROWTH_ALLOWED_BEFORE = { rssMb: 16, files: 4 };

/** A sidecar that ran from beginning to end, by the medians of two quarters of the run. */
export interface Growth {
  readonly name: string;
  readonly rssMb: readonly [second: number, last: number];
  readonly files: readonly [second: number, last: number];
  readonly isFlat: boolean;
}

/** All events of a kind. */
export interface Lost {
  readonly kind: ChurnKind | 'peace';
  readonly events: number;
  readonly lost: number;
  /** The most that one client lost by one event. */
  readonly mostByOneClient: number;
  readonly allowedByOneClient: number;
}

export interface Verdict {
  readonly growth: readonly Growth[];
  readonly lost: readonly Lost[];
  /** Empty where all is well. */
  readonly problems: readonly string[];
}

export function judge(results: Results): Verdict {
  const growth = results.sidecars.flatMap((sidecar) => growthOf(sidecar, results.minutes));
  const lost = lossesByKind(results);
  const problems = [
    ...(growth.length > 0 ? [] : ['no sidecar ran from beginning to end']),
    ...growth.filter(({ isFlat }) => !isFlat).map(({ name }) => `sidecar ${name} is not flat`),
    ...lost
      .filter(({ mostByOneClient, allowedByOneClient }) => mostByOneClient > allowedByOneClient)
      .map(({ kind, mostByOneClient }) => `one client lost ${mostByOneClient} requests by one event: ${kind}`),
  ];
  return { growth, lost, problems };
}

/** Of a sidecar that was restarted there is nothing to say: each process starts anew. */
function growthOf({ name, samples }: SampledSidecar, minutes: number): Growth[] {
  if (new Set(samples.map(({ pid }) => pid)).size !== 1) return [];
  const quarterMs = (minutes * 60_000) / 4;
  const quarter = (index: number) => samples.filter(({ atMs }) => Math.floor(atMs / quarterMs) === index);
  const compare = (value: (sample: Sample) => number) =>
    [median(quarter(1).map(value)), median(quarter(3).map(value))] as const;
  const rssMb = compare((sample) => sample.rssMb);
  const files = compare((sample) => sample.files);
  const allowed = minutes < MINUTES_TO_BE_FLAT ? GROWTH_ALLOWED_BEFORE : GROWTH_ALLOWED;
  const isFlat = rssMb[1] - rssMb[0] <= allowed.rssMb && files[1] - files[0] <= allowed.files;
  return [{ name, rssMb, files, isFlat }];
}

/** A loss belongs to the last event that had begun; before the first there is peace. */
function lossesByKind({ churn, losses }: Results): Lost[] {
  const lossesOf = (event: Churn | undefined) =>
    losses.filter(({ atMs }) => churn.findLast(({ startMs }) => startMs <= atMs) === event);
  const summarise = (kind: Lost['kind'], events: readonly (Churn | undefined)[], allowedByOneClient: number): Lost => {
    const lost = events.map(lossesOf);
    const mostByOneClient = Math.max(...lost.map(mostOfOneClient));
    return { kind, events: events.length, lost: lost.flat().length, mostByOneClient, allowedByOneClient };
  };
  const kinds = [...new Set(churn.map(({ kind }) => kind))];
  return [
    summarise('peace', [undefined], 0),
    ...kinds.map((kind) => {
      const events = churn.filter((event) => event.kind === kind);
      // In flight at a kill; a client has one request at a time.
      return summarise(kind, events, CHURN[kind].mayLose ? 1 : 0);
    }),
  ];
}

function mostOfOneClient(losses: readonly Loss[]): number {
  const counts = new Map<number, number>();
  for (const { client } of losses) counts.set(client, (counts.get(client) ?? 0) + 1);
  return Math.max(0, ...counts.values());
}

/** @returns NaN of nothing, with which no comparison holds */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
