import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HopCertificates } from '../test/support/hop-certificates.ts';
import { Load } from '../test/support/load.ts';
import { type LabOptions, startTwoSites, type TwoSites } from '../test/support/two-sites.ts';
import { perform } from './churn.ts';
import type { Churn, Loss, Results } from './results.ts';
import { startSampler } from './sampler.ts';
import { CHURN, scheduleChurn } from './schedule.ts';

const CLIENTS = 16;
/** Leaves two cores time for the Envoys, the sidecars and the servers: the load is to be steady, not the most there can be. */
const PAUSE_MS = 30;

export interface SoakOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly node: string;
  readonly fastPath: boolean;
  readonly say: (line: string) => void;
}

/** Two sites of two sidecars each, under load, while one thing after another is done to them. */
export async function soak({
  minutes,
  seed,
  node,
  fastPath,
  say,
}: SoakOptions): Promise<Omit<Results, 'date' | 'machine' | 'versions'>> {
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-soak-'));
  let lab: TwoSites | undefined;
  try {
    const certificates = await HopCertificates.create(directory);
    const configure: LabOptions['configure'] = (file, site) => certificates.configure(file, site);
    lab = await startTwoSites({ sidecars: 2, node, fastPath, configure });
    const startedAt = performance.now();
    const now = () => performance.now() - startedAt;
    const edges = lab.sites.map((site) => site.url);
    const losses: Loss[] = [];
    const load = await Load.start({
      clients: CLIENTS,
      homes: [...edges],
      edges,
      pauseMs: PAUSE_MS,
      onLoss: (client, reason) => losses.push({ atMs: Math.round(now()), client, reason }),
    });
    const sampler = startSampler(lab.sites, now);
    const churn: Churn[] = [];
    for (const { atMs, kind, site } of scheduleChurn({ minutes, seed })) {
      await sleep(Math.max(0, atMs - now()));
      const startMs = Math.round(now());
      const lostBefore = load.lost;
      await perform(kind, { lab, certificates, edges }, site);
      churn.push({ kind, site, startMs, endMs: Math.round(now()) });
      say(`${site}: ${CHURN[kind].what}: ${load.lost - lostBefore} lost of ${load.requests} so far`);
    }
    await sleep(Math.max(0, minutes * 60_000 - now()));
    const sidecars = await sampler.stop();
    const { requests, slowerThan100Ms } = await load.stop();
    return { minutes, seed, fastPath, clients: CLIENTS, requests, slowerThan100Ms, churn, losses, sidecars };
  } finally {
    await lab?.close();
    await rm(directory, { recursive: true, force: true });
  }
}
