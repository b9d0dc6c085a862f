import { STAND_IN } from '../../envoy-config/names.ts';
import { hasWallClockCookies } from '../../envoy-config/versions.ts';
import { type ConnectionManager, type HttpFilter, withoutMatcher } from '../connection-managers.ts';
import { COOKIE_SESSION_STATE, HEALTH_CHECK, STATEFUL_SESSION } from '../extension-types.ts';
import type { Edge, Facts } from '../facts.ts';
import { type Fix, ok, steps, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { at, durationMsAt, entriesAt, isTrueAt, listAt, pick, textAt, typeOf } from '../json.ts';
import { matchString } from '../route-match.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge } from './edges.ts';
import { upstreamMutations } from './upstream-mutations.ts';

/** What keeps a client at its server, and answers the status URI without a sidecar. */
export const STICKINESS_CHECKS: CheckGroup = {
  name: 'Filters after it',
  checks: [
    { name: 'stickiness', run: (facts) => [...eachEdge(facts, stickiness), ...standIn(facts)] },
    { name: 'own answers', run: (facts) => eachEdge(facts, onlyOwnAnswers) },
    { name: 'cookies', run: duplicateCookies },
    { name: 'cookie lifetime', run: cookieLifetime },
    { name: 'status URI', run: (facts) => eachEdge(facts, statusUri) },
  ],
};

const MODEL = 'envoy.filters.http.stateful_session';

export function stickinessFilter(manager: ConnectionManager): HttpFilter | undefined {
  return manager.filters.find(({ type }) => type === STATEFUL_SESSION);
}

/** The listener through which this site stands in for another gives the same cookie. */
function standIn(facts: Facts): Verdict[] {
  const managers = facts.snapshot.connectionManagers.filter(({ listener }) => listener === STAND_IN);
  return managers.flatMap((manager) =>
    stickiness(manager, facts)
      .filter(({ mark }) => mark !== 'ok')
      .map((verdict) => ({ ...verdict, text: `${manager.label}: ${verdict.text}` })),
  );
}

function stickiness(manager: ConnectionManager, { config, expected }: Facts): Verdict[] {
  const filter = stickinessFilter(manager);
  const whole = yaml('in http_filters, after ext_proc and before the router:', [expected.filter(MODEL)]);
  if (filter === undefined) {
    return [
      wrong(
        "there is no stateful_session filter: no client stays at its server, and none gets this site's cookie",
        whole,
      ),
    ];
  }
  const fix = yaml('in the stateful_session filter:', pick(expected.filter(MODEL), 'typed_config'));
  if (filter.isDisabled) return [wrong('the stateful_session filter is switched off (disabled: true)', whole)];
  const state = at(filter.config, 'session_state', 'typed_config');
  if (typeOf(state) !== COOKIE_SESSION_STATE) {
    return [wrong(`stateful_session keeps its state by ${typeOf(state) ?? 'nothing'}, not by a cookie`, fix)];
  }
  const differences = cookieDifferences(at(state, 'cookie'), cookieOf(expected.filter(MODEL)));
  if (differences.length > 0) {
    return [wrong(`the cookie is not the config's ${config.localPool.cookie.name}: ${differences.join(', ')}`, fix)];
  }
  if (isTrueAt(filter.config, 'strict')) {
    const text = 'strict: a client whose server is down gets a 503 instead of another server';
    const own = { typed_config: { strict: false } };
    const notStrict = filter.matcher === undefined ? own : { typed_config: { extension_config: own } };
    return [wrong(text, yaml('in the stateful_session filter:', notStrict))];
  }
  return [ok(`cookie ${config.localPool.cookie.name}, as in the config`)];
}

/** The cookie is only set on answers that the local pool's upstream filter has marked. */
function onlyOwnAnswers(manager: ConnectionManager, { config, expected, snapshot }: Facts): Verdict[] {
  const filter = stickinessFilter(manager);
  const { cluster } = config.localPool;
  const settings = snapshot.clusters.get(cluster);
  // What is not there at all is said elsewhere.
  if (filter === undefined || settings === undefined) return [];
  if (filter.matcher === undefined) {
    return [
      warn(
        "this site's cookie is also set on answers that no server of this site gave: a 503, or what a retry got elsewhere",
        yaml(`instead of the stateful_session filter (${cluster} must mark its answers as well):`, [
          expected.filter(MODEL),
        ]),
      ),
    ];
  }
  if (!hasMark(filter, settings)) {
    return [
      wrong(
        `the stateful_session filter waits for a mark that ${cluster} does not set on its answers: no client gets a cookie`,
        yaml(`in cluster ${cluster}:`, pick(expected.cluster(cluster), 'typed_extension_protocol_options')),
      ),
    ];
  }
  return [ok(`only an answer of ${cluster} sets the cookie`)];
}

/** Whether the local pool's upstream filter sets the header by which the filter's match tree knows its answers. */
function hasMark({ matcher }: HttpFilter, localCluster: unknown): boolean {
  const asked = JSON.stringify(matcher);
  return upstreamMutations(localCluster, 'response_mutations').some((mutation) =>
    ['key', 'value'].every((part) => {
      const text = textAt(mutation, 'append', 'header', part);
      return text !== undefined && asked.includes(JSON.stringify(text));
    }),
  );
}

function cookieOf(filter: unknown): unknown {
  return at(withoutMatcher(at(filter, 'typed_config')), 'session_state', 'typed_config', 'cookie');
}

/** `path is /app, not /`: what browsers go by when a cookie is to be replaced or expired. */
function cookieDifferences(actual: unknown, wanted: unknown): string[] {
  const differences: string[] = [];
  const compare = (what: string, found: string | undefined, right: string | undefined) => {
    if (found !== right) differences.push(`${what} is ${found ?? 'not set'}, not ${right ?? 'unset'}`);
  };
  compare('its name', textAt(actual, 'name'), textAt(wanted, 'name'));
  compare('path', textAt(actual, 'path'), textAt(wanted, 'path'));
  const seconds = (cookie: unknown) => {
    const ms = durationMsAt(cookie, 'ttl');
    return ms === undefined || ms === 0 ? undefined : `${ms / 1000}s`;
  };
  compare('ttl', seconds(actual), seconds(wanted));
  const [found, right] = [attributesOf(actual), attributesOf(wanted)];
  for (const name of new Set([...found.keys(), ...right.keys()])) {
    if (name !== 'httponly') compare(name, found.get(name), right.get(name));
  }
  return differences;
}

function cookieLifetime({ config, version }: Facts): Verdict[] {
  const { name, ttlMs } = config.localPool.cookie;
  if (ttlMs === null) return [ok(`${name} has no ttl: a session lasts as long as the browser`)];
  const text = `${name} has a ttl of ${ttlMs / 1_000} s: a session gets a new server then, in use or not`;
  if (hasWallClockCookies(version)) return [ok(text)];
  return [warn(`${text}; Envoy ${version} counts that by its machine's uptime: two Envoys of one site disagree`)];
}

/** By lower-case name; one without a value, such as Secure, is `set`. */
function attributesOf(cookie: unknown): ReadonlyMap<string, string> {
  return new Map(
    listAt(cookie, 'attributes').map((item) => [
      textAt(item, 'name')?.toLowerCase() ?? '',
      textAt(item, 'value')?.toLowerCase() || 'set',
    ]),
  );
}

/** Envoy reads the first of them; one that it can't read is replaced in each answer, and never read. */
function duplicateCookies({ config, duplicateCookies: count }: Facts): Verdict[] {
  const { name, path, domain } = config.localPool.cookie;
  // Whether a sidecar runs is said elsewhere.
  if (count === null) return [];
  if (count === 0) {
    const unseen = config.envoy.fastPath ? ' of those that the sidecar sees; the fast path hides the rest' : '';
    return [ok(`no request has carried ${name} twice${unseen}`)];
  }
  return [
    warn(
      `${count} requests carried ${name} twice: where Envoy can't read the first, the client gets a new server each time`,
      steps(
        'the cookie must have the path and domain that it was first set with:',
        `now: path ${path}, domain ${domain ?? 'none'}; see the guide from Avi`,
      ),
    ),
  ];
}

function statusUri(edge: Edge, { config, expected }: Facts): Verdict[] {
  const model = expected.filter('envoy.filters.http.health_check');
  const whole: Fix = yaml('in http_filters, after ext_proc:', [model]);
  const checks = edge.filters.filter(({ type, isDisabled }) => type === HEALTH_CHECK && !isDisabled);
  const text = `without a sidecar nothing answers ${config.statusUri}: the site looks down`;
  if (checks.length === 0) return [warn(`there is no health_check filter: ${text}`, whole)];
  const forStatus = checks.filter((filter) => asksFor(filter, config.statusUri));
  if (forStatus.length === 0) return [warn(`no health_check filter is for ${config.statusUri}: ${text}`, whole)];
  const byPool = forStatus.some((filter) =>
    entriesAt(filter.config, 'cluster_min_healthy_percentages').some(([name]) => name === config.localPool.cluster),
  );
  if (forStatus.some((filter) => isTrueAt(filter.config, 'pass_through_mode'))) {
    return [warn(`the health_check filter passes ${config.statusUri} on to a server (pass_through_mode)`, whole)];
  }
  if (byPool)
    return [ok(`${config.statusUri} is answered by the health of ${config.localPool.cluster} without a sidecar`)];
  return [
    warn(
      `without a sidecar ${config.statusUri} is answered 200, however ${config.localPool.cluster} is`,
      yaml('in the health_check filter:', pick(at(model, 'typed_config'), 'cluster_min_healthy_percentages')),
    ),
  ];
}

function asksFor(filter: HttpFilter, path: string): boolean {
  return listAt(filter.config, 'headers').some((matcher) => {
    if (textAt(matcher, 'name') !== ':path') return false;
    const exact = textAt(matcher, 'exact_match');
    return exact === path || matchString(at(matcher, 'string_match'), path) === 'yes';
  });
}
