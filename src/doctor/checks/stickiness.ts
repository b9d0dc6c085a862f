import { alsoFilter } from '../../envoy-config/names.ts';
import { hasWallClockCookies } from '../../envoy-config/versions.ts';
import { type ConnectionManager, type HttpFilter, withoutMatcher } from '../connection-managers.ts';
import { COOKIE_SESSION_STATE, STATEFUL_SESSION_PER_ROUTE } from '../extension-types.ts';
import type { ApplicationFacts, Edge } from '../facts.ts';
import { STICKINESS_FIELDS } from '../fields/filter-fields.ts';
import { judge, troublesOf } from '../fields/judge.ts';
import { alsoFilters, describeFilter, standInsOf, stickinessFilter } from '../filters-of.ts';
import { ok, type Said, steps, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { upstreamMutations } from '../http-protocol-options.ts';
import { at, pick, textAt, typeOf } from '../json.ts';
import { isOn, type Levels, settingsOf } from '../per-route.ts';
import { describeRoute, type RoutedRequest } from '../route-survey.ts';
import type { VirtualHost } from '../virtual-hosts.ts';
import { eachApplication } from './applications.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge, noHosts } from './edges.ts';
import { opaqueCookie } from './opaque-cookie.ts';
import { statusUri } from './status-uri.ts';

/** What keeps a client at its server, and answers the status URI without a sidecar. */
export const STICKINESS_CHECKS: CheckGroup = {
  name: 'Filters after it',
  checks: [
    {
      name: 'stickiness',
      run: (facts) => eachApplication(facts, (own) => [...eachEdge(own, stickiness), ...behindStandIn(own)]),
    },
    { name: 'own answers', run: (facts) => eachApplication(facts, (own) => eachEdge(own, onlyOwnAnswers)) },
    { name: 'cookies', run: (facts) => eachApplication(facts, duplicateCookies) },
    { name: 'opaque cookie', run: (facts) => eachApplication(facts, opaqueCookie) },
    { name: 'cookie lifetime', run: (facts) => eachApplication(facts, cookieLifetime) },
    { name: 'status URI', run: (facts) => eachApplication(facts, (own) => eachEdge(own, statusUri)) },
  ],
};

const MODEL = 'envoy.filters.http.stateful_session';

/** The listener through which this site stands in for another gives the same cookie. */
function behindStandIn(facts: ApplicationFacts): Verdict[] {
  return standInsOf(facts).flatMap((manager) => {
    const filter = stickinessFilter(manager, facts.application);
    return (filter === undefined ? [noFilter(facts)] : [ofFilter(filter, facts)].flat())
      .filter(({ mark }) => mark !== 'ok')
      .map((verdict) => ({ ...verdict, text: `${manager.label}: ${verdict.text}` }))
      .concat(alsoBehindStandIn(manager, facts));
  });
}

/** A session whose cookie has one of the site's other names finds its server by a filter for that name. */
function alsoNames(edge: Edge, hosts: readonly VirtualHost[], facts: ApplicationFacts): Verdict[] {
  const { also } = facts.application.localPool.cookie;
  const unread = also.flatMap((name, index) =>
    hosts
      .filter((host) => !isReadAt(edge, { name, levels: [host.config, host.routeConfig] }, facts))
      .map((host) => unreadAt(host, { name, index }, facts)),
  );
  if (also.length === 0 || unread.length > 0) return unread;
  return [ok(`a session whose cookie is still called ${also.join(' or ')} stays at its server`)];
}

function alsoBehindStandIn(manager: ConnectionManager, facts: ApplicationFacts): Verdict[] {
  return facts.application.localPool.cookie.also.flatMap((name, index) =>
    isReadAt(manager, { name, levels: [] }, facts)
      ? []
      : [unreadName(manager.label, { name, index }, { http_filters: [facts.rendered.filter(alsoFilter(index))] })],
  );
}

interface NameAt {
  readonly name: string;
  readonly levels: Levels;
}

/** Whether the server in this cookie counts, unless the one that the cookie's own name leads to does. */
function isReadAt(manager: ConnectionManager, { name, levels }: NameAt, { application }: ApplicationFacts): boolean {
  const own = stickinessFilter(manager, application);
  const last = own === undefined ? manager.filters.length : manager.filters.indexOf(own);
  return alsoFilters(manager).some((filter) => {
    const session = at(settingsOf(filter, levels), 'stateful_session') ?? filter.config;
    const isBefore = manager.filters.indexOf(filter) < last;
    return isBefore && isOn(filter, levels) && textAt(session, ...COOKIE_NAME) === name;
  });
}

const COOKIE_NAME = ['session_state', 'typed_config', 'cookie', 'name'] as const;

interface UnreadName {
  readonly name: string;
  /** In the list of the other names. */
  readonly index: number;
}

function unreadAt({ name }: VirtualHost, unread: UnreadName, { expected, rendered, isOneForAll }: ApplicationFacts) {
  const filter = alsoFilter(unread.index);
  const settings = at(rendered.virtualHost, 'typed_per_filter_config', filter);
  const ofHost = { virtual_hosts: [{ name, typed_per_filter_config: { [filter]: settings } }] };
  const lines = { http_filters: [expected.filter(filter)], ...(isOneForAll ? {} : ofHost) };
  return unreadName(`virtual host ${name}`, unread, lines);
}

function unreadName(where: string, { name }: UnreadName, lines: object): Verdict {
  return warn(
    `${where}: a session whose cookie is still called ${name} gets another server, for no filter reads that name`,
    yaml('the filter before that of stateful_session:', lines),
  );
}

function stickiness(edge: Edge, facts: ApplicationFacts): Said {
  const filter = stickinessFilter(edge, facts.application);
  if (filter === undefined) return noFilter(facts);
  const none = noHosts(edge, facts);
  if (none !== null) return none;
  const hosts = facts.surveys.get(edge)?.hosts ?? [];
  if (hosts.length === 0) return ofFilter(filter, facts);
  const requests = facts.surveys.get(edge)?.requests ?? [];
  return [
    ...hosts.flatMap((host) => {
      const byRoute = ofRoutes(
        requests.filter((request) => request.host === host),
        filter,
        facts,
      );
      return byRoute ?? ofHost(host, filter, facts);
    }),
    ...alsoNames(edge, hosts, facts),
  ];
}

/**
 * Where the filter is off but for the routes that switch it on, as gateways have it: what those say. Null where none does.
 * @param requests of one virtual host
 */
function ofRoutes(
  requests: readonly RoutedRequest[],
  filter: HttpFilter,
  facts: ApplicationFacts,
): readonly Verdict[] | null {
  const local = facts.application.localPool.cluster;
  const levelsOf = ({ route, host }: RoutedRequest) => [route, host.config, host.routeConfig];
  const toPools = [...new Map(requests.map((request) => [request.route, request])).values()].filter(
    ({ route, destination }) => route !== undefined && (destination?.first.size ?? 0) > 0,
  );
  const isByHost = ({ host }: RoutedRequest) => settingsOf(filter, [host.config, host.routeConfig]) !== undefined;
  const isByRoute = ({ route }: RoutedRequest) => settingsOf(filter, [route]) !== undefined && isOn(filter, [route]);
  if (!filter.isDisabled || toPools.some(isByHost) || !toPools.some(isByRoute)) return null;
  const verdicts = toPools.flatMap((request): Said => {
    const name = describeRoute(request.route);
    if (request.destination?.first.has(local) === true) return ofPlace(name, levelsOf(request), { filter, facts });
    if (isOn(filter, levelsOf(request))) return [];
    const text = `${name} does not switch ${filter.name} on: a session that is adopted there gets no cookie, for Envoy runs the filters of the route that matched first`;
    return [
      wrong(text, steps(`in ${name}:`, `switch ${filter.name} on with another cookie or header than this site's`)),
    ];
  });
  const bad = verdicts.filter(({ mark }) => mark !== 'ok');
  return bad.length > 0 ? bad : verdicts.slice(0, 1);
}

function noFilter({ expected }: ApplicationFacts): Verdict {
  return wrong(
    "there is no stateful_session filter: no client stays at its server, and none gets this site's cookie",
    yaml('in http_filters, after ext_proc and before the router:', [expected.filter(MODEL)]),
  );
}

/** By what the filter says itself, for whatever host. */
function ofFilter(filter: HttpFilter, { rendered, config }: ApplicationFacts): Said {
  const model = rendered.filter(MODEL);
  if (filter.isDisabled) {
    const whole = yaml('in http_filters, after ext_proc and before the router:', [model]);
    return wrong('the stateful_session filter is switched off (disabled: true)', whole);
  }
  const fix = yaml(`in ${describeFilter('stateful_session', filter)}:`, pick(model, 'typed_config'));
  const state = typeOf(at(filter.config, 'session_state', 'typed_config'));
  if (state !== COOKIE_SESSION_STATE) {
    return wrong(`stateful_session keeps its state by ${state ?? 'nothing'}, not by a cookie`, fix);
  }
  return judge(STICKINESS_FIELDS, {
    place: `${describeFilter('stateful_session', filter)}'s own typed_config`,
    actual: filter.config,
    rendered: sessionOf(model),
    config,
  });
}

function sessionOf(filter: unknown): unknown {
  return withoutMatcher(at(filter, 'typed_config'));
}

/** By what a virtual host of the application says, or the filter where it says nothing. */
function ofHost(host: VirtualHost, filter: HttpFilter, facts: ApplicationFacts): Said {
  return ofPlace(`virtual host ${host.name}`, [host.config, host.routeConfig], { filter, facts });
}

/** @param name of the virtual host or route whose config is the first of the levels */
function ofPlace(
  name: string,
  levels: Levels,
  { filter, facts }: { readonly filter: HttpFilter; readonly facts: ApplicationFacts },
): Said {
  const { rendered, config, isOneForAll, application } = facts;
  const settings = settingsOf(filter, levels);
  const session = at(settings, 'stateful_session');
  const model = { session_state: at(sessionOf(rendered.filter(MODEL)), 'session_state') };
  const lines = {
    [filter.name]: { '@type': `type.googleapis.com/${STATEFUL_SESSION_PER_ROUTE}`, stateful_session: model },
  };
  const place = `typed_per_filter_config of ${name}`;
  const fix = yaml(`in ${place}${settings === undefined ? '' : `, in place of ${filter.name}`}:`, lines);
  if (settings !== undefined && !isOn(filter, levels)) {
    return wrong(`${name} switches ${filter.name} off: no client stays at its server`, fix);
  }
  if (session === undefined) {
    const inForce = { ...filter, isDisabled: filter.isDisabled && settings === undefined };
    if (isOneForAll) return ofFilter(inForce, facts);
    const own = [ofFilter(inForce, facts)].flat();
    if (own.every(({ mark }) => mark === 'ok')) return own;
    return wrong(`${name} does not set the cookie ${application.localPool.cookie.name}`, fix);
  }
  const state = typeOf(at(session, 'session_state', 'typed_config'));
  if (state !== COOKIE_SESSION_STATE) {
    return wrong(`${name} keeps its state by ${state ?? 'nothing'}, not by a cookie`, fix);
  }
  const subject = {
    place,
    actual: session,
    rendered: model,
    config,
  };
  const troubles = troublesOf(STICKINESS_FIELDS, subject);
  if (troubles.length === 0) return judge(STICKINESS_FIELDS, subject);
  return troubles.map(({ mark, text }) => ({ mark, text: `${name}: ${text}`, fix }));
}

/** The cookie is only set on answers that the local pool's upstream filter has marked. */
function onlyOwnAnswers(manager: ConnectionManager, { application, expected, snapshot }: ApplicationFacts): Said {
  const filter = stickinessFilter(manager, application);
  const { cluster } = application.localPool;
  const settings = snapshot.clusters.get(cluster);
  // What is not there at all is said elsewhere.
  if (filter === undefined || settings === undefined) return [];
  if (filter.matcher === undefined) {
    return warn(
      "this site's cookie is also set on answers that no server of this site gave: a 503, or what a retry got elsewhere",
      yaml(`instead of the stateful_session filter (${cluster} must mark its answers as well):`, [
        expected.filter(MODEL),
      ]),
    );
  }
  if (!setsMark(filter, settings)) {
    return wrong(
      `the stateful_session filter waits for a mark that ${cluster} does not set on its answers: no client gets a cookie`,
      yaml(`in cluster ${cluster}:`, pick(expected.cluster(cluster), 'typed_extension_protocol_options')),
    );
  }
  return ok(`only an answer of ${cluster} sets the cookie`);
}

/** Whether the upstream filter of a cluster sets the header by which the filter's match tree knows the local pool's answers. */
export function setsMark({ matcher }: HttpFilter, cluster: unknown): boolean {
  const asked = JSON.stringify(matcher);
  return upstreamMutations(cluster, 'response_mutations').some((mutation) =>
    ['key', 'value'].every((part) => {
      const text = textAt(mutation, 'append', 'header', part);
      return text !== undefined && asked.includes(JSON.stringify(text));
    }),
  );
}

function cookieLifetime({ application, version }: ApplicationFacts): Said {
  const { name, ttlMs } = application.localPool.cookie;
  if (ttlMs === null) return ok(`${name} has no ttl: a session lasts as long as the browser`);
  const text = `${name} has a ttl of ${ttlMs / 1_000} s: a session gets a new server then, in use or not`;
  if (hasWallClockCookies(version)) return ok(text);
  return warn(`${text}; Envoy ${version} counts that by its machine's uptime: two Envoys of one site disagree`);
}

/** Envoy reads the first of them; one that it can't read is replaced in each answer, and never read. */
function duplicateCookies({ application, duplicateCookies: counts }: ApplicationFacts): Said {
  const { name, path, domain } = application.localPool.cookie;
  const count = counts?.get(application.name);
  // Whether a sidecar runs is said elsewhere.
  if (count === undefined) return [];
  if (count === 0) {
    return ok(`no request has carried ${name} twice`);
  }
  return warn(
    `${count} requests carried ${name} twice: where Envoy can't read the first, the client gets a new server each time`,
    steps(
      'the cookie must have the path and domain that it was first set with:',
      `now: path ${path}, domain ${domain ?? 'none'}; see the guide from Avi`,
    ),
  );
}
