import { CHECK_FAIL_HEADER, OBEYED_OF_OTHER_SITES, REFUSED_HEADER } from '../../contract.ts';
import { STREAMS_OF_CLIENT } from '../../envoy-config/request-rules.ts';
import { http2OptionsOf, maxStreamsOf, upstreamMutations } from '../http-protocol-options.ts';
import { at, listAt, numberAt, textAt } from '../json.ts';
import type { Field, FieldTable, Subject } from './field.ts';
import { asRendered, atLeast, atMost, includesRendered, isSet, isUnset, not } from './rules.ts';

/** With no host up Envoy must answer 503 at once, which is a refusal. */
const PANIC: Field = {
  path: 'common_lb_config.healthy_panic_threshold',
  unset: 50,
  // Envoy shows 0 as an empty object.
  read: (cluster) => {
    const threshold = at(cluster, 'common_lb_config', 'healthy_panic_threshold');
    return threshold === undefined ? undefined : (numberAt(threshold, 'value') ?? 0);
  },
  wrong: 'with fewer percent of its hosts up Envoy sends requests to those that are down',
};

const hasBudget = ({ actual }: Subject) =>
  listAt(actual, 'circuit_breakers', 'thresholds').some((limits) => at(limits, 'retry_budget') !== undefined);
const hasNoBudget = (subject: Subject) => !hasBudget(subject);

const RETRIES = 'circuit_breakers.thresholds[].max_retries';
const BUDGET = 'circuit_breakers.thresholds[].retry_budget.budget_percent.value';
const DIES = 'further requests to a pool that dies are lost';

/** A pool that dies under load needs a retry for each request in flight, at once. */
const RETRY_LIMIT: readonly Field[] = [
  { path: RETRIES, when: hasNoBudget, unset: 3, must: atLeast(1_000), wrong: DIES },
  { path: BUDGET, when: hasBudget, unset: 20, must: atLeast(100), warn: DIES },
];

const isOfEds = ({ actual, pool }: Subject) => pool?.isLocal === true && textAt(actual, 'type') === 'EDS';
const isChecked = (subject: Subject) => !isOfEds(subject);

const isRemote = ({ pool }: Subject) => pool?.isLocal === false;

const BREAKS = 'where the other edge takes fewer, requests in a burst are lost or leave their site';
const STALE = 'a dead server counts as up until EDS says otherwise';
const SELDOM = 'so seldom it is checked without traffic';
const WORKERS = 'so late a worker may hear of a second change: requests go on to a dead server';

/** Of the cluster that has a pool's health. */
export const HEALTH_FIELDS: FieldTable = {
  'health check': [
    { path: 'health_checks', when: isOfEds, must: isSet, warn: STALE },
    { path: 'health_checks', when: isChecked, must: isSet, wrong: 'it counts as up whatever happens' },
    {
      ...{ path: 'health_checks[].no_traffic_interval', unset: '60s', must: atMost('10s'), warn: SELDOM },
      ...{ want: '1s', inItem: true },
    },
    ...statusFields(isRemote),
  ],
};

/** Of the cluster that a pool's requests go to. */
export const POOL_FIELDS: FieldTable = {
  'panic threshold': [PANIC],
  'update merge': [{ path: 'common_lb_config.update_merge_window', unset: '1s', warn: WORKERS }],
  'retry limit': RETRY_LIMIT,
  streams: [
    {
      ...{ path: 'http2_protocol_options.max_concurrent_streams', fix: 'typed_extension_protocol_options' },
      ...{ when: isRemote, read: maxStreamsOf, must: atMost(STREAMS_OF_CLIENT), warn: BREAKS },
    },
  ],
};

/** Of the health check of another site: what it says of itself is the status URI; nothing else tells of its pool. */
function statusFields(when: (subject: Subject) => boolean): Field[] {
  const status = 'health_checks[].http_health_check';
  const checksOf = (cluster: unknown) =>
    listAt(cluster, 'health_checks').flatMap((check) => at(check, 'http_health_check') ?? []);
  const all = (name: string) => (cluster: unknown) => checksOf(cluster).flatMap((check) => listAt(check, name));
  const paths = (cluster: unknown) => checksOf(cluster).flatMap((check) => textAt(check, 'path')?.split('?', 1) ?? []);
  const headers = (cluster: unknown) =>
    all('request_headers_to_add')(cluster).flatMap((item) => textAt(item, 'header', 'key')?.toLowerCase() ?? []);
  const with503 = (name: string) => (cluster: unknown) =>
    all(name)(cluster).find((range) => (numberAt(range, 'start') ?? 0) <= 503 && (numberAt(range, 'end') ?? 0) > 503);
  const tells = "it does not tell of that site's pool";
  const drains = 'while that site drains, its sessions would leave it';
  const down = 'a 503 is taken for less than "down", and that is what it says then';
  return [
    { path: `${status}.path`, when, read: paths, must: includesRendered, wrong: tells },
    { path: `${status}.request_headers_to_add`, when, read: headers, must: includesRendered, wrong: drains },
    { path: `${status}.expected_statuses`, when, read: with503('expected_statuses'), must: isUnset, wrong: down },
    { path: `${status}.retriable_statuses`, when, read: with503('retriable_statuses'), must: isUnset, wrong: down },
  ];
}

/** Of a cluster that a route names in place of a pool, and that counts its retries itself. */
export const NAMED_CLUSTER_FIELDS: FieldTable = { 'retry limit': RETRY_LIMIT };

/** Of clusters that lead to the local servers: what Envoy obeys in an answer must not come from an application, which may reflect what a client sent. */
export const SERVER_ANSWER_FIELDS: FieldTable = {
  "the servers' own": [
    obeyed([REFUSED_HEADER], 'a server that answers with it gets the request again, a POST as well'),
    {
      ...obeyed(
        [CHECK_FAIL_HEADER],
        'a server that answers with it is taken out, and at the other sites this whole edge',
      ),
      when: (subject) => isObeyedHere(subject) && isObeyedElsewhere(subject),
    },
    {
      ...obeyed([CHECK_FAIL_HEADER], 'its own servers can take themselves out'),
      when: (subject) => isObeyedHere(subject) && !isObeyedElsewhere(subject),
    },
    {
      ...obeyed([CHECK_FAIL_HEADER], 'a server that answers with it takes this whole edge out at the other sites'),
      when: (subject) => !isObeyedHere(subject) && isObeyedElsewhere(subject),
    },
  ],
};

const isObeyedHere = ({ obeyed: by }: Subject) => by?.here === true;
const isObeyedElsewhere = ({ obeyed: by }: Subject) => by?.elsewhere === true;

const [, ...NOT_TRIED_AGAIN] = OBEYED_OF_OTHER_SITES;

/** Of clusters that lead to another site, whose edge may let through what its servers say. */
export const SITE_ANSWER_FIELDS: FieldTable = {
  "the other sites' own": [
    {
      ...obeyed([CHECK_FAIL_HEADER], "an answer with it takes that site's whole edge out, for all clients"),
      when: isObeyedHere,
    },
    obeyed(NOT_TRIED_AGAIN, 'what that site refuses with it is not tried elsewhere'),
  ],
};

function obeyed(want: readonly string[], warn: string) {
  const read = (cluster: unknown) =>
    upstreamMutations(cluster, 'response_mutations').flatMap((item) => textAt(item, 'remove')?.toLowerCase() ?? []);
  const fix = 'typed_extension_protocol_options';
  return { path: 'response_mutations.remove', read, want: [...want], must: includesRendered, warn, fix };
}

const ENOUGH = atLeast(10_000);
const BURST = 'beyond that requests go on undecided';
const OVERRUN = 'in a burst a sidecar refuses the others of a new connection, and they go on undecided';
const IDLEST = 'a sidecar that just died has the fewest requests, and draws the retries as well';
const UNKNOWN = 'no sidecar is that service';
const HANGS = 'a sidecar that hangs costs each request message_timeout';

const hasOldPolicy = ({ actual, config }: Subject) =>
  config.envoy.sidecars.length > 1 && at(actual, 'load_balancing_policy') === undefined;
const maxStreams = (cluster: unknown) => at(http2OptionsOf(cluster), 'max_concurrent_streams');

const HTTP2 = { path: 'http2_protocol_options', fix: 'typed_extension_protocol_options' };
const STREAMS = { path: `${HTTP2.path}.max_concurrent_streams`, fix: HTTP2.fix };

/** Of the cluster of the sidecars. */
export const SIDECAR_FIELDS: FieldTable = {
  'HTTP/2': [
    { ...HTTP2, read: http2OptionsOf, must: isSet, wrong: 'it does not speak HTTP/2, and so no gRPC' },
    { ...STREAMS, read: maxStreams, must: atMost(), warn: OVERRUN },
  ],
  // At Envoy's default of 1,024, a burst of 1,500 requests had 476 that nobody decided.
  'circuit breaker': [
    { path: 'circuit_breakers.thresholds[].max_requests', unset: 1024, must: ENOUGH, wrong: BURST },
    { path: 'circuit_breakers.thresholds[].max_pending_requests', unset: 1024, must: ENOUGH, wrong: BURST },
    // One for each worker and sidecar will do.
    { path: 'circuit_breakers.thresholds[].max_connections', unset: 1024, must: atLeast(1024), wrong: BURST },
    { path: RETRIES, unset: 3, must: atLeast(1_000), wrong: BURST },
  ],
  'health check': [
    { path: 'health_checks', must: isSet, wrong: HANGS },
    { path: 'health_checks[].grpc_health_check', must: isSet, wrong: 'one that hangs still takes connections' },
    // The sidecar answers for the whole of it under the empty name, too.
    { path: 'health_checks[].grpc_health_check.service_name', unset: '', must: asRendered(''), wrong: UNKNOWN },
  ],
  'panic threshold': [PANIC],
  'load balancing': [
    { path: 'load_balancing_policy', must: isUnset, unchecked: 'see that it does not prefer the idlest host' },
    { path: 'lb_policy', when: hasOldPolicy, unset: 'ROUND_ROBIN', must: not('LEAST_REQUEST'), warn: IDLEST },
  ],
};
