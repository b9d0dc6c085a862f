import { readdir, readFile } from 'node:fs/promises';
import { Scrape } from '../test/support/scrape.ts';
import type { SiteLab } from '../test/support/two-sites.ts';

const EVERY_MS = 1_000;

/** One sidecar process at one time. */
export interface Sample {
  readonly atMs: number;
  /** Of the process: another one after a restart. */
  readonly pid: number;
  readonly rssMb: number;
  /** Open files, sockets among them. */
  readonly files: number;
  /** What libuv keeps open, timers left out; null where the sidecar could not be asked. */
  readonly handles: number | null;
  /** The longest since the sample before, as Node sees it by a timer of 10 ms; null as above. */
  readonly loopDelayMs: number | null;
}

/** Of a sidecar's place: `east 0` is the same before and after a restart. */
export interface SampledSidecar {
  readonly name: string;
  readonly samples: readonly Sample[];
}

export interface Sampler {
  stop(): Promise<readonly SampledSidecar[]>;
}

/** Looks at each sidecar once a second. */
export function startSampler(sites: readonly SiteLab[], now: () => number): Sampler {
  const places = sites.flatMap((site) =>
    site.sidecars.map((_, index) => ({ site, index, name: `${site.name} ${index}`, samples: [] as Sample[] })),
  );
  let running: Promise<unknown> | null = null;
  const timer = setInterval(() => {
    // A turn that takes too long is a gap in the picture, not a crowd of scrapes.
    running ??= Promise.all(places.map(take)).finally(() => {
      running = null;
    });
  }, EVERY_MS);

  async function take({ site, index, samples }: (typeof places)[number]): Promise<void> {
    const sample = await sampleSidecar(site, index, now());
    if (sample !== null) samples.push(sample);
  }

  return {
    async stop() {
      clearInterval(timer);
      await running;
      return places.map(({ name, samples }) => ({ name, samples }));
    },
  };
}

/** @returns null while there is no such process */
async function sampleSidecar(site: SiteLab, index: number, atMs: number): Promise<Sample | null> {
  const { pid, hasEnded } = site.sidecar(index);
  if (pid === undefined || hasEnded) return null;
  const scrape = await Scrape.of(site.opsAddress(index)).catch(() => null);
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const rssKb = /^VmRSS:\s+(\d+) kB/m.exec(status)?.[1];
  const files = await readdir(`/proc/${pid}/fd`).catch(() => null);
  if (rssKb === undefined || files === null) return null;
  return {
    atMs: Math.round(atMs),
    pid,
    rssMb: Math.round(Number(rssKb) / 102.4) / 10,
    files: files.length,
    handles: scrape === null ? null : sumOf(scrape, 'nodejs_active_handles'),
    loopDelayMs: scrape === null ? null : maxLoopDelayMs(scrape),
  };
}

function sumOf(scrape: Scrape, name: string): number {
  return [...scrape.series].reduce((sum, [key, value]) => (key.startsWith(`${name}{`) ? sum + value : sum), 0);
}

function maxLoopDelayMs(scrape: Scrape): number | null {
  const seconds = scrape.series.get('nodejs_eventloop_lag_max_seconds');
  return seconds === undefined ? null : Math.round(seconds * 10_000) / 10;
}
