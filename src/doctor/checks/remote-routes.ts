import { HOP_HEADER } from '../../contract.ts';
import { FILTER_CONFIG, STATEFUL_SESSION_PER_ROUTE } from '../extension-types.ts';
import type { ApplicationFacts, Edge } from '../facts.ts';
import { stickinessFilter } from '../filters-of.ts';
import { ok, type Said, unchecked, warn, wrong, yaml } from '../finding.ts';
import { upstreamMutations } from '../http-protocol-options.ts';
import { at, entriesAt, isTrueAt, listAt, pick, textAt, typeOf } from '../json.ts';
import { describeRoute, type RoutedRequest, type RouteSurvey } from '../route-survey.ts';

/** Each route to another site, however many requests found it; twice where it leads to two sites. */
export function remoteRoutes({ requests }: RouteSurvey, { application }: ApplicationFacts): RoutedRequest[] {
  const remotes = new Set(application.remotePools.map(({ cluster }) => cluster));
  const found: RoutedRequest[] = [];
  for (const request of requests) {
    if (found.some(({ route, pool }) => route === request.route && pool === request.pool)) continue;
    if ([...(request.destination?.first ?? [])].some((pool) => remotes.has(pool))) found.push(request);
  }
  return found;
}

const NONE = 'no route to another site was found';

export function hopHeader(survey: RouteSurvey, facts: ApplicationFacts): Said {
  const routes = remoteRoutes(survey, facts);
  if (routes.length === 0) return unchecked(NONE);
  const { application, rendered, snapshot } = facts;
  const verdicts = routes.flatMap((request): Said => {
    const { route, host, destination } = request;
    const added = [route, host.config, host.routeConfig]
      .flatMap((level) => listAt(level, 'request_headers_to_add'))
      .filter((item) => textAt(item, 'header', 'key')?.toLowerCase() === HOP_HEADER);
    const model = rendered.route(`decided_${application.remotePools[0]?.cluster}`);
    const fix = yaml(`in ${describeRoute(route)}:`, pick(model, 'request_headers_to_add'));
    if (added.length === 0) {
      // The upstream filters of a cluster run only where the route names that cluster itself.
      const named = destination?.named ?? [];
      if (named.length > 0 && named.every((cluster) => addsHop(snapshot.clusters.get(cluster)))) return [];
      return wrong(`${describeRoute(route)} adds no ${HOP_HEADER}: a request could loop between two sites`, fix);
    }
    const values = added.map((item) => textAt(item, 'header', 'value') ?? '');
    if (values.some((value) => value === application.site || value.includes('%'))) return [];
    return warn(
      `${describeRoute(route)} adds ${HOP_HEADER}: ${values.join(', ')}, and this site is ${application.site}`,
      fix,
    );
  });
  return verdicts.length > 0
    ? verdicts
    : [ok(`${HOP_HEADER}: ${application.site} is added on the way to another site`)];
}

/** Whether the upstream filters of a cluster add the hop header. */
export function addsHop(cluster: unknown): boolean {
  return upstreamMutations(cluster, 'request_mutations').some(
    (mutation) => textAt(mutation, 'append', 'header', 'key')?.toLowerCase() === HOP_HEADER,
  );
}

/** This site's cookie names a server of this site, which nobody at another may be sent to, nor a client be given. */
export function stickinessOff(survey: RouteSurvey, facts: ApplicationFacts, edge: Edge): Said {
  const filter = stickinessFilter(edge, facts.application);
  if (filter === undefined) return unchecked('there is no stateful_session filter');
  const routes = remoteRoutes(survey, facts);
  if (routes.length === 0) return unchecked(NONE);
  const model = { '@type': `type.googleapis.com/${STATEFUL_SESSION_PER_ROUTE}`, disabled: true };
  // A gateway may leave the filter on for the sake of sessions that are adopted: Envoy runs the filters of the route that matched first.
  const setsAnother = (settings: unknown) => {
    const state = at(settings, 'stateful_session', 'session_state', 'typed_config');
    return state !== undefined && textAt(state, 'cookie', 'name') !== facts.application.localPool.cookie.name;
  };
  const verdicts = routes.flatMap(({ route, host }): Said => {
    const fix = yaml(`in ${describeRoute(route)}:`, { typed_per_filter_config: { [filter.name]: model } });
    const levels = [route, host.config, host.routeConfig].map((level) => at(level, 'typed_per_filter_config'));
    // The most specific level wins.
    const settings = levels.map((level) => at(level, filter.name)).find((value) => value !== undefined);
    if (typeOf(settings) === STATEFUL_SESSION_PER_ROUTE && (isTrueAt(settings, 'disabled') || setsAnother(settings))) {
      return [];
    }
    const text = `${describeRoute(route)} gives clients of another site this site's cookie`;
    if (typeOf(settings) === FILTER_CONFIG) {
      return wrong(`${text}: FilterConfig does not switch stateful_session off once the route was chosen anew`, fix);
    }
    const elsewhere = levels
      .flatMap((level) => entriesAt(level))
      .find(([name, value]) => name !== filter.name && typeOf(value) === STATEFUL_SESSION_PER_ROUTE);
    if (elsewhere !== undefined) {
      return wrong(`${text}: its config is for a filter ${elsewhere[0]}, and the filter is called ${filter.name}`, fix);
    }
    return wrong(text, fix);
  });
  return verdicts.length > 0 ? verdicts : [ok('on the way to another site')];
}
