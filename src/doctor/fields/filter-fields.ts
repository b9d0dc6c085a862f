import { isOneForEveryHost } from '../../config/config.ts';
import { HOP_HEADER, POOL_HEADER } from '../../contract.ts';
import { HEADERS_FOR_SIDECAR } from '../../envoy-config/filters.ts';
import { EARLY_HEADER_MUTATION } from '../extension-types.ts';
import { at, listAt, textAt, typeOf } from '../json.ts';
import { matchString } from '../route-match.ts';
import type { Field, FieldTable, Subject } from './field.ts';
import { atLeast, atMost, excludes, includesRendered, isSet, isUnset, not } from './rules.ts';

const isKeeping = ({ config }: Subject) => config.applications.every(({ onOwnerDown }) => onOwnerDown === 'keep');
const isByHost = ({ config }: Subject) => !isOneForEveryHost(config);
const isTaking = (subject: Subject) => !isKeeping(subject);
const limitsModes = ({ actual }: Subject) => listAt(actual, 'allowed_override_modes').length > 0;
const hasSeveralSidecars = ({ config }: Subject) => config.envoy.sidecars.length > 1;

const BODIES = 'bodies go to the sidecar, which has no use for them';
const TRAILERS = 'the sidecar has no use for trailers';
const NO_EXPIRY = 'the sidecar can expire no cookie';
const UNHEARD = `it must let ${POOL_HEADER} and set-cookie through`;
const NO_EFFECT = 'the route is chosen before the decision, which then has no effect';
const SKIPPED = 'each restart of a sidecar skips decisions';
const LATE = 'in a burst of requests some go on before they are decided';

const FORWARDED = {
  path: 'forward_rules',
  read: forwarded(...HEADERS_FOR_SIDECAR, 'authorization'),
  fix: 'forward_rules',
};
const AUTHORITY = { ...FORWARDED, when: isByHost, read: forwarded(':authority'), want: ':authority' };

/** Reads which of these headers the filter sends. */
function forwarded(...headers: readonly string[]) {
  return (filter: unknown): string[] => {
    const rules = at(filter, 'forward_rules');
    const isIn = (name: string, header: string) =>
      listAt(rules, name, 'patterns').some((pattern) => matchString(pattern, header) === 'yes');
    return headers.filter(
      (header) =>
        !isIn('disallowed_headers', header) &&
        (at(rules, 'allowed_headers') === undefined || isIn('allowed_headers', header)),
    );
  };
}

/** Of the ext_proc filter: what it asks the sidecars, and what it makes of the answers. */
export const EXT_PROC_FIELDS: FieldTable = {
  'processing mode': [
    { path: 'processing_mode.request_header_mode', must: not('SKIP'), wrong: 'the sidecar is asked nothing' },
    { path: 'processing_mode.request_body_mode', unset: 'NONE', wrong: BODIES },
    { path: 'processing_mode.response_body_mode', unset: 'NONE', wrong: BODIES },
    { path: 'processing_mode.response_header_mode', unset: 'SEND', warn: 'few requests need that second question' },
    { path: 'processing_mode.request_trailer_mode', want: 'SKIP', must: not('SEND'), warn: TRAILERS },
    { path: 'processing_mode.response_trailer_mode', want: 'SKIP', must: not('SEND'), warn: TRAILERS },
  ],
  'mode override': [
    { path: 'allow_mode_override', when: isTaking, wrong: `${NO_EXPIRY}, and sessions bounce between the sites` },
    { path: 'allow_mode_override', when: isKeeping, warn: `${NO_EXPIRY}, which on_owner_down: keep does not anyway` },
    { path: 'allowed_override_modes[].response_header_mode', when: limitsModes, want: 'SEND', wrong: NO_EXPIRY },
  ],
  answers: [
    { path: 'observability_mode', unset: false, wrong: 'Envoy asks, and does not wait for the answer' },
    { path: 'disable_immediate_response', unset: false, wrong: 'the status URI is not answered, nothing refused' },
    { path: 'mutation_rules.disallow_all', unset: false, wrong: `the sidecar's ${POOL_HEADER} is thrown away` },
    { path: 'mutation_rules.allow_expression', must: isUnset, unchecked: UNHEARD },
    { path: 'mutation_rules.disallow_expression', must: isUnset, unchecked: UNHEARD },
  ],
  'route cache': [
    { path: 'route_cache_action', unset: 'DEFAULT', must: not('RETAIN'), wrong: NO_EFFECT },
    { path: 'disable_clear_route_cache', unset: false, wrong: NO_EFFECT },
  ],
  'headers sent': [
    { ...FORWARDED, must: includesRendered, wrong: 'the sidecar reads what is held back' },
    { ...AUTHORITY, must: includesRendered, wrong: 'the sidecar finds no application, and decides nothing' },
    { ...FORWARDED, must: excludes('authorization'), warn: 'every header leaves Envoy, though the sidecar reads few' },
  ],
  'failure mode': [{ path: 'failure_mode_allow', wrong: 'without a sidecar every request fails' }],
  'message timeout': [
    { path: 'message_timeout', unset: '0.2s', must: atLeast(), warn: LATE },
    { path: 'message_timeout', unset: '0.2s', must: atMost('5s'), warn: 'so long a hung sidecar holds requests up' },
  ],
  retries: [
    { path: 'grpc_service.retry_policy', must: isSet, wrong: `${SKIPPED} (envoy_grpc.retry_policy does nothing)` },
    { path: 'grpc_service.retry_policy.retry_on', must: includesRendered, wrong: SKIPPED },
    { path: 'grpc_service.retry_policy.num_retries', unset: 1, must: atLeast(1), wrong: SKIPPED },
    {
      path: 'grpc_service.retry_policy.retry_host_predicate',
      when: hasSeveralSidecars,
      must: isSet,
      warn: 'a retry may meet the same sidecar',
    },
  ],
  metadata: [
    {
      path: 'metadata_options.receiving_namespaces.untyped',
      must: includesRendered,
      warn: 'the decision does not get into the access log',
    },
  ],
};

const EARLY_REMOVAL = 'early_header_mutation_extensions';
const EARLY = { path: `${EARLY_REMOVAL}.remove`, read: removedEarly, fix: EARLY_REMOVAL };
const believesHop = ({ config }: Subject) => !config.envoy.hopListenOnly;

/** Those of the two headers that are gone before any filter. */
function removedEarly(manager: unknown): string[] {
  const mutations = listAt(manager, EARLY_REMOVAL)
    .map((extension) => at(extension, 'typed_config'))
    .filter((config) => typeOf(config) === EARLY_HEADER_MUTATION)
    .flatMap((config) => listAt(config, 'mutations'));
  return [POOL_HEADER, HOP_HEADER].filter((header) =>
    mutations.some(
      (mutation) =>
        textAt(mutation, 'remove')?.toLowerCase() === header ||
        matchString(at(mutation, 'remove_on_match', 'key_matcher'), header) === 'yes',
    ),
  );
}

const CHOOSE = 'while no sidecar answers, clients choose their pool by it';
const NEAR_LIMIT = 'a request near that is answered 500, for the sidecar adds a header';

/** Of the connection manager. Past a limit Envoy answers 500, whatever the failure mode: its defaults are too low. */
export const MANAGER_FIELDS: FieldTable = {
  'own pool header': [
    // With hop_listen_only that is right at all listeners but one, and which that is, is not to be seen.
    { ...EARLY, when: believesHop, must: excludes(HOP_HEADER), wrong: 'forwarded requests could loop' },
    { ...EARLY, want: [POOL_HEADER], must: includesRendered, wrong: CHOOSE },
  ],
  'header limits': [
    { path: 'common_http_protocol_options.max_headers_count', unset: 100, must: atLeast(101), warn: NEAR_LIMIT },
    { path: 'max_request_headers_kb', unset: 60, must: atLeast(61), warn: NEAR_LIMIT },
  ],
};

const COOKIE = 'session_state.typed_config.cookie';
const OTHER_COOKIE = "that is not this site's cookie in the config file";

/** Of the stateful_session filter. The cookie's are what browsers go by when it is to be replaced or expired. */
export const STICKINESS_FIELDS: readonly Field[] = [
  { path: `${COOKIE}.name`, wrong: OTHER_COOKIE },
  { path: `${COOKIE}.path`, wrong: OTHER_COOKIE },
  { path: `${COOKIE}.ttl`, unset: '0s', wrong: OTHER_COOKIE },
  { path: `${COOKIE}.attributes`, unset: [], read: attributesOf, wrong: OTHER_COOKIE },
  { path: 'strict', unset: false, wrong: 'a client whose server is down gets a 503 instead of another server' },
];

/** In one text, in alphabetical order. */
function attributesOf(session: unknown): string | undefined {
  const attributes = listAt(session, ...`${COOKIE}.attributes`.split('.')).map((item) =>
    [textAt(item, 'name'), textAt(item, 'value')].filter(Boolean).join('=').toLowerCase(),
  );
  const seen = attributes.filter((attribute) => attribute !== 'httponly').sort();
  return seen.length === 0 ? undefined : seen.join('; ');
}

const ALWAYS_UP = 'without a sidecar the status URI is answered 200, however the pool is';

/** Of the health_check filter that is for the status URI. */
export const STATUS_URI_FIELDS: readonly Field[] = [
  { path: 'pass_through_mode', unset: false, warn: 'without a sidecar the status URI is passed on to a server' },
  { path: 'cluster_min_healthy_percentages', must: includesRendered, warn: ALWAYS_UP },
];
