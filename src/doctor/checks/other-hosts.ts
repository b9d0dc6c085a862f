import type { Config } from '../../config/config.ts';
import { HOP_HEADER } from '../../contract.ts';
import type { HttpFilter } from '../connection-managers.ts';
import { createDestinationReader } from '../destination.ts';
import { FILTER_CONFIG, STATEFUL_SESSION_PER_ROUTE } from '../extension-types.ts';
import type { Edge, Facts } from '../facts.ts';
import { answersPath, healthCheckFilters, stickinessFilter } from '../filters-of.ts';
import { ok, type Said, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { at, listAt, textAt } from '../json.ts';
import { isOn, type Levels, settingsOf } from '../per-route.ts';
import { createUserSearch, firstRoute } from '../route-survey.ts';
import { domainsOf, routeConfigOf, type VirtualHost } from '../virtual-hosts.ts';
import { setsMark } from './stickiness.ts';

/**
 * Virtual hosts of something else on this Envoy. What is in the filter chain for our applications does what it does there as
 * well, unless that is switched off.
 */
export function otherHosts(edge: Edge, facts: Facts): Said {
  if (edge.routeConfig === undefined) return unchecked('the routes cannot be read');
  const { hostMap } = edge;
  const usersOf = createUserSearch(
    facts.applications.map(({ application }) => application),
    facts.snapshot,
  );
  const strangers: VirtualHost[] = [];
  const verdicts: Verdict[] = [];
  for (const host of hostMap.all) {
    const users = usersOf(host);
    if (users.length === 0 && !isClaimed(host, edge, facts)) strangers.push(host);
    if (users.length > 0 && !users.some((application) => hostMap.isOf(host, application))) {
      verdicts.push(undecidedHost(host, users.map(({ name }) => name).join(', ')));
    }
  }
  // One that redirects or answers itself has no server to which anything could get.
  const others = strangers.filter((host) => actionsOf(host).length > 0);
  verdicts.push(...others.map((host) => judgeOther(host, edge, facts)));
  return verdicts.length > 0 ? verdicts : [ok('none leads elsewhere than to the pools')];
}

/** It should be an application's, which is said elsewhere. */
function isClaimed(host: VirtualHost, { hostMap }: Edge, { isOneForAll, applications }: Facts): boolean {
  return (
    !isOneForAll &&
    applications.some(({ application }) => application.hosts.some((own) => hostMap.taking(own) === host))
  );
}

function undecidedHost(host: VirtualHost, application: string): Verdict {
  const domains = domainsOf(host);
  return warn(
    `virtual host ${host.name} leads to pools of ${application}, but ${domains.join(', ')} is no host of it: nothing is decided there`,
    yaml(`in hosts of ${application} in the site's config file:`, domains),
  );
}

function judgeOther(host: VirtualHost, edge: Edge, facts: Facts): Verdict {
  const harms = [
    ...ofSidecar(host, edge, facts),
    ...ofHealthChecks(host, edge, facts),
    ...ofStickiness(host, edge, facts),
  ];
  const name = `virtual host ${host.name}`;
  if (harms.length === 0) return ok([`${name} is left alone`, ...remarks(host, edge, facts)].join('; '));
  const settings = Object.fromEntries(harms.map(({ filter, off }) => [filter.name, off]));
  const text = `${name} leads to none of the pools, but ${harms.map(({ says }) => says).join('; ')}`;
  // The config of a route comes before that of its virtual host.
  const isSaidOfRoutes = actionsOf(host).some((route) =>
    harms.some(({ filter }) => settingsOf(filter, [route]) !== undefined && isOn(filter, [route])),
  );
  const where = `in ${name} of ${routeConfigOf(edge)}${isSaidOfRoutes ? ', and in place of such lines at its routes' : ''}:`;
  const fix = yaml(where, { typed_per_filter_config: settings });
  return harms.some(({ isWrong }) => isWrong) ? wrong(text, fix) : warn(text, fix);
}

/** What a filter does at a virtual host that it has no business with, and what switches it off there. */
interface Harm {
  readonly says: string;
  readonly isWrong: boolean;
  readonly filter: HttpFilter;
  readonly off: unknown;
}

const OFF = { '@type': `type.googleapis.com/${FILTER_CONFIG}`, disabled: true };
const OFF_FOR_GOOD = { '@type': `type.googleapis.com/${STATEFUL_SESSION_PER_ROUTE}`, disabled: true };

/** With applications by host the sidecar has no opinion on what is for another. */
function ofSidecar(host: VirtualHost, { hostMap, extProc }: Edge, { config }: Facts): Harm[] {
  if (!hostMap.isDecided(host) || !isOnAt(extProc, host)) return [];
  const answers = `it answers ${statusUrisOf(config)}, and while the local pool is down a request with ${HOP_HEADER} gets a 503`;
  const says = `the sidecar takes its requests for this site's: ${answers}`;
  return [{ says, isWrong: true, filter: extProc, off: OFF }];
}

function ofHealthChecks(host: VirtualHost, edge: Edge, { config }: Facts): Harm[] {
  return ownHealthChecks(edge, config)
    .filter((filter) => isOnAt(filter, host))
    .map((filter) => ({
      ...{ says: `${filter.name} answers ${statusUrisOf(config)} there`, isWrong: true },
      ...{ filter, off: OFF },
    }));
}

function ownHealthChecks(edge: Edge, { applications }: Config): HttpFilter[] {
  return healthCheckFilters(edge).filter((filter) =>
    applications.some(({ statusUri }) => answersPath(filter, statusUri)),
  );
}

function statusUrisOf({ applications }: Config): string {
  return [...new Set(applications.map(({ statusUri }) => statusUri))].join(', ');
}

/** A filter that waits for the local pool's mark sets no cookie there, but reads it. */
function ofStickiness(host: VirtualHost, edge: Edge, { applications, snapshot }: Facts): Harm[] {
  const reader = createDestinationReader(new Map(), snapshot);
  const harms = new Map<string, Harm>();
  for (const { application } of applications) {
    const filter = stickinessFilter(edge, application);
    if (filter === undefined || !isOnAt(filter, host)) continue;
    const { name } = application.localPool.cookie;
    const routes = actionsOf(host).filter((route) => cookieAt(filter, [route, host.config, host.routeConfig]) === name);
    if (routes.length === 0) continue;
    const clusters = routes.flatMap((route) => reader.read(route, host.routeConfig, {})?.named ?? []);
    const isSet =
      filter.matcher === undefined || clusters.some((cluster) => setsMark(filter, snapshot.clusters.get(cluster)));
    const does = isSet
      ? `gives its clients the cookie ${name}, which then names one of its servers`
      : `sends its requests by the cookie ${name}, where a server has the address in it`;
    harms.set(filter.name, {
      ...{ says: `${filter.name} ${does}`, isWrong: isSet },
      ...{ filter, off: OFF_FOR_GOOD },
    });
  }
  return [...harms.values()];
}

function cookieAt(filter: HttpFilter, levels: Levels): string | undefined {
  const session = at(settingsOf(filter, levels), 'stateful_session') ?? filter.config;
  return textAt(session, 'session_state', 'typed_config', 'cookie', 'name');
}

function remarks(host: VirtualHost, edge: Edge, { config }: Facts): string[] {
  const { extProc, hostMap } = edge;
  const answers = hostMap.isDecided(host) || ownHealthChecks(edge, config).length > 0;
  const withoutRoute = config.applications.filter(({ statusUri: path }) => {
    const probe = { path, headers: {}, runtime: new Map<string, string>() };
    return answers && firstRoute(host, probe, new Set()) === undefined;
  });
  const unrouted = [...new Set(withoutRoute.map(({ statusUri }) => statusUri))].join(', ');
  return [
    ...(isOnAt(extProc, host) ? ['each of its requests asks the sidecar all the same, which has no opinion'] : []),
    // What no route takes has no config that could switch a filter off.
    ...(unrouted === '' ? [] : [`${unrouted} is answered there all the same, for it has no route`]),
  ];
}

/** Whether a filter runs on the way to some server. */
function isOnAt(filter: HttpFilter, host: VirtualHost): boolean {
  return actionsOf(host).some((route) => isOn(filter, [route, host.config, host.routeConfig]));
}

/** Its routes that lead to a server. */
function actionsOf({ config }: VirtualHost): unknown[] {
  return listAt(config, 'routes').filter((route) => at(route, 'route') !== undefined);
}
