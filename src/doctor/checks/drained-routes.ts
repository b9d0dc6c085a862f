import { drainInFileKey, drainKey, evictKey, HOP_HEADER } from '../../contract.ts';
import type { ApplicationFacts, Edge } from '../facts.ts';
import { fitted, statusFilters } from '../filters-of.ts';
import { ok, type Said, warn, yaml } from '../finding.ts';
import { numberAt } from '../json.ts';
import { isOn } from '../per-route.ts';
import { firstRoute, type RouteSurvey, runtimeOfAsking } from '../route-survey.ts';
import { routeConfigOf, type VirtualHost } from '../virtual-hosts.ts';

/** The routes by which Envoy obeys a drain without a sidecar, as they are printed. */
export const DRAINED_ROUTES = ['evicted_status', 'drained_status', 'drained_in_file_status'] as const;

/** Without a sidecar the health_check filter goes by the pool alone: a drain is what routes before it say that read its keys. */
export function drainedWithoutSidecar({ hosts }: RouteSurvey, facts: ApplicationFacts, edge: Edge): Said {
  const { application, snapshot, rendered } = facts;
  const { name, site, statusUri } = application;
  const orders = {
    evicted_status: { key: evictKey(name), headers: { [HOP_HEADER]: site } },
    drained_status: { key: drainKey(name), headers: {} },
    drained_in_file_status: { key: drainInFileKey(name), headers: {} },
  };
  const verdicts = hosts.flatMap((host) => {
    const missing = DRAINED_ROUTES.filter((of) => {
      const { key, headers } = orders[of];
      const runtime = new Map([...runtimeOfAsking(application, snapshot), [key, '100']]);
      const route = firstRoute(host, { path: statusUri, headers, runtime }, new Set());
      return !saysDown(route, host, facts, edge);
    });
    if (missing.length === 0) return [];
    const keys = missing.map((of) => orders[of].key).join(', ');
    return [
      warn(
        `no route answers ${statusUri} with 503 by ${keys}: without a sidecar such a drain is not obeyed`,
        yaml(
          `in routes of virtual host ${host.name} of ${routeConfigOf(edge)}, before all others for ${statusUri}:`,
          missing.map((of) => fitted(rendered.route(of), edge, facts)),
        ),
      ),
    ];
  });
  return verdicts.length > 0
    ? verdicts
    : [ok('without a sidecar the status URI says DOWN for as long as a drain lasts')];
}

function saysDown(route: unknown, host: VirtualHost, { application }: ApplicationFacts, edge: Edge): boolean {
  const levels = [route, host.config, host.routeConfig];
  const isAnswered = statusFilters(edge, application).some((filter) => isOn(filter, levels));
  return !isAnswered && numberAt(route, 'direct_response', 'status') === 503;
}
