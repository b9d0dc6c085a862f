import type { Application } from '../config/config.ts';
import { standIn } from '../envoy-config/names.ts';
import type { ConnectionManager, HttpFilter } from './connection-managers.ts';
import { HEALTH_CHECK, STATEFUL_SESSION } from './extension-types.ts';
import type { ApplicationFacts, Edge } from './facts.ts';
import { at, entriesAt, listAt, textAt } from './json.ts';
import { matchString } from './route-match.ts';

/** The filter that keeps clients at their server: of several the one that has the cookie, itself or at a virtual host. */
export function stickinessFilter(manager: ConnectionManager, { localPool }: Application): HttpFilter | undefined {
  const all = manager.filters.filter(({ type }) => type === STATEFUL_SESSION);
  const filters = all.filter((filter) => !isOnlyForRequests(filter));
  const hosts = listAt(manager.routeConfig, 'virtual_hosts');
  const hasCookie = ({ name, config }: HttpFilter) =>
    [config, ...hosts.map((host) => at(host, 'typed_per_filter_config', name, 'stateful_session'))].some(
      (session) => textAt(session, 'session_state', 'typed_config', 'cookie', 'name') === localPool.cookie.name,
    );
  return filters.find(hasCookie) ?? filters[0];
}

/** Where this site stands in for another. */
export function standInsOf({ snapshot, application }: ApplicationFacts): ConnectionManager[] {
  // It may have a prefix: see "envoy --prefix".
  // With a version where Envoy follows the config file.
  const nameOf = (listener: string) => listener.replace(/_[0-9a-f]{8}$/, '');
  return snapshot.connectionManagers.filter(({ listener }) => nameOf(listener).endsWith(standIn(application)));
}

/** The filters that keep clients at their server and set no cookie, which are for the other names of one. */
export function alsoFilters(manager: ConnectionManager): HttpFilter[] {
  return manager.filters.filter((filter) => filter.type === STATEFUL_SESSION && isOnlyForRequests(filter));
}

/** Whether a filter is skipped as soon as there is an answer, whatever its status. */
function isOnlyForRequests({ matcher }: HttpFilter): boolean {
  return matcher !== undefined && JSON.stringify(matcher).includes('":status"');
}

/** The filters that answer some path of their own. */
export function healthCheckFilters(manager: ConnectionManager): HttpFilter[] {
  return manager.filters.filter(({ type }) => type === HEALTH_CHECK);
}

/** `the ext_proc filter`, with the name that an operator gave it. */
export function describeFilter(kind: string, { name }: HttpFilter): string {
  return name === `envoy.filters.http.${kind}` ? `the ${kind} filter` : `the ${kind} filter ${name}`;
}

/** Whether a filter answers that path. */
export function answersPath(filter: HttpFilter, path: string): boolean {
  return listAt(filter.config, 'headers').some((matcher) => {
    if (textAt(matcher, 'name') !== ':path') return false;
    const exact = textAt(matcher, 'exact_match');
    return exact === path || matchString(at(matcher, 'string_match'), path) === 'yes';
  });
}

/** Those that answer an application's status URI, where they are on. */
export function statusFilters(manager: ConnectionManager, { statusUri }: Application): HttpFilter[] {
  return healthCheckFilters(manager).filter((filter) => answersPath(filter, statusUri));
}

/** Lines of a fix as they are for this edge: a route's config of a filter goes by the name that the filter has there. */
export function fitted(lines: unknown, edge: Edge, { application }: ApplicationFacts): unknown {
  const names = new Map([
    ['envoy.filters.http.ext_proc', edge.extProc.name],
    ['envoy.filters.http.stateful_session', stickinessFilter(edge, application)?.name],
    ['envoy.filters.http.health_check', statusFilters(edge, application)[0]?.name],
  ]);
  return renamed(lines, names);
}

function renamed(value: unknown, names: ReadonlyMap<string, string | undefined>): unknown {
  if (Array.isArray(value)) return value.map((item) => renamed(item, names));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    entriesAt(value).map(([key, item]) => {
      if (key !== 'typed_per_filter_config') return [key, renamed(item, names)];
      return [key, Object.fromEntries(entriesAt(item).map(([name, settings]) => [names.get(name) ?? name, settings]))];
    }),
  );
}
