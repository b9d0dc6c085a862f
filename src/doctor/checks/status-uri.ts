import type { ConnectionManager } from '../connection-managers.ts';
import { internalListenerOf } from '../destination.ts';
import type { ApplicationFacts, Edge } from '../facts.ts';
import { STATUS_URI_FIELDS } from '../fields/filter-fields.ts';
import { judge } from '../fields/judge.ts';
import { describeFilter, fitted, healthCheckFilters, statusFilters } from '../filters-of.ts';
import { type Said, type Verdict, warn, yaml } from '../finding.ts';
import { at } from '../json.ts';
import { isOn, type Levels } from '../per-route.ts';
import { firstRoute, readerOf, runtimeOfAsking } from '../route-survey.ts';
import { routeConfigOf, type VirtualHost } from '../virtual-hosts.ts';
import { DRAINED_ROUTES } from './drained-routes.ts';
import { noHosts } from './edges.ts';

const MODEL = 'envoy.filters.http.health_check';

/** Who answers the status URI when no sidecar does: a filter of the edge, or one behind the route that takes it. */
export function statusUri(edge: Edge, facts: ApplicationFacts): Said {
  const hosts = facts.surveys.get(edge)?.hosts ?? [];
  const none = noHosts(edge, facts);
  if (none !== null) return none;
  if (hosts.length === 0) return ofFilters(edge, [], facts) ?? nobody(edge, undefined, facts);
  return hosts.flatMap((host) => {
    const route = routeOf(host, facts);
    const levels = [route, host.config, host.routeConfig];
    return ofFilters(edge, levels, facts) ?? behind(route, host, facts) ?? nobody(edge, host, facts);
  });
}

/** What is to be said of the first filter that answers; null where none does. */
function ofFilters(manager: ConnectionManager, levels: Levels, facts: ApplicationFacts): Verdict[] | null {
  const { application, rendered, config } = facts;
  const own = statusFilters(manager, application).find((filter) => isOn(filter, levels));
  if (own === undefined) return null;
  const ofListener = manager.isInternal ? ` of ${manager.label}` : '';
  return judge(STATUS_URI_FIELDS, {
    place: `typed_config of ${describeFilter('health_check', own)}${ofListener}`,
    actual: own.config,
    rendered: at(rendered.filter(MODEL), 'typed_config'),
    config,
  });
}

/** The same of the internal listener that its route leads to. */
function behind(route: unknown, { routeConfig }: VirtualHost, facts: ApplicationFacts): Verdict[] | null {
  const { application, snapshot } = facts;
  for (const cluster of readerOf([application], snapshot).read(route, routeConfig, {})?.named ?? []) {
    const listener = internalListenerOf(snapshot.clusters.get(cluster));
    const manager = snapshot.connectionManagers.find((candidate) => candidate.listener === listener);
    const verdicts = manager === undefined ? null : ofFilters(manager, [], facts);
    if (verdicts !== null) return verdicts;
  }
  return null;
}

function routeOf(host: VirtualHost, { application, snapshot }: ApplicationFacts): unknown {
  const runtime = runtimeOfAsking(application, snapshot);
  return firstRoute(host, { path: application.statusUri, headers: {}, runtime }, new Set());
}

function nobody(edge: Edge, host: VirtualHost | undefined, facts: ApplicationFacts): Verdict[] {
  const { application, rendered, isOneForAll } = facts;
  const text = `without a sidecar nothing answers ${application.statusUri}: the site looks down`;
  if (!isOneForAll) {
    const fix = yaml(
      `in routes of virtual host ${host?.name ?? application.name} of ${routeConfigOf(edge)}, before the others:`,
      // Those that read a drain's keys must stay before the one that does not.
      [...DRAINED_ROUTES, 'undecided_status'].map((route) => fitted(rendered.route(route), edge, facts)),
    );
    return [warn(`no route leads ${application.statusUri} to a health_check filter: ${text}`, fix)];
  }
  const fix = yaml(`in http_filters, after ${edge.extProc.name}:`, [rendered.filter(MODEL)]);
  const isThere = healthCheckFilters(edge).some(({ isDisabled }) => !isDisabled);
  return [
    warn(
      `${isThere ? `no health_check filter is for ${application.statusUri}` : 'there is no health_check filter'}: ${text}`,
      fix,
    ),
  ];
}
