import { REFUSED_HEADER } from '../../contract.ts';
import { canStandIn } from '../../envoy-config/can-stand-in.ts';
import { withFallback } from '../../envoy-config/names.ts';
import { PREVIOUS_PRIORITIES } from '../extension-types.ts';
import type { Facts } from '../facts.ts';
import { ok, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { at, listAt, numberAt, pick, textAt, typeOf } from '../json.ts';
import { describeRoute, type RoutedRequest, type RouteSurvey } from '../route-survey.ts';
import { conditionsOf } from './filter.ts';
import { remoteRoutes } from './remote-routes.ts';

/** A route's own retry policy replaces its virtual host's. */
function retryPolicyOf({ route, host }: RoutedRequest): unknown {
  return at(route, 'route', 'retry_policy') ?? at(host.config, 'retry_policy');
}

/** What another site refuses, or is not there to take, is served here. */
export function refusalRetry(survey: RouteSurvey, facts: Facts): Verdict[] {
  const { config, expected } = facts;
  if (!canStandIn(config)) return [ok('not wanted under on_owner_down: refuse')];
  const routes = remoteRoutes(survey, facts);
  if (routes.length === 0) return [unchecked('no route to another site was found')];
  const verdicts = routes.flatMap((request): Verdict[] => {
    const { route, destination } = request;
    const model = at(expected.route(`decided_${config.remotePools[0]?.cluster}`), 'route');
    const fix = yaml(`in "route" of ${describeRoute(route)}:`, pick(model, 'retry_policy'));
    const policy = retryPolicyOf(request);
    const name = describeRoute(route);
    if (policy === undefined) return [wrong(`${name} has no retry_policy: what the other site refuses is lost`, fix)];
    const isRefusal = (matcher: unknown) => textAt(matcher, 'name')?.toLowerCase() === REFUSED_HEADER;
    const onRefusal =
      conditionsOf(policy).includes('retriable-headers') && listAt(policy, 'retriable_headers').some(isRefusal);
    if (!onRefusal || numberAt(policy, 'num_retries') === 0) {
      return [wrong(`${name} does not retry what the other site refuses (${REFUSED_HEADER}): it is lost`, fix)];
    }
    if ((destination?.later.size ?? 0) === 0) {
      const pool = config.remotePools.find(({ cluster }) => cluster === request.pool) ?? config.remotePools[0];
      const target = yaml(`lead ${name} to this cluster (see "site-persistence envoy" for all that belongs to it):`, [
        pool === undefined ? undefined : expected.cluster(withFallback(pool)),
      ]);
      return [warn(`${name} has nowhere to go where the other site is down or refuses`, target)];
    }
    if (
      destination?.named.length === 1 &&
      typeOf(at(policy, 'retry_priority', 'typed_config')) !== PREVIOUS_PRIORITIES
    ) {
      const priority = yaml(
        `in retry_policy of ${name}:`,
        pick(at(expected.route('undecided_local'), 'route', 'retry_policy'), 'retry_priority'),
      );
      return [wrong(`${name} has no retry_priority: each retry meets the site that has refused`, priority)];
    }
    return [];
  });
  return verdicts.length > 0 ? verdicts : [ok('what another site refuses is served here')];
}

/** After these nobody can say that no server has seen the request; a POST might be done twice. */
const UNSAFE = ['5xx', 'gateway-error', 'reset', 'retriable-4xx', 'http3-post-connect-failure'];

/** Every route to a pool retries what no server has seen, and nothing else. */
export function safeRetries({ requests }: RouteSurvey, facts: Facts): Verdict[] {
  const { expected } = facts;
  const model = at(expected.route('undecided_forwarded'), 'route', 'retry_policy');
  const routes = [...new Map(requests.filter(isToPool).map((request) => [request.route, request])).values()];
  const verdicts = routes.flatMap((request): Verdict[] => {
    const policy = retryPolicyOf(request);
    const name = describeRoute(request.route);
    const fix = yaml(`in "route" of ${name}:`, { retry_policy: model });
    // Refusals are another check's.
    const needed = conditionsOf(model).filter((condition) => condition !== 'retriable-headers');
    const missing = needed.filter((condition) => !conditionsOf(policy).includes(condition));
    if (missing.length > 0) {
      return [warn(`${name} does not retry on ${missing.join(', ')}: what meets a server that just died is lost`, fix)];
    }
    const isSafeMethod = isForSafeMethods(request.route);
    const unsafe = conditionsOf(policy).filter(
      (condition) => UNSAFE.includes(condition) && !(isSafeMethod && condition === 'reset'),
    );
    if (unsafe.length === 0) return [];
    return [warn(`${name} retries on ${unsafe.join(', ')}: a request that a server has seen may be sent twice`, fix)];
  });
  return verdicts.length > 0 ? verdicts : [ok('of what no server has seen, and of nothing else')];
}

/** A GET or HEAD may be repeated when its connection breaks (RFC 9110, 9.2.2). */
function isForSafeMethods(route: unknown): boolean {
  return listAt(route, 'match', 'headers').some(
    (matcher) =>
      textAt(matcher, 'name') === ':method' &&
      ['GET', 'HEAD', 'GET|HEAD'].includes(
        textAt(matcher, 'string_match', 'exact') ?? textAt(matcher, 'string_match', 'safe_regex', 'regex') ?? '',
      ),
  );
}

function isToPool({ route, destination }: RoutedRequest): boolean {
  return route !== undefined && destination !== null && destination.first.size > 0;
}
