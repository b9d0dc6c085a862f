import { type Application, applicationsOf, type Config, isOneForEveryHost, sitesOf } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { findByHost, hostTableOf } from '../config/virtual-hosts.ts';
import { HOP_HEADER, POOL_HEADER, REFUSED_HEADER, statusBody } from '../contract.ts';
import { type Decision, decide, evicted, ownerName, type PoolHealth, type RequestFacts } from '../decision/decide.ts';
import { createPolicy, LOCAL, LOCAL_ALSO, type Policy } from '../decision/policy.ts';
import { readSnapshot } from '../doctor/envoy-snapshot.ts';
import { type RoutedProbe, routedBy } from '../doctor/routed-by.ts';
import { askEnvoy } from '../envoy-admin/admin-answers.ts';
import { AdminError } from '../envoy-admin/connection.ts';
import { keptCookieName } from '../envoy-config/names.ts';
import { carriedSites, createRequestMatcher } from '../ext-proc/request-matcher.ts';
import type { SiteStateReport } from '../ops/state.ts';
import type { CliContext } from './context.ts';
import { type OpsTarget, readState } from './ops.ts';
import { UsageError } from './usage-error.ts';

/** A request, as one would send it. */
export interface ExplainedRequest {
  /** With its query. */
  readonly path: string;
  /** Undefined: none, as HTTP/1.0 allows. */
  readonly host: string | undefined;
  /** The Cookie header. */
  readonly cookie: string | undefined;
  /** The site that has forwarded it. */
  readonly hop: string | undefined;
}

/**
 * Prints what would become of a request now: the row of the decision and why, the route and cluster that Envoy takes, and what the
 * answer sets and expires. By the config file, what the running sidecar sees, and Envoy's config; nothing is sent.
 */
export async function explain(target: OpsTarget, request: ExplainedRequest, context: CliContext): Promise<void> {
  if (!request.path.startsWith('/')) throw new UsageError(`${request.path}: is not a path: it begins with /`);
  const config = await loadConfig(target.configFile);
  const state = await readState(target);
  const host = request.host ?? config.envoy.defaultHost ?? '';
  const application = applicationFor(config, host);
  const print = (line: string) => context.stdout.write(`${line}\n`);
  if (application === null) {
    print(
      `host ${request.host ?? '(none)'}: belongs to no application, so the sidecar has no opinion, and no cookie means anything`,
    );
    await printRoutes(print, config, { request, host, decided: {} }, context);
    return;
  }
  if (config.applications.length > 1) print(`application ${application.name}`);
  const policy = createPolicy(application);
  const facts = factsOf(application, policy, request);
  const stand = standOf(state, application);
  const decision = decide(policy, stand, facts);
  print(describeCookies(policy, facts.cookies));
  print(describeDecision(decision, { application, policy, request, stand, facts }));
  await printRoutes(print, config, { request, host, decided: decidedHeaders(decision, policy) }, context);
  print(describeCookieChanges(decision, policy, application));
}

function applicationFor(config: Config, host: string): Application | null {
  const all = applicationsOf(config);
  if (isOneForEveryHost(config)) return all[0] ?? null;
  return all[findByHost(hostTableOf(config.applications), host)] ?? null;
}

function factsOf(application: Application, policy: Policy, { path, cookie, hop }: ExplainedRequest): RequestFacts {
  const matcher = createRequestMatcher(policy, application.statusUri);
  const pathBytes = Buffer.from(path, 'latin1');
  const cookieBytes = Buffer.from(cookie ?? '', 'latin1');
  return {
    isStatusUri: matcher.isStatusUri(pathBytes, 0, pathBytes.length),
    hasHop: hop !== undefined,
    cookies: carriedSites(matcher.cookieSites(cookieBytes, 0, cookieBytes.length)),
  };
}

interface Stand {
  readonly health: PoolHealth;
  readonly draining: boolean;
  /** Its own sessions move to other sites, as if its pool were down. */
  readonly evicting: boolean;
  /** Why a site is held, by its name. */
  readonly held: ReadonlyMap<string, string>;
}

function standOf(state: SiteStateReport, application: Application): Stand {
  const { name } = application;
  const own = state.applications.find((each) => each.name === name);
  const pools = state.pools.filter((pool) => pool.application === name);
  const up = sitesOf(application).map((each) => pools.find((pool) => pool.site === each)?.up === true);
  const health: PoolHealth = state.health_known ? { known: true, up } : { known: false };
  const held = new Map(pools.flatMap((pool) => (pool.held === null ? [] : [[pool.site, pool.held.reason] as const])));
  const evicting = own?.evicting === true;
  return { health: evicting ? evicted(health) : health, draining: own?.draining === true, evicting, held };
}

function describeCookies(policy: Policy, cookies: number): string {
  const sites = policy.sites.filter((_, index) => (cookies & (1 << index)) !== 0).map(({ name }) => name);
  return sites.length === 0 ? 'it carries the cookie of no site' : `it carries the cookie of ${sites.join(' and ')}`;
}

interface Explained {
  readonly application: Application;
  readonly policy: Policy;
  readonly request: ExplainedRequest;
  readonly stand: Stand;
  readonly facts: RequestFacts;
}

/** With the number of its row in README's table. */
function describeDecision(decision: Decision, explained: Explained): string {
  const { application, policy, request, stand, facts } = explained;
  const { site, refusalStatus } = application;
  const isLocalUp = stand.health.known && stand.health.up[LOCAL] === true;
  const owner = ownerName(policy, decision.owner);
  const notHere = stand.evicting ? `${site} moves its sessions away` : 'the local pool is down';
  const isNotUp = (of: string) => {
    if (of === site && stand.evicting) return `${of} drains`;
    return `${of} is ${stand.held.has(of) ? `held (${stand.held.get(of)})` : 'down'}`;
  };
  const to = 'pool' in decision ? `${policy.sites[decision.pool]?.name}` : '';
  switch (decision.reason) {
    case 'status': {
      const why = decision.up ? 'the local pool is up' : isLocalUp ? `${site} drains` : notHere;
      const code = decision.up ? 200 : 503;
      return `row 1, status: the path is the status URI, and ${why}: the answer is ${code} ${JSON.stringify(statusBody(decision.up).trim())}`;
    }
    case 'unknown':
      return "row 7, unknown: health is not known: no opinion, Envoy's fallback routes decide";
    case 'refuse':
      return facts.hasHop
        ? `row 2, refuse: ${request.hop} has forwarded it, and ${notHere}: ${refusalStatus} with ${REFUSED_HEADER}: ${site}`
        : `row 3, refuse: its owner ${isNotUp(owner)}, and on_owner_down is refuse: ${refusalStatus}`;
    case 'forward':
      return `row 3, forward: it carries the cookie of ${owner}, and ${owner} is up: to ${to}`;
    case 'failover':
      return `row 5, failover: ${owner === 'none' ? 'no session yet' : `its owner ${isNotUp(owner)}`}, and ${notHere}: to ${to}, the first site that is up${passedOver(explained, decision.pool)}`;
    case 'local':
    case 'adopt': {
      if (facts.hasHop)
        return `row 2, ${decision.reason}: ${request.hop} has forwarded it, and the local pool is up: served here`;
      if (!isLocalUp) return describeNothingUp(stand);
      const whose =
        owner === 'none'
          ? 'no session yet'
          : owner === site
            ? `its session lives in ${site}`
            : `its owner ${isNotUp(owner)}`;
      const kept = isKept(decision, application) ? ', and it stays that of its owner' : '';
      return `row 4, ${decision.reason}: ${whose}, and the local pool is up: served here${kept}`;
    }
  }
}

/** The held sites before the one that serves, which would otherwise have been asked. */
function passedOver({ policy, stand }: Explained, pool: number): string {
  const held = policy.sites.slice(0, pool).filter(({ name }) => stand.held.has(name));
  return held.map(({ name }) => `; ${name} is held (${stand.held.get(name)})`).join('');
}

function describeNothingUp({ held }: Stand): string {
  if (held.size === 0) return 'row 6, local: nothing is up: Envoy answers 503';
  const which = [...held].map(([site, reason]) => `${site} is held (${reason})`).join(', ');
  return `row 6, local: the local pool is down, and no other site is up, for ${which}: to the local pool`;
}

/** Whether a session that is served here stays another site's. */
function isKept({ owner }: Decision, { onOwnerDown }: Application): boolean {
  return onOwnerDown === 'keep' && owner > LOCAL;
}

function describeCookieChanges(decision: Decision, { sites }: Policy, application: Application): string {
  const { localPool, remotePools } = application;
  if (decision.reason === 'unknown') {
    return "an answer of a server sets the cookie of the site that serves, and may expire others': by Envoy's own routes, for health is unknown";
  }
  if (!('pool' in decision)) return 'the answer sets and expires no cookie of a site';
  if (decision.reason === 'forward' && remotePools[decision.pool - 1]?.redirect !== null) {
    return 'a redirect sets and expires no cookie; proxied, the answer is that of the other site, which sets and expires its cookies itself';
  }
  if (decision.pool !== LOCAL) return 'the answer is that of the other site, which sets and expires its cookies itself';
  const expired = [
    ...((decision.expire & LOCAL_ALSO) === 0 ? [] : localPool.cookie.also),
    ...sites.flatMap(({ cookieNames }, site) =>
      site === LOCAL || (decision.expire & (1 << site)) === 0 ? [] : cookieNames,
    ),
  ];
  const set = isKept(decision, application) ? keptCookieName(localPool.cookie) : localPool.cookie.name;
  return (
    `an answer of a server sets ${set}, unless the request has it for a server that is up, and expires ` +
    (expired.length === 0 ? 'nothing' : expired.join(', '))
  );
}

/** What the sidecar makes of a request; see {@link RoutedProbe}. */
function decidedHeaders(decision: Decision, { sites }: Policy): RoutedProbe['decided'] {
  if (decision.reason === 'status' || decision.reason === 'refuse') return 'answered';
  return 'pool' in decision ? { [POOL_HEADER]: sites[decision.pool]?.cluster ?? '' } : {};
}

interface Asked extends Pick<RoutedProbe, 'host' | 'decided'> {
  readonly request: ExplainedRequest;
}

async function printRoutes(
  print: (line: string) => void,
  config: Config,
  { request: { path, cookie, hop }, host, decided }: Asked,
  { signal }: CliContext,
): Promise<void> {
  const headers = {
    ...(cookie === undefined ? {} : { cookie }),
    ...(hop === undefined ? {} : { [HOP_HEADER]: hop }),
  };
  try {
    const snapshot = readSnapshot(await askEnvoy(config.envoy.admin, signal));
    const probe = { path: path.replace(/[?#].*$/s, ''), host, headers, decided };
    for (const line of routedBy(config, snapshot, probe)) print(line);
  } catch (error) {
    if (!(error instanceof AdminError)) throw error;
    print(`Envoy's routes are not to be seen: ${error.message}`);
  }
}
