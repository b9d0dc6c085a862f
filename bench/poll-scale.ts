import { readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ManagedProcess } from '../lab/managed-process.ts';
import { waitUntil } from '../lab/wait-until.ts';
import type { Bench } from './bench.ts';
import { type Bootstrap, logEachDecision } from './bootstrap.ts';
import { startSidecars } from './contestants.ts';
import { type Edge, readStats, startEdge } from './edge.ts';
import { createLargePools, type LargePools } from './large-pools.ts';
import { percentile, runLoad } from './load.ts';
import { pidsOf } from './measure.ts';
import { BUILD, CLI } from './paths.ts';
import { readUsage } from './process-usage.ts';
import type { DelayResult, PollResult } from './results.ts';

const SETTINGS = [
  { hosts: 10, otherClusters: 0 },
  { hosts: 1_000, otherClusters: 0 },
  { hosts: 10_000, otherClusters: 0 },
  { hosts: 10, otherClusters: 1_000 },
  { hosts: 10_000, otherClusters: 1_000 },
];

const QUICK_SETTINGS = [SETTINGS.at(0), SETTINGS.at(-1)].filter((setting) => setting !== undefined);

/** Few enough to leave everything idle in between, many enough to meet each poll. */
const REQUESTS_PER_SECOND = 400;

/** What starting up costs is no part of the poll's cost. */
const SETTLE_MS = 2_000;

export interface PollOptions {
  /** How often delays are measured; the best counts, for whatever else runs on the machine delays as well. */
  readonly rounds: number;
  readonly seconds: number;
  /** Only the least and the most, and no time to settle. */
  readonly quick: boolean;
}

/**
 * What polling Envoy costs at the default interval: CPU of a sidecar without requests, and how long decisions are
 * delayed, first while nothing changes and then while a host goes down and comes back.
 */
export async function measurePolls(bench: Bench, options: PollOptions): Promise<PollResult[]> {
  const results: PollResult[] = [];
  for (const setting of options.quick ? QUICK_SETTINGS : SETTINGS) {
    const name = `poll-${setting.hosts}-${setting.otherClusters}`;
    const pools = createLargePools(bench, name, setting);
    const logFile = join(bench.directory, `${name}.decisions`);
    const patch = async (bootstrap: Bootstrap) => {
      logEachDecision(bootstrap, logFile);
      await pools.patch(bootstrap);
    };
    const edge = await startEdge(bench, { name, cli: CLI, patch });
    await waitForHosts(edge, setting.hosts);
    const result = {
      ...setting,
      ...(await idleCost(bench, edge, options)),
      ...(await delays(bench, edge, { pools, logFile, ...options })),
    };
    await edge.envoy.stop();
    results.push(result);
    bench.say(
      `${setting.hosts} hosts, ${setting.otherClusters} other clusters: ${result.sidecarCpuPercent.toFixed(1)} % of a core`,
    );
  }
  return results;
}

async function waitForHosts(edge: Edge, hosts: number): Promise<void> {
  const names = ['cluster.local_pool.membership_healthy', 'cluster.remote_pool.membership_healthy'];
  await waitUntil(
    async () => {
      const stat = await readStats(edge.adminUrl, names);
      return names.reduce((sum, name) => sum + stat(name), 0) === hosts;
    },
    { what: `Envoy to see ${hosts} healthy hosts`, timeoutMs: 60_000 },
  );
}

async function idleCost(bench: Bench, edge: Edge, { seconds, quick }: PollOptions) {
  const watchedSeconds = seconds * 2;
  const [envoyAloneCpuPercent = 0] = await cpuPercents([pidsOf([edge.envoy])], watchedSeconds);
  const sidecars = await startSidecars(bench, edge);
  await sleep(quick ? 0 : SETTLE_MS);
  const pids = pidsOf(sidecars);
  const [sidecarCpuPercent = 0, envoyCpuPercent = 0] = await cpuPercents([pids, pidsOf([edge.envoy])], watchedSeconds);
  const { rssBytes } = await readUsage(pids);
  await Promise.all(sidecars.map((sidecar) => sidecar.stop()));
  return { sidecarCpuPercent, envoyCpuPercent, envoyAloneCpuPercent, sidecarRssMb: rssBytes / 1e6 };
}

/** Of one core, for each group of processes, over so many seconds from now. */
async function cpuPercents(groups: readonly (readonly number[])[], seconds: number): Promise<number[]> {
  const read = async () => await Promise.all(groups.map((pids) => readUsage(pids)));
  const before = await read();
  const startedAt = performance.now();
  await sleep(seconds * 1_000);
  const after = await read();
  const elapsedMs = performance.now() - startedAt;
  return after.map((usage, at) => (100 * (usage.cpuMs - (before[at]?.cpuMs ?? 0))) / elapsedMs);
}

interface DelayOptions extends PollOptions {
  readonly pools: LargePools;
  readonly logFile: string;
}

async function delays(bench: Bench, edge: Edge, options: DelayOptions) {
  const nodeArgs = ['--import', `${BUILD}/bench/loop-delay-preload.js`];
  const [sidecar] = await startSidecars(bench, edge, { nodeArgs });
  if (sidecar === undefined) throw new Error('an edge has at least one sidecar');
  await sleep(options.quick ? 0 : SETTLE_MS);
  // The sidecar's code is compiled when it is first used; that is no delay of a poll.
  await measureDelay(bench, edge, sidecar, options);
  const steady: DelayResult[] = [];
  const change: DelayResult[] = [];
  for (let round = 0; round < options.rounds; round++) {
    steady.push(await measureDelay(bench, edge, sidecar, options));
    const changing = measureDelay(bench, edge, sidecar, options);
    for (const health of ['UNHEALTHY', 'HEALTHY'] as const) {
      await sleep((options.seconds * 1_000) / 4);
      const linesBefore = sidecar.lines.length;
      await options.pools.setLastHost(health);
      const isSeen = () => sidecar.lines.slice(linesBefore).some((line) => /pool local_pool .* servers up/.test(line));
      await waitUntil(isSeen, { what: `the sidecar to see that a host is ${health}` });
    }
    change.push(await changing);
  }
  await sidecar.stop();
  return { steady, change };
}

async function measureDelay(
  bench: Bench,
  edge: Edge,
  sidecar: ManagedProcess,
  { logFile, seconds }: DelayOptions,
): Promise<DelayResult> {
  await longestLoopDelay(sidecar);
  await truncate(logFile);
  const address = bench.application.local[0] ?? '';
  await runLoad({
    url: edge.url,
    connections: 1,
    requests: Math.round(REQUESTS_PER_SECOND * seconds),
    requestsPerSecond: REQUESTS_PER_SECOND,
    // The session of the one server that there really is.
    headers: { cookie: `KVAAVROI="${Buffer.from(address).toString('base64')}"` },
    directory: bench.directory,
  });
  const loopMaxMs = await longestLoopDelay(sidecar);
  const timesUs = await readDecisionTimes(logFile, Math.round(REQUESTS_PER_SECOND * seconds));
  return { decisionP99Us: percentile(timesUs, 0.99), decisionMaxUs: timesUs.at(-1) ?? 0, loopMaxMs };
}

const LOOP_DELAY = /longest event loop delay: ([\d.]+) ms/;

async function longestLoopDelay(sidecar: ManagedProcess): Promise<number> {
  const said = () => sidecar.lines.filter((line) => LOOP_DELAY.test(line));
  const before = said().length;
  sidecar.signal('SIGUSR2');
  await waitUntil(() => said().length > before, { what: 'the sidecar to say its longest event loop delay' });
  return Number(LOOP_DELAY.exec(said().at(-1) ?? '')?.[1]);
}

/** How long each decision took, as Envoy logged it. */
async function readDecisionTimes(logFile: string, requests: number): Promise<Float64Array> {
  let lines: string[] = [];
  await waitUntil(
    async () => {
      lines = (await readFile(logFile, 'latin1')).split('\n').filter((line) => line !== '');
      return lines.length >= requests;
    },
    { what: `Envoy to log ${requests} decisions` },
  );
  return Float64Array.from(lines, readDecisionTime).sort();
}

/** Such as `rh:680:0,bs:135,br:129`: the request headers' phase took 680 µs and ended with gRPC status 0. */
function readDecisionTime(line: string): number {
  const time = /^rh:(\d+):0/.exec(line)?.[1];
  if (time === undefined) throw new Error(`a request had no decision; Envoy logged of it: ${line}`);
  return Number(time);
}
