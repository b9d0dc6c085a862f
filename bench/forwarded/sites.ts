import { waitUntil } from '../../lab/wait-until.ts';
import { patchYaml, startTwoSites, type TwoSites, WEST_COOKIE } from '../../test/support/two-sites.ts';
import type { Bench } from '../bench.ts';
import { type Bootstrap, logToNowhere } from '../bootstrap.ts';
import { newSession } from '../correctness.ts';
import { readStats } from '../edge.ts';
import { type LoadReport, runLoad } from '../load.ts';
import { browserHeaders, pidsOf, readDecisions } from '../measure.ts';
import { readUsage } from '../process-usage.ts';

/** One run: what a request of west's session costs that came to east. CPU is in microseconds for each, of both sites together. */
export interface ForwardedRun extends LoadReport {
  readonly envoysCpuUs: number;
  readonly sidecarsCpuUs: number;
  readonly cpuUs: number;
  /** How many for each request, with those of the health checks by the other site. */
  readonly decisionsEast: number;
  readonly decisionsWest: number;
  /** Requests that asked and went on without an answer, at both. */
  readonly skipped: number;
}

export interface ForwardingSites {
  /** Lets so many requests of one session go from east to west. */
  measure(requests: number): Promise<ForwardedRun>;
  close(): Promise<void>;
}

const CONNECTIONS = 32;

/** Starts two sites with one sidecar each and the servers of the bench, and makes sure that east forwards. */
export async function startForwardingSites(
  bench: Bench,
  { fastPath }: { readonly fastPath: boolean },
): Promise<ForwardingSites> {
  const sites = await startTwoSites({
    fastPath,
    concurrency: bench.workers,
    node: bench.tools.node,
    configure(file) {
      file.local_pool.servers = bench.application.local;
    },
    patchBootstrap: patchYaml<Bootstrap>(logToNowhere),
  });
  await waitUntilOverHttp2(sites);
  const { east, west } = sites;
  const session = await newSession({ name: 'west', url: west.url }, WEST_COOKIE);
  const headers = browserHeaders(session);
  await expectForwarded(east.url, headers);
  const envoys = pidsOf(sites.sites.flatMap(({ envoy }) => envoy ?? []));
  const sidecars = pidsOf(sites.sites.map((site) => site.sidecar()));

  return {
    async measure(requests) {
      const read = async () => ({
        envoys: (await readUsage(envoys)).cpuMs,
        sidecars: (await readUsage(sidecars)).cpuMs,
        east: await readDecisions(east),
        west: await readDecisions(west),
      });
      const before = await read();
      const { directory } = bench;
      const report = await runLoad({ url: `${east.url}/`, connections: CONNECTIONS, requests, headers, directory });
      const after = await read();
      const startedEast = after.east.started - before.east.started;
      const startedWest = after.west.started - before.west.started;
      const answeredEast = after.east.answered - before.east.answered;
      const answeredWest = after.west.answered - before.west.answered;
      const envoysCpuUs = ((after.envoys - before.envoys) * 1_000) / requests;
      const sidecarsCpuUs = ((after.sidecars - before.sidecars) * 1_000) / requests;
      return {
        ...report,
        ...{ envoysCpuUs, sidecarsCpuUs, cpuUs: envoysCpuUs + sidecarsCpuUs },
        ...{ decisionsEast: startedEast / requests, decisionsWest: startedWest / requests },
        skipped: startedEast + startedWest - answeredEast - answeredWest,
      };
    },
    close: () => sites.close(),
  };
}

/** As sites do that know each other: the check that finds out whether the other speaks HTTP/2 may come 10 s after a start. */
async function waitUntilOverHttp2({ sites }: TwoSites): Promise<void> {
  const healthy = 'cluster.remote_pool_http2.membership_healthy';
  for (const { name, adminUrl } of sites) {
    await waitUntil(async () => (await readStats(adminUrl, [healthy]))(healthy) === 1, {
      what: `${name} to reach the other site by HTTP/2`,
    });
  }
}

async function expectForwarded(url: string, headers: Readonly<Record<string, string>>): Promise<void> {
  const answer = await fetch(url, { headers });
  await answer.arrayBuffer();
  const hop = answer.headers.get('x-seen-hop');
  if (hop !== 'east')
    throw new Error(`a session of west was not forwarded by east: the hop header is ${hop ?? 'missing'}`);
}
