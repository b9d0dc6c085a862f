import { HOP_HEADER } from '../../contract.ts';
import type { ApplicationFacts, Edge, Facts } from '../facts.ts';
import { NAMED_CLUSTER_FIELDS } from '../fields/cluster-fields.ts';
import { fieldChecks, type Judge } from '../fields/judge.ts';
import { clusterSubject } from '../fields/subjects.ts';
import { fitted } from '../filters-of.ts';
import { type Fix, ok, type Said, steps, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { at, pick, textAt } from '../json.ts';
import { poolsOf } from '../pools.ts';
import { redirectsTo } from '../redirects.ts';
import { describeRoute, type RoutedRequest, type RouteSurvey } from '../route-survey.ts';
import { routeConfigOf } from '../virtual-hosts.ts';
import { eachApplication } from './applications.ts';
import type { CheckGroup } from './check.ts';
import { drainedWithoutSidecar } from './drained-routes.ts';
import { eachEdge } from './edges.ts';
import { heldWithoutSidecar } from './held-routes.ts';
import { redirects } from './redirects.ts';
import { addsHop, hopHeader, stickinessOff } from './remote-routes.ts';
import { refusalRetry, safeRetries } from './route-retries.ts';

/** Where each kind of request goes, found out by sending one through the routes. */
export const ROUTE_CHECKS: CheckGroup = {
  name: 'Routes',
  checks: [
    { name: 'decided', run: (facts) => eachSurvey(facts, decided) },
    { name: 'forwarded', run: (facts) => eachSurvey(facts, forwarded) },
    { name: 'undecided', run: (facts) => eachSurvey(facts, undecided) },
    { name: 'held', run: (facts) => eachSurvey(facts, heldWithoutSidecar) },
    { name: 'drained', run: (facts) => eachSurvey(facts, drainedWithoutSidecar) },
    { name: 'hop header', run: (facts) => eachSurvey(facts, hopHeader) },
    { name: 'hop header of retries', run: (facts) => eachSurvey(facts, hopOfRetries) },
    { name: 'stickiness off', run: (facts) => eachSurvey(facts, stickinessOff) },
    { name: 'retry on refusal', run: (facts) => eachSurvey(facts, refusalRetry) },
    { name: 'retries', run: (facts) => eachSurvey(facts, safeRetries) },
    ...fieldChecks(NAMED_CLUSTER_FIELDS, (facts, judge) => eachApplication(facts, (own) => retryLimits(own, judge))),
    { name: 'redirects', run: (facts) => eachSurvey(facts, redirects) },
    { name: 'not followed', run: (facts) => eachSurvey(facts, notFollowed) },
  ],
};

type SurveyCheck = (survey: RouteSurvey, facts: ApplicationFacts, edge: Edge) => Said;

function eachSurvey(facts: Facts, check: SurveyCheck): Said {
  return eachApplication(facts, (own) =>
    eachEdge(own, (edge) => {
      const survey = own.surveys.get(edge);
      if (survey === undefined) return unchecked('the routes cannot be read');
      // Of several applications each is looked for among the virtual hosts.
      const saysSo = facts.isOneForAll && check === decided;
      if (survey.hosts.length === 0 && !saysSo) return unchecked('no virtual host leads to the pools');
      return check(survey, own, edge);
    }),
  );
}

function decided({ requests, hosts, shadowed }: RouteSurvey, facts: ApplicationFacts, edge: Edge): Said {
  if (hosts.length === 0) {
    const host = fitted(facts.rendered.virtualHost, edge, facts);
    return wrong(
      'no virtual host leads to a pool of the config',
      yaml(`in ${routeConfigOf(edge)}:`, { virtual_hosts: [host] }),
    );
  }
  const wrongs = [
    ...shadowed.map(({ host, by }) => {
      const text = `${describeRoute(by)} takes every request of virtual host ${host.name}: no route after it is reached, and none to a pool is before it`;
      return wrong(text, steps('do this:', `take ${describeRoute(by)} out, or put it after the routes to the pools`));
    }),
    ...requests
      .filter(({ kind }) => kind === 'decided')
      .filter((request) => !leadsRight(request, facts))
      .map((request) => wrong(`decided for ${describeWrong(request)}`, fixOfRoute(request, 'decided', facts, edge))),
  ];
  if (wrongs.length > 0) return unique(wrongs);
  const pools = new Set(requests.filter(({ kind }) => kind === 'decided').map(({ pool }) => pool));
  return ok(`each decision leads to its pool: ${[...pools].join(', ')}`);
}

function forwarded({ requests }: RouteSurvey, facts: ApplicationFacts, edge: Edge): Said {
  const local = facts.application.localPool.cluster;
  const kinds = requests.filter(({ kind }) => kind === 'decided forwarded' || kind === 'undecided forwarded');
  const wrongs = kinds.flatMap((request): Said => {
    const name = request.kind === 'decided forwarded' ? 'decided_forwarded' : 'undecided_forwarded';
    const fix = yaml(
      `in routes of virtual host ${request.host.name} of ${routeConfigOf(edge)}, before those without ${HOP_HEADER}:`,
      [fitted(facts.rendered.route(name) ?? facts.rendered.route('decided_local'), edge, facts)],
    );
    if (!leadsRight(request, facts)) return wrong(`with ${HOP_HEADER}, ${describeWrong(request)}`, fix);
    const leaves = [...(request.destination?.later ?? [])].filter((pool) => pool !== local);
    if (leaves.length === 0) return [];
    const text = `with ${HOP_HEADER}, ${describeRoute(request.route)} may send a retry on to ${leaves.join(', ')}: it could loop`;
    return wrong(text, fix);
  });
  return wrongs.length > 0 ? unique(wrongs) : [ok('what another site has forwarded stays here')];
}

function undecided({ requests }: RouteSurvey, facts: ApplicationFacts, edge: Edge): Said {
  const kinds = requests.filter(({ kind }) => kind === 'undecided');
  const verdicts = kinds.flatMap((request): Said => {
    if (leadsRight(request, facts)) return [];
    const fix = fixOfRoute(request, 'undecided', facts, edge);
    const isLocal = request.pool === facts.application.localPool.cluster;
    const text = `without a sidecar, ${describeWrong(request)}`;
    return [isLocal ? wrong(text, fix) : warn(`${text}: the session is lost until one is back`, fix)];
  });
  return verdicts.length > 0 ? unique(verdicts) : [ok('without a sidecar the cookie tells the pool')];
}

/** A request goes to its pool at once, and to no other; or its client goes there itself. */
function leadsRight({ destination, pool, route }: RoutedRequest, { application }: ApplicationFacts): boolean {
  if (application.remotePools.some((each) => each.cluster === pool && redirectsTo(route, each))) return true;
  return destination !== null && destination.first.size === 1 && destination.first.has(pool);
}

function describeWrong({ pool, path, host, route, destination }: RoutedRequest): string {
  const where = `${path} of virtual host ${host.name}`;
  if (route === undefined) return `${pool}: no route takes ${where}`;
  const to =
    destination === null ? actionOf(route) : [...destination.first].join(' or ') || destination.named.join(' or ');
  return `${pool}: ${describeRoute(route)} sends ${where} to ${to}`;
}

function actionOf(route: unknown): string {
  for (const action of ['redirect', 'direct_response']) if (at(route, action) !== undefined) return `a ${action}`;
  return textAt(route, 'route', 'cluster_header') ?? 'a place that cannot be told';
}

/** The route as it is printed for this site. */
function fixOfRoute(request: RoutedRequest, kind: 'decided' | 'undecided', facts: ApplicationFacts, edge: Edge): Fix {
  const isLocal = request.pool === facts.application.localPool.cluster;
  const route = facts.rendered.route(`${kind}_${isLocal ? 'local' : request.pool}`);
  const place = kind === 'decided' ? 'before the others' : isLocal ? 'last' : 'after the decided ones';
  return yaml(`in routes of virtual host ${request.host.name} of ${routeConfigOf(edge)}, ${place}:`, [
    fitted(route, edge, facts),
  ]);
}

/** Where a retry leaves for another site without its route, the hop header comes from the cluster. */
function hopOfRetries({ requests }: RouteSurvey, facts: ApplicationFacts): Said {
  const { application, snapshot, expected } = facts;
  const local = application.localPool.cluster;
  const reached = new Set(
    requests
      .filter(({ pool, kind }) => pool === local && !kind.endsWith('forwarded'))
      .flatMap(({ destination }) => [...(destination?.later ?? [])])
      .filter((pool) => pool !== local),
  );
  if (reached.size === 0) return ok('no retry from the local pool leaves the site');
  const without = [...reached].filter((pool) => !addsHop(snapshot.clusters.get(pool)));
  if (without.length === 0) return ok(`added by the clusters that a retry may take: ${[...reached].join(', ')}`);
  return without.map((pool) =>
    wrong(
      `a retry from the local pool goes to ${pool} without ${HOP_HEADER}: it could loop`,
      yaml(`in cluster ${pool}:`, pick(expected.cluster(pool), 'typed_extension_protocol_options')),
    ),
  );
}

/** The clusters by which the routes go to the pools count retries of their own. */
function retryLimits(facts: ApplicationFacts, judge: Judge): Said {
  const { application, snapshot, edges, surveys } = facts;
  if (edges.length === 0) return unchecked('no filter that asks the sidecars was found');
  const pools = new Set(poolsOf(application).map(({ cluster }) => cluster));
  const named = new Set<string>();
  for (const { requests } of surveys.values()) {
    for (const { destination } of requests) {
      for (const cluster of destination?.named ?? []) if (!pools.has(cluster)) named.add(cluster);
    }
  }
  const verdicts = [...named]
    .filter((cluster) => snapshot.clusters.has(cluster))
    .flatMap((cluster) => judge(clusterSubject(facts, cluster)));
  return verdicts.length > 0 ? verdicts : [ok('the routes name no cluster beside the pools')];
}

function notFollowed({ unsure, unprobed }: RouteSurvey): Said {
  const verdicts = [
    ...unsure.map((route) => unchecked(`${route} takes requests by what cannot be told from here`)),
    ...unprobed.map((route) => unchecked(`${route} matches paths by a pattern: no request was made up for it`)),
  ];
  return verdicts.length > 0 ? verdicts : [ok('every route to the pools was followed')];
}

function unique(verdicts: readonly Verdict[]): Said {
  return [...new Map(verdicts.map((verdict) => [verdict.text, verdict])).values()];
}
