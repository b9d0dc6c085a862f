import { canStandIn } from '../../envoy-config/can-stand-in.ts';
import { withFallback } from '../../envoy-config/names.ts';
import { PREVIOUS_PRIORITIES } from '../extension-types.ts';
import type { ApplicationFacts } from '../facts.ts';
import type { Subject } from '../fields/field.ts';
import { troublesOf } from '../fields/judge.ts';
import { REFUSAL_RETRY_FIELDS, SAFE_RETRY_FIELDS } from '../fields/route-fields.ts';
import { ok, type Said, unchecked, warn, wrong, yaml } from '../finding.ts';
import { at, listAt, numberAt, pick, textAt, typeOf } from '../json.ts';
import { describeRoute, type RoutedRequest, type RouteSurvey } from '../route-survey.ts';
import { remoteRoutes } from './remote-routes.ts';

/** @param model the name of the route that is rendered for it */
function routeSubject({ route, host }: RoutedRequest, model: string, { config, rendered }: ApplicationFacts): Subject {
  const name = describeRoute(route);
  return {
    place: `"route" of ${name}`,
    label: name,
    // A route's own retry policy replaces its virtual host's.
    actual: {
      match: at(route, 'match'),
      retry_policy: at(route, 'route', 'retry_policy') ?? at(host.config, 'retry_policy'),
    },
    rendered: at(rendered.route(model), 'route'),
    config,
  };
}

/** What another site refuses, or is not there to take, is served here. */
export function refusalRetry(survey: RouteSurvey, facts: ApplicationFacts): Said {
  const { application, expected, rendered } = facts;
  if (!canStandIn(application)) return ok('not wanted under on_owner_down: refuse');
  const routes = remoteRoutes(survey, facts);
  if (routes.length === 0) return unchecked('no route to another site was found');
  const verdicts = routes.flatMap((request): Said => {
    const { route, destination } = request;
    const name = describeRoute(route);
    const subject = routeSubject(request, `decided_${application.remotePools[0]?.cluster}`, facts);
    const troubles = troublesOf(REFUSAL_RETRY_FIELDS, subject);
    if (troubles.length > 0) return troubles;
    const priority = at(subject.actual, 'retry_policy', 'retry_priority', 'typed_config');
    const goesOn = typeOf(priority) === PREVIOUS_PRIORITIES;
    const hasOwnFallback = destination?.named.some((cluster) => hasPriorities(facts.snapshot.clusters.get(cluster)));
    if (goesOn && hasOwnFallback === true) return [];
    if ((destination?.later.size ?? 0) === 0) {
      const pool =
        application.remotePools.find(({ cluster }) => cluster === request.pool) ?? application.remotePools[0];
      const target = yaml(`lead ${name} to this cluster (see "site-persistence envoy" for all that belongs to it):`, [
        pool === undefined ? undefined : expected.cluster(withFallback(pool)),
      ]);
      return warn(`${name} has nowhere to go where the other site is down or refuses`, target);
    }
    if (destination?.named.length !== 1 || goesOn) return [];
    const fix = pick(at(rendered.route('undecided_local'), 'route', 'retry_policy'), 'retry_priority');
    return wrong(
      `${name} has no retry_priority: each retry meets the site that has refused`,
      yaml(`in retry_policy of ${name}:`, fix),
    );
  });
  return verdicts.length > 0 ? verdicts : [ok('what another site refuses is served here')];
}

/** Whether a cluster has servers for when others fail, as a gateway's fallback; of EDS it is not always to be seen. */
function hasPriorities(cluster: unknown): boolean {
  const localities = listAt(cluster, 'load_assignment', 'endpoints');
  return localities.length === 0
    ? textAt(cluster, 'type') === 'EDS'
    : localities.some((locality) => (numberAt(locality, 'priority') ?? 0) > 0);
}

/** Every route to a pool retries what no server has seen, and nothing else. */
export function safeRetries({ requests }: RouteSurvey, facts: ApplicationFacts): Said {
  const routes = [...new Map(requests.filter(isToPool).map((request) => [request.route, request])).values()];
  const verdicts = routes.flatMap((request) =>
    troublesOf(SAFE_RETRY_FIELDS, routeSubject(request, 'undecided_forwarded', facts)),
  );
  return verdicts.length > 0 ? verdicts : [ok('of what no server has seen, and of nothing else')];
}

function isToPool({ route, destination }: RoutedRequest): boolean {
  return route !== undefined && destination !== null && destination.first.size > 0;
}
