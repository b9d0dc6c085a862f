import { FAST_PATH_KEY, HOP_HEADER, METADATA_NAMESPACE, POOL_HEADER } from '../../contract.ts';
import { HEADER_LIMITS } from '../../envoy-config/header-limits.ts';
import type { HttpFilter } from '../connection-managers.ts';
import { createDestinationReader } from '../destination.ts';
import { EARLY_HEADER_MUTATION, EXT_PROC, HEALTH_CHECK, ROUTER, STATEFUL_SESSION } from '../extension-types.ts';
import { type Edge, type Facts, formatSidecar } from '../facts.ts';
import { type Fix, ok, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { at, durationMsAt, isTrueAt, listAt, numberAt, pick, textAt, typeOf } from '../json.ts';
import { matchString } from '../route-match.ts';
import { isExtProcOff } from '../route-survey.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge } from './edges.ts';

/** The ext_proc filter: that it asks the sidecars, when, and what it makes of the answers. */
export const FILTER_CHECKS: CheckGroup = {
  name: 'Filter ext_proc',
  checks: [
    { name: 'present', run: present },
    { name: 'order', run: (facts) => eachEdge(facts, order) },
    { name: 'own pool header', run: (facts) => eachEdge(facts, earlyMutation) },
    { name: 'processing mode', run: (facts) => eachEdge(facts, processingMode) },
    { name: 'mode override', run: (facts) => eachEdge(facts, modeOverride) },
    { name: 'answers', run: (facts) => eachEdge(facts, answersApplied) },
    { name: 'route cache', run: (facts) => eachEdge(facts, routeCache) },
    { name: 'failure mode', run: (facts) => eachEdge(facts, failureMode) },
    { name: 'message timeout', run: (facts) => eachEdge(facts, messageTimeout) },
    { name: 'retries', run: (facts) => eachEdge(facts, retries) },
    { name: 'headers sent', run: (facts) => eachEdge(facts, forwardRules) },
    { name: 'header limits', run: (facts) => eachEdge(facts, headerLimits) },
    { name: 'metadata', run: (facts) => eachEdge(facts, metadata) },
    { name: 'switched off', run: (facts) => eachEdge(facts, switchedOff) },
  ],
};

const IN_FILTER = 'in typed_config of the ext_proc filter:';

/** The filter as it is printed for this site. */
const MODEL = 'envoy.filters.http.ext_proc';

function fixOf(facts: Facts, ...path: readonly string[]): Fix {
  return yaml(IN_FILTER, pick(at(facts.expected.filter(MODEL), 'typed_config'), ...path));
}

function present(facts: Facts): Verdict[] {
  const { edges, snapshot, config, expected } = facts;
  if (snapshot.unread.has('configDump')) return [unchecked('the config cannot be read')];
  const verdicts: Verdict[] = [];
  const reader = createDestinationReader(config, snapshot);
  const leadsToPools = (routeConfig: unknown) =>
    listAt(routeConfig, 'virtual_hosts').some((host) =>
      listAt(host, 'routes').some((route) => (reader.read(route, routeConfig, {})?.first.size ?? 0) > 0),
    );
  for (const manager of snapshot.connectionManagers) {
    for (const what of manager.unread) verdicts.push(unchecked(`${manager.label}: not read: ${what}`));
  }
  for (const edge of edges) {
    if (edge.extProc.isDisabled) {
      const fix = yaml(`in the filter ${edge.extProc.name} of http_filters:`, { disabled: false });
      verdicts.push(wrong(`${edge.label}: the filter is there but switched off (disabled: true)`, fix));
    } else if (snapshot.openListeners?.has(edge.listener) === false && !edge.isInternal) {
      verdicts.push(warn(`${edge.label} asks the sidecars, but is not open (/listeners)`));
    } else {
      verdicts.push(ok(`${edge.label} asks ${edge.sidecarCluster ?? 'the sidecars'} (${edge.extProc.name})`));
    }
  }
  const fix = yaml('in http_filters, before all that must see its decision:', [expected.filter(MODEL)]);
  if (edges.length === 0) {
    const others = snapshot.connectionManagers.flatMap((manager) =>
      manager.filters.filter(({ type }) => type === EXT_PROC),
    );
    const wanted = config.envoy.sidecars.map(formatSidecar).join(', ');
    const seen =
      others.length === 0 ? '' : `; those that are there (${others.map(({ name }) => name).join(', ')}) ask others`;
    verdicts.push(wrong(`no listener has an ext_proc filter that asks ${wanted}${seen}`, fix));
    return verdicts;
  }
  const isEdge = new Set(edges.map(({ config: manager }) => manager));
  for (const manager of snapshot.connectionManagers) {
    if (manager.isInternal || isEdge.has(manager.config) || !leadsToPools(manager.routeConfig)) continue;
    verdicts.push(warn(`${manager.label} leads to the pools too, but asks no sidecar`, fix));
  }
  return verdicts;
}

/** What must see the decision: the status URI's second answer, the stickiness, and the routing itself. */
const AFTER = [HEALTH_CHECK, STATEFUL_SESSION, ROUTER];

function order(edge: Edge): Verdict[] {
  const position = edge.filters.indexOf(edge.extProc);
  const before = edge.filters.slice(0, position).filter(({ type }) => AFTER.includes(type));
  if (before.length === 0) {
    const names = edge.filters.slice(position).map(({ name }) => name);
    return [ok(names.join(', then '))];
  }
  const late = new Set<HttpFilter>(before);
  const right = [...edge.filters.slice(0, position).filter((filter) => !late.has(filter)), edge.extProc];
  const rest = edge.filters.filter((filter) => !right.includes(filter));
  return [
    wrong(
      `${edge.extProc.name} comes after ${before.map(({ name }) => name).join(', ')}, which must see its decision`,
      yaml('http_filters in this order, each with the config that it has:', {
        http_filters: [...right, ...rest].map(({ name }) => ({ name })),
      }),
    ),
  ];
}

function earlyMutation(edge: Edge, { expected, config }: Facts): Verdict[] {
  const mutations = listAt(edge.config, 'early_header_mutation_extensions')
    .map((extension) => at(extension, 'typed_config'))
    .filter((config) => typeOf(config) === EARLY_HEADER_MUTATION)
    .flatMap((config) => listAt(config, 'mutations'));
  const removes = (header: string) =>
    mutations.some(
      (mutation) =>
        textAt(mutation, 'remove')?.toLowerCase() === header ||
        matchString(at(mutation, 'remove_on_match', 'key_matcher'), header) === 'yes',
    );
  const fix = yaml('in the connection manager:', pick(expected.connectionManager, 'early_header_mutation_extensions'));
  // With it that is right at all listeners but one, and which that is, is not to be seen.
  if (removes(HOP_HEADER) && !config.envoy.hopListenOnly) {
    return [wrong(`it removes ${HOP_HEADER} from requests as well: forwarded requests could loop`, fix)];
  }
  if (removes(POOL_HEADER)) return [ok(`a client's ${POOL_HEADER} is gone before any filter`)];
  return [
    wrong(`a client's own ${POOL_HEADER} is not removed: while no sidecar answers, clients choose their pool`, fix),
  ];
}

function processingMode(edge: Edge, facts: Facts): Verdict[] {
  const mode = at(edge.extProc.config, 'processing_mode');
  const fix = fixOf(facts, 'processing_mode');
  const verdicts: Verdict[] = [];
  // SEND is the default of both header modes, and SKIP of both trailer modes.
  if ((textAt(mode, 'request_header_mode') ?? 'DEFAULT') === 'SKIP') {
    verdicts.push(wrong('request_header_mode is SKIP: the sidecar is asked nothing', fix));
  }
  for (const key of ['request_body_mode', 'response_body_mode']) {
    const value = textAt(mode, key) ?? 'NONE';
    if (value !== 'NONE')
      verdicts.push(wrong(`${key} is ${value}: bodies go to the sidecar, which has no use for them`, fix));
  }
  const response = textAt(mode, 'response_header_mode') ?? 'DEFAULT';
  if (response !== 'SKIP') {
    const text = response === 'DEFAULT' ? 'not SKIP, so SEND' : response;
    verdicts.push(warn(`response_header_mode is ${text}: a second question for each request, where few need it`, fix));
  }
  for (const key of ['request_trailer_mode', 'response_trailer_mode']) {
    if (textAt(mode, key) === 'SEND') verdicts.push(warn(`${key} is SEND: the sidecar has no use for trailers`, fix));
  }
  return verdicts.length > 0 ? verdicts : [ok('request headers are sent, and nothing else')];
}

function modeOverride(edge: Edge, facts: Facts): Verdict[] {
  const { config } = facts;
  const settings = edge.extProc.config;
  if (isTrueAt(settings, 'allow_mode_override')) {
    const allowed = listAt(settings, 'allowed_override_modes');
    const isAllowed = (mode: unknown) => textAt(mode, 'response_header_mode') === 'SEND';
    if (allowed.length === 0 || allowed.some(isAllowed)) return [ok('the sidecar may ask for the response headers')];
    const mode = { response_header_mode: 'SEND' };
    return [
      wrong(
        'allowed_override_modes does not let the sidecar ask for the response headers: no cookie is expired',
        yaml(IN_FILTER, { allowed_override_modes: [mode] }),
      ),
    ];
  }
  const fix = fixOf(facts, 'allow_mode_override');
  const text = 'allow_mode_override is not set: the sidecar can expire no cookie';
  if (config.onOwnerDown === 'keep') return [warn(`${text}, which on_owner_down: keep does not do anyway`, fix)];
  return [wrong(`${text}, and sessions bounce between the sites`, fix)];
}

function answersApplied(edge: Edge): Verdict[] {
  const settings = edge.extProc.config;
  const verdicts: Verdict[] = [];
  const off = (key: string) => yaml(IN_FILTER, { [key]: false });
  if (isTrueAt(settings, 'observability_mode')) {
    verdicts.push(wrong('observability_mode: Envoy asks, and does not wait for the answer', off('observability_mode')));
  }
  if (isTrueAt(settings, 'disable_immediate_response')) {
    const text = 'disable_immediate_response: the status URI is not answered, and no request is refused';
    verdicts.push(wrong(text, off('disable_immediate_response')));
  }
  const rules = at(settings, 'mutation_rules');
  if (isTrueAt(rules, 'disallow_all')) {
    const text = `mutation_rules.disallow_all: the sidecar's ${POOL_HEADER} is thrown away`;
    verdicts.push(wrong(text, yaml(IN_FILTER, { mutation_rules: { disallow_all: false } })));
  } else if (at(rules, 'allow_expression') !== undefined || at(rules, 'disallow_expression') !== undefined) {
    verdicts.push(unchecked(`mutation_rules has expressions: they must let ${POOL_HEADER} and set-cookie through`));
  }
  return verdicts.length > 0 ? verdicts : [ok("the sidecar's answers are applied")];
}

function routeCache(edge: Edge): Verdict[] {
  const settings = edge.extProc.config;
  if (textAt(settings, 'route_cache_action') === 'RETAIN') {
    const fix = yaml(IN_FILTER, { route_cache_action: 'DEFAULT' });
    return [
      wrong('route_cache_action is RETAIN: the route is chosen before the decision, which then has no effect', fix),
    ];
  }
  if (isTrueAt(settings, 'disable_clear_route_cache')) {
    const fix = yaml(IN_FILTER, { disable_clear_route_cache: false });
    return [wrong('disable_clear_route_cache: the route is chosen before the decision, which then has no effect', fix)];
  }
  return [ok('the route is chosen after the decision')];
}

function failureMode(edge: Edge, facts: Facts): Verdict[] {
  if (isTrueAt(edge.extProc.config, 'failure_mode_allow')) return [ok('without a sidecar requests go on')];
  return [
    wrong('failure_mode_allow is not set: without a sidecar every request fails', fixOf(facts, 'failure_mode_allow')),
  ];
}

const DEFAULT_MESSAGE_TIMEOUT_MS = 200;
const LONG_MS = 5_000;

function messageTimeout(edge: Edge, facts: Facts): Verdict[] {
  const fix = fixOf(facts, 'message_timeout');
  const wantedMs = durationMsAt(at(facts.expected.filter(MODEL), 'typed_config'), 'message_timeout') ?? 0;
  const timeoutMs = durationMsAt(edge.extProc.config, 'message_timeout') ?? DEFAULT_MESSAGE_TIMEOUT_MS;
  if (timeoutMs < wantedMs) {
    return [warn(`${timeoutMs} ms: in a burst of requests some go on before they are decided`, fix)];
  }
  if (timeoutMs > LONG_MS) return [warn(`${timeoutMs / 1000} s: so long a sidecar that hangs holds requests up`, fix)];
  return [ok(`${timeoutMs} ms`)];
}

function retries(edge: Edge, facts: Facts): Verdict[] {
  const policy = at(edge.extProc.config, 'grpc_service', 'retry_policy');
  const fix = fixOf(facts, 'grpc_service', 'retry_policy');
  if (policy === undefined) {
    const useless = at(edge.extProc.config, 'grpc_service', 'envoy_grpc', 'retry_policy') !== undefined;
    const hint = useless ? ' (envoy_grpc.retry_policy does nothing)' : '';
    return [wrong(`grpc_service has no retry_policy${hint}: each restart of a sidecar skips decisions`, fix)];
  }
  const model = at(facts.expected.filter(MODEL), 'typed_config', 'grpc_service', 'retry_policy');
  const missing = conditionsOf(model).filter((condition) => !conditionsOf(policy).includes(condition));
  if (missing.length > 0) return [wrong(`grpc_service.retry_policy does not retry on ${missing.join(', ')}`, fix)];
  if (numberAt(policy, 'num_retries') === 0) return [wrong('grpc_service.retry_policy has num_retries: 0', fix)];
  if (listAt(policy, 'retry_host_predicate').length === 0 && facts.config.envoy.sidecars.length > 1) {
    return [warn('grpc_service.retry_policy has no previous_hosts predicate: a retry may meet the same sidecar', fix)];
  }
  return [ok('a call that a sidecar did not take is retried')];
}

const DEFAULT_MAX_HEADERS = 100;
const DEFAULT_MAX_HEADERS_KB = 60;

/** What a sidecar adds counts, and past the limit Envoy answers 500, whatever the failure mode. */
function headerLimits(edge: Edge): Verdict[] {
  const count = numberAt(edge.config, 'common_http_protocol_options', 'max_headers_count') ?? DEFAULT_MAX_HEADERS;
  const kb = numberAt(edge.config, 'max_request_headers_kb') ?? DEFAULT_MAX_HEADERS_KB;
  if (count > DEFAULT_MAX_HEADERS && kb > DEFAULT_MAX_HEADERS_KB) return [ok(`${count} headers, ${kb} KiB`)];
  return [
    warn(
      `${count} headers, ${kb} KiB: a request near that is answered 500, for the sidecar adds a header`,
      yaml('in the connection manager:', {
        max_request_headers_kb: HEADER_LIMITS.kb,
        common_http_protocol_options: { max_headers_count: HEADER_LIMITS.count },
      }),
    ),
  ];
}

export function conditionsOf(retryPolicy: unknown): string[] {
  return (textAt(retryPolicy, 'retry_on') ?? '').split(',').map((condition) => condition.trim());
}

function forwardRules(edge: Edge, facts: Facts): Verdict[] {
  const fix = fixOf(facts, 'forward_rules');
  const rules = at(edge.extProc.config, 'forward_rules');
  const allowed = listAt(rules, 'allowed_headers', 'patterns');
  const disallowed = listAt(rules, 'disallowed_headers', 'patterns');
  const model = at(facts.expected.filter(MODEL), 'typed_config');
  const needed = listAt(model, 'forward_rules', 'allowed_headers', 'patterns').flatMap(
    (item) => textAt(item, 'exact') ?? [],
  );
  const isKept = (header: string) => {
    const isIn = (patterns: readonly unknown[]) => patterns.some((pattern) => matchString(pattern, header) === 'yes');
    return !isIn(disallowed) && (at(rules, 'allowed_headers') === undefined || isIn(allowed));
  };
  const missing = needed.filter((header) => !isKept(header));
  if (missing.length > 0)
    return [wrong(`forward_rules holds back headers that the sidecar reads: ${missing.join(', ')}`, fix)];
  if (isKept('authorization'))
    return [warn('every header leaves Envoy, Authorization too, though the sidecar reads few', fix)];
  return [ok('the sidecar gets what it reads')];
}

function metadata(edge: Edge, facts: Facts): Verdict[] {
  const namespaces = listAt(edge.extProc.config, 'metadata_options', 'receiving_namespaces', 'untyped');
  if (namespaces.includes(METADATA_NAMESPACE)) return [ok(`${METADATA_NAMESPACE} may be set, for the access log`)];
  const text = `the decision does not get into the access log: the metadata namespace ${METADATA_NAMESPACE} is not received`;
  return [warn(text, fixOf(facts, 'metadata_options'))];
}

function switchedOff(edge: Edge): Verdict[] {
  const names = listAt(edge.routeConfig, 'virtual_hosts').flatMap((host) => [
    ...(isExtProcOff(host, edge) ? [`virtual host ${textAt(host, 'name')}`] : []),
    ...listAt(host, 'routes')
      .filter((route) => isExtProcOff(route, edge))
      .filter((route) => textAt(route, 'match', 'runtime_fraction', 'runtime_key') !== FAST_PATH_KEY)
      .map((route) => `route ${textAt(route, 'name') ?? '(no name)'}`),
  ]);
  if (names.length === 0) return [ok('for no route')];
  return [warn(`without a decision, since their config says so: ${names.join(', ')}`)];
}
