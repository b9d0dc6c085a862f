import { type Config, sitesOf } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { HttpRequestError, httpRequest } from '../envoy-admin/http-request.ts';
import { readCertificates } from '../listener/certificates.ts';
import { type SiteStateReport, siteStateSchema } from '../ops/state.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import { type OpsTarget, readState, STATE_LIMITS } from './ops.ts';

/** What a site says of itself and of the others; a text: why it says nothing. */
type View = SiteStateReport | string;

/**
 * Asks this site's sidecar and those of the other sites (`remote_pools[].ops_url`), and prints of each application who takes whom for
 * up.
 * @throws CommandFailed where they disagree, or one of them does not answer
 */
export async function statusOfAll(
  target: OpsTarget,
  applications: readonly string[],
  context: CliContext,
): Promise<void> {
  const config = await loadConfig(target.configFile);
  const unknown = applications.find((name) => !config.applications.some((each) => each.name === name));
  if (unknown !== undefined) throw new CommandFailed(`there is no application ${JSON.stringify(unknown)}`);
  const others = urlsOfOthers(config);
  const views = new Map<string, View>([
    [config.site, await readState(target)],
    ...(await Promise.all(
      [...others].map(async ([site, url]) => [site, url === null ? NO_URL : await viewOf(url, config)] as const),
    )),
  ]);
  const named = config.applications.filter(({ name }) => applications.length === 0 || applications.includes(name));
  const lines: string[] = [];
  const troubles: string[] = [];
  for (const { name, remotePools } of named) {
    const sites = sitesOf({ site: config.site, remotePools });
    if (config.applications.length > 1) lines.push(`application ${name}`);
    lines.push(...tableOf(name, sites, views));
    troubles.push(...disagreements(name, sites, views));
  }
  for (const [site, view] of views) {
    if (typeof view === 'string') troubles.push(`${site}: ${view}`);
    else if (!view.health_known)
      troubles.push(`${site}: its sidecar does not know how the pools are, for its Envoy does not say`);
  }
  context.stdout.write(`${lines.join('\n')}\n`);
  if (troubles.length > 0) throw new CommandFailed(troubles.join('\n'));
}

const NO_URL = 'not asked: its remote_pools entry has no ops_url';

/** By site, in the order of the file. */
function urlsOfOthers({ applications }: Config): ReadonlyMap<string, string | null> {
  const urls = new Map<string, string | null>();
  for (const { site, opsUrl } of applications.flatMap(({ remotePools }) => remotePools)) {
    urls.set(site, urls.get(site) ?? opsUrl);
  }
  return urls;
}

async function viewOf(opsUrl: string, { opsListenTls }: Config): Promise<View> {
  const { protocol, hostname, port } = new URL(opsUrl);
  const isTls = protocol === 'https:';
  const host = hostname.replace(/^\[|\]$/g, '');
  const address = { kind: 'tcp', host, port: Number(port) || (isTls ? 443 : 80) } as const;
  try {
    const tls = isTls ? { tls: opsListenTls === null ? {} : await asClient(opsListenTls) } : {};
    const request = { method: 'GET', path: '/api/state', ...STATE_LIMITS } as const;
    const { status, body } = await httpRequest(address, { ...request, ...tls });
    if (status !== 200) return `${opsUrl} is not a sidecar: it answered HTTP ${status}`;
    const state = siteStateSchema.safeParse(JSON.parse(body));
    return state.success ? state.data : `${opsUrl} is not a sidecar of this version`;
  } catch (error) {
    if (error instanceof HttpRequestError) return `does not answer at ${opsUrl}: ${error.message}`;
    if (error instanceof SyntaxError) return `${opsUrl} is not a sidecar`;
    throw error;
  }
}

/** The sites' ops listeners know each other: this one's certificate is shown, and one of its client CAs must have signed theirs. */
async function asClient(files: NonNullable<Config['opsListenTls']>) {
  const { cert, key, clientCa } = await readCertificates('ops_listen', files);
  return { cert, key, ca: clientCa };
}

/** `up`, `down`, `held` by an operator's order, or why none of them. */
function seen(application: string, of: string, view: View | undefined): string {
  if (view === undefined || typeof view === 'string') return '?';
  const pool = view.pools.find((each) => each.application === application && each.site === of);
  if (pool === undefined) return '-';
  if (pool.held !== null) return 'held';
  if (!pool.health_known) return 'unknown';
  const isDraining = of === view.site && view.applications.some((each) => each.name === application && each.draining);
  return `${pool.up ? 'up' : 'down'}${isDraining ? ', draining' : ''}`;
}

/** A row for each site that says something, a column for each site that something is said of. */
function tableOf(application: string, sites: readonly string[], views: ReadonlyMap<string, View>): string[] {
  const rows = [
    ['', ...sites],
    ...sites.map((by) => [`${by} says`, ...sites.map((of) => seen(application, of, views.get(by)))]),
  ];
  const widths = sites.map((_, at) => Math.max(...rows.map((row) => row[at + 1]?.length ?? 0)));
  const first = Math.max(...rows.map((row) => row[0]?.length ?? 0));
  return rows.map(([head = '', ...cells]) =>
    [head.padEnd(first), ...cells.map((cell, at) => cell.padEnd(widths[at] ?? 0))].join('  ').trimEnd(),
  );
}

function disagreements(application: string, sites: readonly string[], views: ReadonlyMap<string, View>): string[] {
  return sites.flatMap((of) => {
    const said = sites.map((by) => ({ by, word: seen(application, of, views.get(by)).replace(', draining', '') }));
    const [up, down] = ['up', 'down'].map((word) => said.filter((each) => each.word === word).map(({ by }) => by));
    if (up === undefined || down === undefined || up.length === 0 || down.length === 0) return [];
    return [`${application}: ${of} is up to ${up.join(' and ')}, and down to ${down.join(' and ')}`];
  });
}
