import type { Bench } from './bench.ts';
import type { Contestant } from './contestants.ts';
import { newSession } from './correctness.ts';
import { readStats } from './edge.ts';
import { type LoadReport, runLoad } from './load.ts';
import { readUsage } from './process-usage.ts';

/** Whose session the requests are of: this site's, or the other's. */
export type Session = 'own' | 'other';

/** One run of the load generator against one contestant. CPU is in microseconds for each request. */
export interface Run extends LoadReport {
  readonly proxyCpuUs: number;
  readonly sidecarCpuUs: number;
  /** The highest seen under the load. */
  readonly proxyRssMb: number;
  readonly sidecarRssMb: number;
  /** Requests whose decision the sidecar was asked for. */
  readonly asked: number;
  /** Requests that asked and went on without an answer. */
  readonly skipped: number;
}

const RSS_SAMPLE_MS = 250;

/** What a browser sends. */
export const BROWSER_HEADERS = {
  'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
  'accept-language': 'en-US,en;q=0.5',
  'accept-encoding': 'gzip, deflate, br',
};
const APPLICATION_COOKIES = 'theme=dark; consent=yes; _ga=GA1.1.1032571337.1718000000';

/** The headers of a browser, with the application's cookies before that of the session. */
export function browserHeaders(sessionCookie: string): Record<string, string> {
  return { ...BROWSER_HEADERS, cookie: `${APPLICATION_COOKIES}; ${sessionCookie}` };
}

/** The headers of a client that has a session. */
export async function sessionHeaders(contestant: Contestant, session: Session): Promise<Record<string, string>> {
  const cookie = session === 'own' ? await newSession(contestant) : 'DDVHSLLQ=MTAuMC4wLjE6ODA';
  return browserHeaders(cookie);
}

/** Loads a contestant and measures what it used meanwhile. */
export async function measure(
  bench: Bench,
  contestant: Contestant,
  load: { readonly session: Session; readonly connections: number; readonly requests: number },
): Promise<Run> {
  const headers = await sessionHeaders(contestant, load.session);
  const proxy = pidsOf([contestant.proxy]);
  const sidecars = pidsOf(contestant.sidecars);
  const rss = { proxy: 0, sidecar: 0 };
  const sampleRss = async () => {
    rss.proxy = Math.max(rss.proxy, (await readUsage(proxy)).rssBytes);
    rss.sidecar = Math.max(rss.sidecar, (await readUsage(sidecars)).rssBytes);
  };
  const decisionsBefore = await readDecisions(contestant);
  const proxyBefore = await readUsage(proxy);
  const sidecarBefore = await readUsage(sidecars);
  const sampling = setInterval(() => void sampleRss(), RSS_SAMPLE_MS);
  const { connections, requests } = load;
  const { directory } = bench;
  const report = await runLoad({ url: contestant.url, connections, requests, headers, directory }).finally(() =>
    clearInterval(sampling),
  );
  const proxyAfter = await readUsage(proxy);
  const sidecarAfter = await readUsage(sidecars);
  await sampleRss();
  const decisions = await readDecisions(contestant);
  const asked = decisions.started - decisionsBefore.started;
  return {
    ...report,
    proxyCpuUs: ((proxyAfter.cpuMs - proxyBefore.cpuMs) * 1_000) / report.requests,
    sidecarCpuUs: ((sidecarAfter.cpuMs - sidecarBefore.cpuMs) * 1_000) / report.requests,
    proxyRssMb: rss.proxy / 1e6,
    sidecarRssMb: rss.sidecar / 1e6,
    asked,
    skipped: asked - (decisions.answered - decisionsBefore.answered),
  };
}

/** @throws Error when one of them has ended */
export function pidsOf(processes: Contestant['sidecars']): number[] {
  return processes.map((child) => {
    if (child.hasEnded || child.pid === undefined) throw child.failure('has ended');
    return child.pid;
  });
}

const STARTED = 'http.edge.ext_proc.streams_started';
const ANSWERED = 'http.edge.ext_proc.stream_msgs_received';

/** Each stream is one request; a load whose answers expire no cookie gets one message for each. */
export async function readDecisions({
  adminUrl,
}: Pick<Contestant, 'adminUrl'>): Promise<{ readonly started: number; readonly answered: number }> {
  if (adminUrl === null) return { started: 0, answered: 0 };
  const stat = await readStats(adminUrl, [STARTED, ANSWERED]);
  return { started: stat(STARTED), answered: stat(ANSWERED) };
}
