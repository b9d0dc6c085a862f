import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { TestCa } from '../support/certificates.ts';
import { type Changes, type DoctorFinding, DoctorSite, type Ports } from '../support/doctor-site.ts';
import { isTree, list, paste, type Tree, tree } from '../support/json-tree.ts';

const HCM = ['static_resources', 'listeners', 0, 'filter_chains', 0, 'filters', 0, 'typed_config'] as const;
const FLAG = 'envoy.reloadable_features.ext_proc_graceful_grpc_close';

const manager = (bootstrap: Tree) => tree(bootstrap, ...HCM);
const filters = (bootstrap: Tree) => list(bootstrap, ...HCM, 'http_filters');
const filter = (bootstrap: Tree, name: string) => tree(filters(bootstrap), `name=envoy.filters.http.${name}`);
const extProc = (bootstrap: Tree) => tree(filter(bootstrap, 'ext_proc'), 'typed_config');
const session = (bootstrap: Tree) =>
  tree(filter(bootstrap, 'stateful_session'), 'typed_config', 'extension_config', 'typed_config');
const cookie = (bootstrap: Tree) => tree(session(bootstrap), 'session_state', 'typed_config', 'cookie');
const routes = (bootstrap: Tree) => list(bootstrap, ...HCM, 'route_config', 'virtual_hosts', 0, 'routes');
const route = (bootstrap: Tree, name: string) => tree(routes(bootstrap), `name=${name}`);
const clusters = (bootstrap: Tree) => list(bootstrap, 'static_resources', 'clusters');
const cluster = (bootstrap: Tree, name: string) => tree(clusters(bootstrap), `name=${name}`);

const localMutations = (bootstrap: Tree) => {
  const options = tree(cluster(bootstrap, 'local_pool'), 'typed_extension_protocol_options');
  return tree(Object.values(options)[0], 'http_filters', 0, 'typed_config', 'mutations');
};

/** To one cluster, whatever the try. */
function leadTo(target: Tree, name: string): void {
  const action = tree(target, 'route');
  delete action.inline_cluster_specifier_plugin;
  delete tree(action, 'retry_policy').refresh_cluster_on_retry;
  action.cluster = name;
}

/** All of that name: a route may be there twice, for GET and HEAD and for the others. */
function remove(items: unknown[], name: string): void {
  const left = items.filter((item) => !(isTree(item) && item.name === name));
  if (left.length === items.length) throw new Error(`nothing is called ${name}`);
  items.splice(0, items.length, ...left);
}

interface Case extends Changes {
  readonly name: string;
  /** `check: mark` of what is found, and nothing else may be found. */
  readonly finds: readonly string[];
  /** What the first of them says. */
  readonly says: RegExp;
  /** What stands in the lines of its fix. */
  readonly fix?: RegExp;
  /** Where those lines go. With them there, all must be well. */
  readonly at?: (bootstrap: Tree) => unknown;
  /** Checks that are not of the case: what follows from it, in ways that are no promise. */
  readonly besides?: readonly string[];
}

const SITE_STATS = { stats_matcher: { exclusion_list: { patterns: [{ contains: 'membership_' }] } } };

const CASES: readonly Case[] = [
  // Envoy
  {
    name: 'the graceful close flag is not set',
    bootstrap: (b) => delete b.layered_runtime,
    finds: ['graceful close: wrong'],
    says: /is off: each decision ends by a reset/,
    fix: /layered_runtime:[\s\S]*ext_proc_graceful_grpc_close: true/,
    at: (b) => b,
  },
  {
    name: 'the graceful close flag is set to false',
    bootstrap: (b) => {
      tree(b, 'layered_runtime', 'layers', 0, 'static_layer')[FLAG] = false;
    },
    finds: ['graceful close: wrong'],
    says: /is off/,
    at: (b) => b,
  },
  {
    name: 'the config is for an older Envoy',
    config: { envoy: { version: '1.38' } },
    finds: ['version: wrong'],
    says: /^1\.40\.0, but envoy\.version is "1\.38", for which another config is right$/,
    fix: /^envoy:\n {2}version: "1\.40"$/,
  },
  {
    name: 'the admin interface is open to the network',
    bootstrap: (b) => {
      tree(b, 'admin', 'address', 'socket_address').address = '0.0.0.0';
    },
    finds: ['admin address: wrong'],
    says: /^0\.0\.0\.0:\d+ can be reached from other machines/,
    fix: /address: 127\.0\.0\.1/,
    at: (b) => b,
  },
  {
    name: 'the admin interface refuses nothing',
    bootstrap: (b) => delete tree(b, 'admin').allow_paths,
    finds: ['admin paths: warn'],
    says: /^every client of the admin interface can stop Envoy: it has no allow_paths$/,
    fix: /allow_paths:[\s\S]*server_info/,
    at: (b) => b,
  },
  {
    name: 'the admin interface refuses the key of the fast path',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => {
      const paths = ['stats', 'clusters', 'runtime', 'server_info', 'config_dump', 'listeners', 'ready'];
      tree(b, 'admin').allow_paths = paths.map((path) => ({ safe_regex: { regex: `/${path}(\\?.*)?` } }));
    },
    finds: ['admin paths: wrong'],
    says: /^allow_paths refuses \/runtime_modify: no sidecar can set site_persistence\.fast_path$/,
    fix: /allow_paths:[\s\S]*runtime_modify/,
    at: (b) => b,
  },
  {
    name: 'the gauges are hidden',
    bootstrap: (b) => {
      b.stats_config = { stats_matcher: { inclusion_list: { patterns: [{ prefix: 'http.' }] } } };
    },
    finds: ['gauges: warn'],
    says: /^stats_matcher hides membership_\* of local_pool, remote_pool/,
    fix: /inclusion_list:[\s\S]*cluster\\.\(local_pool\|remote_pool\)/,
  },
  {
    name: 'the gauges are excluded',
    bootstrap: (b) => {
      b.stats_config = SITE_STATS;
    },
    finds: ['gauges: warn'],
    says: /stats_matcher hides/,
    fix: /take out what matches/,
  },
  // Pools
  {
    name: 'the config names a cluster that Envoy does not have',
    config: { local_pool: { cluster: 'app_pool' } },
    finds: ['clusters: wrong'],
    says: /^Envoy has no cluster app_pool$/,
    fix: /name: app_pool[\s\S]*health_checks:/,
    besides: [
      'decided',
      'undecided',
      'forwarded',
      'status URI',
      'retry on refusal',
      'hop header',
      'retries',
      'not followed',
      "the servers' own",
    ],
  },
  {
    name: 'the local pool has no host',
    bootstrap: (b) => {
      tree(cluster(b, 'local_pool'), 'load_assignment').endpoints = [];
    },
    finds: ['hosts: wrong'],
    says: /^local_pool has no host$/,
    fix: /load_assignment:[\s\S]*lb_endpoints:/,
    at: (b) => cluster(b, 'local_pool'),
  },
  {
    name: 'min_up can never be reached',
    config: { local_pool: { min_up: 5 } },
    finds: ['hosts: wrong'],
    says: /^local_pool has 2 hosts, and never the 5 that min_up asks for$/,
    fix: /min_up: 2/,
  },
  {
    name: 'a host is down',
    bootstrap: (b, ports) => {
      const host = tree(cluster(b, 'local_pool'), 'load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint');
      tree(host, 'address', 'socket_address').port_value = ports.nobody;
    },
    finds: ['hosts: warn'],
    says: /^local_pool: 1 of 2 hosts up; 127\.0\.0\.1:\d+ failed active health check: connection refused$/,
  },
  {
    name: 'the local pool is not health-checked',
    bootstrap: (b) => delete cluster(b, 'local_pool').health_checks,
    finds: ['health check: wrong'],
    says: /^local_pool has no health check/,
    fix: /health_checks:[\s\S]*path: \/healthz/,
    at: (b) => cluster(b, 'local_pool'),
  },
  {
    name: 'the remote pool is not health-checked',
    bootstrap: (b) => delete cluster(b, 'remote_pool').health_checks,
    finds: ['health check: wrong'],
    says: /^remote_pool has no health check/,
    fix: /path: \/local_pool_status[\s\S]*key: x-site-hop/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  {
    name: 'the remote pool is asked for something else',
    bootstrap: (b) => {
      tree(cluster(b, 'remote_pool'), 'health_checks', 0, 'http_health_check').path = '/';
    },
    finds: ['health check: wrong'],
    says: /does not ask west for \/local_pool_status/,
    fix: /path: \/local_pool_status/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  {
    name: 'the remote pool is asked without the hop header',
    bootstrap: (b) =>
      delete tree(cluster(b, 'remote_pool'), 'health_checks', 0, 'http_health_check').request_headers_to_add,
    finds: ['health check: wrong'],
    says: /has no x-site-hop: while west drains, its sessions would leave it/,
    fix: /key: x-site-hop/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  {
    name: 'the remote pool takes a 503 for up',
    bootstrap: (b) => {
      tree(cluster(b, 'remote_pool'), 'health_checks', 0, 'http_health_check').expected_statuses = [
        { start: 200, end: 600 },
      ];
    },
    finds: ['health check: wrong'],
    says: /takes a 503 for less than "down"/,
    fix: /health_checks:/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  {
    name: 'a pool without traffic is seldom checked',
    bootstrap: (b) => delete tree(cluster(b, 'remote_pool'), 'health_checks', 0).no_traffic_interval,
    finds: ['health check: warn'],
    says: /^remote_pool without traffic is checked only every 60 s/,
    fix: /no_traffic_interval: 1s/,
    at: (b) => tree(cluster(b, 'remote_pool'), 'health_checks', 0),
  },
  ...['local_pool', 'remote_pool', 'site_persistence'].map(
    (name): Case => ({
      name: `${name} panics`,
      bootstrap: (b) => delete tree(cluster(b, name), 'common_lb_config').healthy_panic_threshold,
      finds: ['panic threshold: wrong'],
      says: new RegExp(`^${name}: 50 %`),
      fix: /common_lb_config:\n {2}healthy_panic_threshold:\n {4}value: 0/,
      at: (b) => cluster(b, name),
    }),
  ),
  {
    name: 'the runtime makes every pool panic',
    bootstrap: (b) => {
      tree(b, 'layered_runtime', 'layers', 0, 'static_layer')['upstream.healthy_panic_threshold'] = 30;
    },
    finds: ['panic threshold: wrong', 'panic threshold: wrong', 'panic threshold: wrong'],
    says: /^local_pool: the runtime key upstream\.healthy_panic_threshold is 30/,
    fix: /upstream\.healthy_panic_threshold: 0/,
    at: (b) => tree(b, 'layered_runtime', 'layers', 0, 'static_layer'),
  },
  {
    name: 'changes of health are merged',
    bootstrap: (b) => delete tree(cluster(b, 'local_pool'), 'common_lb_config').update_merge_window,
    finds: ['update merge: warn'],
    says: /^local_pool tells its workers of a second change up to 1 s late/,
    fix: /update_merge_window: 0s/,
    at: (b) => cluster(b, 'local_pool'),
  },
  ...['local_pool', 'remote_pool', 'remote_pool_or_local'].map(
    (name): Case => ({
      name: `${name} has Envoy's own limit of retries`,
      bootstrap: (b) => delete cluster(b, name).circuit_breakers,
      finds: ['retry limit: wrong'],
      says: new RegExp(`^${name}: 3 at a time \\(Envoy's default\\)`),
      fix: /circuit_breakers:[\s\S]*max_retries: 1000000/,
      at: (b) => cluster(b, name),
    }),
  ),
  {
    name: 'a retry budget',
    bootstrap: (b) => {
      cluster(b, 'local_pool').circuit_breakers = { thresholds: [{ retry_budget: {} }] };
    },
    finds: ['retry limit: warn'],
    says: /^local_pool: a retry budget of 20 %/,
    fix: /max_retries/,
    at: (b) => cluster(b, 'local_pool'),
  },
  // Sidecars
  {
    name: 'the sidecars have a low circuit breaker',
    bootstrap: (b) => delete cluster(b, 'site_persistence').circuit_breakers,
    finds: ['circuit breaker: wrong'],
    says: /max_requests 1024, max_pending_requests 1024, max_retries 3/,
    fix: /max_requests: 1000000/,
    at: (b) => cluster(b, 'site_persistence'),
  },
  {
    name: 'the circuit breaker of the sidecars has opened',
    bootstrap: (b) => {
      tree(cluster(b, 'site_persistence'), 'circuit_breakers', 'thresholds', 0).max_requests = 0;
    },
    meanwhile: (edge) => ask(edge, 5),
    finds: ['overflow: warn', 'circuit breaker: wrong', 'decisions skipped: warn'],
    says: /^site_persistence met a limit of its circuit breaker: .*_overflow \d+/,
  },
  {
    name: 'the sidecars are not health-checked',
    bootstrap: (b) => delete cluster(b, 'site_persistence').health_checks,
    finds: ['health check: wrong'],
    says: /^site_persistence has no health check: a sidecar that hangs/,
    fix: /grpc_health_check:\n\s+service_name: envoy\.service\.ext_proc\.v3\.ExternalProcessor/,
    at: (b) => cluster(b, 'site_persistence'),
  },
  {
    name: 'the sidecars are only connected to',
    bootstrap: (b) => {
      const check = tree(cluster(b, 'site_persistence'), 'health_checks', 0);
      delete check.grpc_health_check;
      check.tcp_health_check = {};
    },
    finds: ['health check: wrong'],
    says: /is not checked by gRPC/,
    fix: /grpc_health_check/,
    at: (b) => cluster(b, 'site_persistence'),
  },
  {
    name: 'the sidecars are asked for another service',
    bootstrap: (b) => {
      tree(cluster(b, 'site_persistence'), 'health_checks', 0, 'grpc_health_check').service_name = 'other.Service';
    },
    finds: ['health check: wrong', 'answering: wrong'],
    says: /asks for the service other\.Service/,
    at: (b) => cluster(b, 'site_persistence'),
  },
  {
    name: 'the sidecars are asked by HTTP/1.1',
    bootstrap: (b) => {
      delete cluster(b, 'site_persistence').health_checks;
      delete cluster(b, 'site_persistence').typed_extension_protocol_options;
    },
    finds: ['HTTP/2: wrong', 'health check: wrong'],
    says: /does not speak HTTP\/2/,
    fix: /http2_protocol_options:\n *max_concurrent_streams: 100/,
  },
  {
    name: 'the idlest sidecar gets the request',
    bootstrap: (b) => {
      cluster(b, 'site_persistence').lb_policy = 'LEAST_REQUEST';
    },
    finds: ['load balancing: warn'],
    says: /LEAST_REQUEST: a sidecar that just died has the fewest requests/,
    fix: /lb_policy: ROUND_ROBIN/,
    at: (b) => cluster(b, 'site_persistence'),
  },
  {
    name: 'one sidecar of the config is unknown to Envoy',
    bootstrap: (b) => list(cluster(b, 'site_persistence'), 'load_assignment', 'endpoints', 0, 'lb_endpoints').pop(),
    finds: ['cluster: warn'],
    says: /not to 127\.0\.0\.1:\d+ of envoy\.sidecars$/,
    fix: /lb_endpoints/,
    at: (b) => cluster(b, 'site_persistence'),
  },
  {
    name: 'nobody is where the sidecars should be',
    bootstrap: (b, ports) => {
      const endpoint = { address: { socket_address: { address: '127.0.0.1', port_value: ports.nobody } } };
      tree(cluster(b, 'site_persistence'), 'load_assignment').endpoints = [{ lb_endpoints: [{ endpoint }] }];
    },
    finds: ['answering: wrong', 'cluster: wrong', 'decisions skipped: warn'],
    meanwhile: (edge) => ask(edge, 10),
    says: /^no sidecar answers, so no request is decided/,
    fix: /site-persistence serve/,
  },
  // The filter
  {
    name: 'there is no ext_proc filter',
    bootstrap: (b) => remove(filters(b), 'envoy.filters.http.ext_proc'),
    finds: ['present: wrong'],
    says: /^no listener has an ext_proc filter that asks 127\.0\.0\.1:\d+, 127\.0\.0\.1:\d+$/,
    fix: /- name: envoy\.filters\.http\.ext_proc/,
    at: filters,
    besides: ['*'],
  },
  {
    name: 'the ext_proc filter is switched off',
    bootstrap: (b) => {
      filter(b, 'ext_proc').disabled = true;
    },
    finds: ['present: wrong'],
    says: /switched off \(disabled: true\)/,
    fix: /disabled: false/,
    at: (b) => filter(b, 'ext_proc'),
  },
  ...['health_check', 'stateful_session'].map(
    (name): Case => ({
      name: `${name} comes before ext_proc`,
      bootstrap: (b) => {
        const moved = filter(b, name);
        remove(filters(b), `envoy.filters.http.${name}`);
        filters(b).unshift(moved);
      },
      finds: ['order: wrong'],
      says: new RegExp(`comes after envoy\\.filters\\.http\\.${name}, which must see its decision`),
      fix: /http_filters:\n {2}- name: envoy\.filters\.http\.ext_proc\n/,
    }),
  ),
  {
    name: "the client's own pool header stays",
    bootstrap: (b) => delete manager(b).early_header_mutation_extensions,
    finds: ['own pool header: wrong'],
    says: /^a client's own x-site-pool is not removed/,
    fix: /- remove: x-site-pool/,
    at: manager,
  },
  {
    name: 'the hop header is removed from requests',
    bootstrap: (b) =>
      list(manager(b), 'early_header_mutation_extensions', 0, 'typed_config', 'mutations').push({
        remove: 'X-Site-Hop',
      }),
    finds: ['own pool header: wrong'],
    says: /^it removes x-site-hop from requests as well/,
    at: manager,
  },
  {
    name: 'the request headers are not sent',
    bootstrap: (b) => {
      tree(extProc(b), 'processing_mode').request_header_mode = 'SKIP';
    },
    finds: ['processing mode: wrong'],
    says: /request_header_mode is SKIP/,
    fix: /request_header_mode: SEND/,
    at: extProc,
  },
  {
    name: 'the processing mode is not set',
    bootstrap: (b) => delete extProc(b).processing_mode,
    finds: ['processing mode: warn'],
    says: /response_header_mode is not SKIP, so SEND/,
    fix: /response_header_mode: SKIP/,
    at: extProc,
  },
  {
    name: 'bodies and trailers are sent',
    bootstrap: (b) => {
      Object.assign(tree(extProc(b), 'processing_mode'), {
        request_body_mode: 'BUFFERED',
        response_trailer_mode: 'SEND',
      });
    },
    finds: ['processing mode: wrong', 'processing mode: warn'],
    says: /request_body_mode is BUFFERED/,
    fix: /request_body_mode: NONE/,
    at: extProc,
  },
  {
    name: 'the mode may not be overridden',
    bootstrap: (b) => delete extProc(b).allow_mode_override,
    finds: ['mode override: wrong'],
    says: /the sidecar can expire no cookie, and sessions bounce/,
    fix: /allow_mode_override: true/,
    at: extProc,
  },
  {
    name: 'other modes than the one that is needed are allowed',
    bootstrap: (b) => {
      extProc(b).allowed_override_modes = [{ request_header_mode: 'SKIP', response_header_mode: 'SKIP' }];
    },
    finds: ['mode override: wrong'],
    says: /allowed_override_modes does not let the sidecar ask/,
    fix: /response_header_mode: SEND/,
    at: extProc,
  },
  {
    name: 'Envoy does not wait for the decision',
    bootstrap: (b) => {
      extProc(b).observability_mode = true;
      // What Envoy does not take together with it.
      delete extProc(b).failure_mode_allow;
    },
    finds: ['answers: wrong', 'failure mode: wrong'],
    says: /observability_mode: Envoy asks, and does not wait/,
    fix: /observability_mode: false/,
  },
  {
    name: 'the sidecar may not answer itself',
    bootstrap: (b) => {
      extProc(b).disable_immediate_response = true;
    },
    finds: ['answers: wrong'],
    says: /the status URI is not answered, and no request is refused/,
    fix: /disable_immediate_response: false/,
    at: extProc,
  },
  {
    name: 'the sidecar may set no header',
    bootstrap: (b) => {
      extProc(b).mutation_rules = { disallow_all: true };
    },
    meanwhile: (edge) => ask(edge, 5),
    finds: ['answers: wrong', 'mutations: warn'],
    says: /disallow_all: the sidecar's x-site-pool is thrown away/,
    besides: ['mutations'],
  },
  {
    name: 'the route stays as it was before the decision',
    bootstrap: (b) => {
      extProc(b).route_cache_action = 'RETAIN';
    },
    finds: ['route cache: wrong'],
    says: /^route_cache_action is RETAIN/,
    fix: /route_cache_action: DEFAULT/,
    at: extProc,
  },
  {
    name: 'requests fail with the sidecar',
    bootstrap: (b) => delete extProc(b).failure_mode_allow,
    finds: ['failure mode: wrong'],
    says: /without a sidecar every request fails/,
    fix: /failure_mode_allow: true/,
    at: extProc,
  },
  {
    name: 'decisions get little time',
    bootstrap: (b) => delete extProc(b).message_timeout,
    finds: ['message timeout: warn'],
    says: /^200 ms: in a burst/,
    fix: /message_timeout: 1s/,
    at: extProc,
  },
  {
    name: 'decisions get much time',
    bootstrap: (b) => {
      extProc(b).message_timeout = '30s';
    },
    finds: ['message timeout: warn'],
    says: /^30 s: so long/,
    at: extProc,
  },
  {
    name: 'calls to the sidecar are not made again',
    bootstrap: (b) => delete tree(extProc(b), 'grpc_service').retry_policy,
    finds: ['retries: wrong'],
    says: /^grpc_service has no retry_policy: /,
    fix: /grpc_service:\n {2}retry_policy:\n {4}retry_on: connect-failure/,
    at: extProc,
  },
  {
    name: 'the retry policy is where it does nothing',
    bootstrap: (b) => {
      const service = tree(extProc(b), 'grpc_service');
      tree(service, 'envoy_grpc').retry_policy = service.retry_policy;
      delete service.retry_policy;
    },
    finds: ['retries: wrong'],
    says: /envoy_grpc\.retry_policy does nothing/,
    at: extProc,
  },
  {
    name: 'calls are made again only for some reasons',
    bootstrap: (b) => {
      tree(extProc(b), 'grpc_service', 'retry_policy').retry_on = 'connect-failure,unavailable';
    },
    finds: ['retries: wrong'],
    says: /does not retry on refused-stream, reset-before-request, reset$/,
    at: extProc,
  },
  {
    name: 'a call is made again at the same sidecar',
    bootstrap: (b) => delete tree(extProc(b), 'grpc_service', 'retry_policy').retry_host_predicate,
    finds: ['retries: warn'],
    says: /no previous_hosts predicate/,
    at: extProc,
  },
  {
    name: 'the sidecar does not get the cookies',
    bootstrap: (b) => {
      extProc(b).forward_rules = {
        allowed_headers: {
          patterns: [{ prefix: ':' }, { prefix: 'x-' }, { exact: 'grpc-status' }, { exact: 'proxy-connection' }],
        },
      };
    },
    finds: ['headers sent: wrong'],
    says: /holds back headers that the sidecar reads: cookie$/,
    fix: /exact: cookie/,
    at: extProc,
  },
  {
    name: 'the hop header is among those kept back',
    bootstrap: (b) => {
      tree(extProc(b), 'forward_rules').disallowed_headers = { patterns: [{ safe_regex: { regex: 'x-site-.*' } }] };
    },
    finds: ['headers sent: wrong'],
    says: /holds back headers that the sidecar reads: x-site-hop, x-site-refused$/,
  },
  {
    name: 'every header leaves Envoy',
    bootstrap: (b) => delete extProc(b).forward_rules,
    finds: ['headers sent: warn'],
    says: /Authorization too/,
    fix: /allowed_headers/,
    at: extProc,
  },
  {
    name: "Envoy's own limits of headers",
    bootstrap: (b) => {
      delete manager(b).max_request_headers_kb;
      delete manager(b).common_http_protocol_options;
    },
    finds: ['header limits: warn'],
    says: /^100 headers, 60 KiB: a request near that is answered 500/,
    fix: /max_headers_count: 400/,
    at: manager,
  },
  {
    name: 'the decision does not get into the access log',
    bootstrap: (b) => delete extProc(b).metadata_options,
    finds: ['metadata: warn'],
    says: /site_persistence is not received/,
    fix: /untyped:\n\s+- site_persistence/,
    at: extProc,
  },
  {
    name: 'a route does without the sidecar',
    bootstrap: (b) =>
      routes(b).unshift({
        name: 'images',
        match: { prefix: '/images' },
        route: { cluster: 'local_pool' },
        typed_per_filter_config: {
          'envoy.filters.http.ext_proc': {
            '@type': 'type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute',
            disabled: true,
          },
        },
      }),
    finds: ['switched off: warn'],
    says: /route images$/,
  },
  // Stickiness and the status URI
  {
    name: 'there is no stickiness',
    bootstrap: (b) => {
      remove(filters(b), 'envoy.filters.http.stateful_session');
      for (const item of routes(b)) if (isTree(item)) delete item.typed_per_filter_config;
    },
    finds: ['stickiness: wrong', 'stickiness off: unchecked'],
    says: /no stateful_session filter/,
    fix: /name: KVAAVROI/,
  },
  {
    name: 'the cookie has another name',
    bootstrap: (b) => {
      cookie(b).name = 'JSESSIONID';
    },
    finds: ['stickiness: wrong'],
    says: /^the cookie is not the config's KVAAVROI: its name is JSESSIONID, not KVAAVROI$/,
    fix: /name: KVAAVROI/,
    at: (b) => filter(b, 'stateful_session'),
  },
  {
    name: 'the cookie has another path, ttl and attributes',
    bootstrap: (b) => {
      Object.assign(cookie(b), { path: '/app', ttl: '60s', attributes: [{ name: 'Secure' }] });
    },
    finds: ['stickiness: wrong'],
    says: /path is \/app, not \/, ttl is 60s, not 3600s, secure is set, not unset, samesite is not set, not lax$/,
    fix: /ttl: 3600s[\s\S]*name: SameSite/,
    at: (b) => filter(b, 'stateful_session'),
  },
  {
    name: 'the stand-in gives another cookie',
    bootstrap: (b) => {
      const standIn = list(
        b,
        'static_resources',
        'listeners',
        1,
        'filter_chains',
        0,
        'filters',
        0,
        'typed_config',
        'http_filters',
      );
      tree(
        standIn,
        'name=envoy.filters.http.stateful_session',
        'typed_config',
        'extension_config',
        'typed_config',
        'session_state',
        'typed_config',
        'cookie',
      ).name = 'X';
    },
    finds: ['stickiness: wrong'],
    says: /^listener site_persistence_stand_in: the cookie is not the config's/,
  },
  {
    name: 'the state is kept in a header',
    bootstrap: (b) => {
      session(b).session_state = {
        name: 'envoy.http.stateful_session.header',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState',
          name: 'x-session-host',
        },
      };
    },
    finds: ['stickiness: wrong'],
    says: /by envoy\.extensions\.http\.stateful_session\.header\.v3\.HeaderBasedSessionState, not by a cookie/,
  },
  {
    name: 'a dead server takes its clients with it',
    bootstrap: (b) => {
      session(b).strict = true;
    },
    finds: ['stickiness: wrong'],
    says: /^strict: /,
    fix: /strict: false/,
    at: (b) => filter(b, 'stateful_session'),
  },
  {
    name: 'nobody answers the status URI without a sidecar',
    bootstrap: (b) => remove(filters(b), 'envoy.filters.http.health_check'),
    finds: ['status URI: warn'],
    says: /there is no health_check filter/,
    fix: /cluster_min_healthy_percentages/,
  },
  {
    name: 'the status URI is always 200 without a sidecar',
    bootstrap: (b) => delete tree(filter(b, 'health_check'), 'typed_config').cluster_min_healthy_percentages,
    finds: ['status URI: warn'],
    says: /is answered 200, however local_pool is/,
    fix: /cluster_min_healthy_percentages:\n {2}local_pool:/,
    at: (b) => tree(filter(b, 'health_check'), 'typed_config'),
  },
  // Routes
  {
    name: 'no route for the remote pool',
    bootstrap: (b) => remove(routes(b), 'decided_remote_pool'),
    finds: ['decided: wrong'],
    says: /^decided for remote_pool: route "undecided_local" sends \/ of virtual host application to local_pool$/,
    fix: /name: decided_remote_pool[\s\S]*exact: remote_pool/,
    at: routes,
  },
  {
    name: 'no route for the local pool',
    bootstrap: (b) => {
      remove(routes(b), 'decided_local');
    },
    finds: ['decided: wrong'],
    says: /^decided for local_pool: route "undecided_remote_pool" sends/,
    fix: /name: decided_local/,
    besides: ['hop header of retries'],
  },
  {
    name: 'the remote route leads to the local pool',
    bootstrap: (b) => {
      leadTo(route(b, 'decided_remote_pool'), 'local_pool');
    },
    finds: ['decided: wrong'],
    says: /^decided for remote_pool: route "decided_remote_pool" sends \/ of virtual host application to local_pool$/,
    at: routes,
  },
  {
    name: 'a route for one path is for every decision',
    bootstrap: (b) => routes(b).unshift({ name: 'api', match: { prefix: '/api' }, route: { cluster: 'local_pool' } }),
    finds: ['decided: wrong', 'undecided: warn', 'retries: warn'],
    says: /^decided for remote_pool: route "api" sends \/api of virtual host application to local_pool$/,
    fix: /decided_remote_pool/,
    besides: ['undecided', 'retries'],
  },
  {
    name: 'a forwarded request may be sent on',
    bootstrap: (b) => remove(routes(b), 'decided_forwarded'),
    finds: ['forwarded: wrong'],
    says: /^with x-site-hop, route "decided_local" may send a retry on to remote_pool: it could go round$/,
    fix: /name: decided_forwarded/,
    at: routes,
  },
  {
    name: 'a forwarded request is sent on by its cookie',
    bootstrap: (b) => {
      remove(routes(b), 'undecided_forwarded');
      remove(routes(b), 'undecided_forwarded_adopted_from_remote_pool');
    },
    finds: ['forwarded: wrong'],
    says: /^with x-site-hop, local_pool: route "undecided_remote_pool" sends/,
    fix: /name: undecided_forwarded/,
  },
  {
    name: 'without a sidecar the cookie is not looked at',
    bootstrap: (b) => remove(routes(b), 'undecided_remote_pool'),
    finds: ['undecided: warn'],
    says: /^without a sidecar, remote_pool: route "undecided_local" sends/,
    fix: /DDVHSLLQ/,
  },
  {
    name: 'without a sidecar there is no route',
    bootstrap: (b) => remove(routes(b), 'undecided_local'),
    finds: ['undecided: wrong'],
    says: /^without a sidecar, local_pool: no route takes \/ of virtual host application$/,
    fix: /name: undecided_local/,
  },
  {
    name: 'no hop header on the way to the other site',
    bootstrap: (b) => delete route(b, 'decided_remote_pool').request_headers_to_add,
    finds: ['hop header: wrong'],
    says: /^route "decided_remote_pool" adds no x-site-hop/,
    fix: /key: x-site-hop\n\s+value: east/,
    at: (b) => route(b, 'decided_remote_pool'),
  },
  {
    name: 'the hop header names another site',
    bootstrap: (b) => {
      tree(route(b, 'decided_remote_pool'), 'request_headers_to_add', 0, 'header').value = 'north';
    },
    finds: ['hop header: warn'],
    says: /adds x-site-hop: north, and this site is east$/,
    at: (b) => route(b, 'decided_remote_pool'),
  },
  {
    name: 'no hop header on retries from the local pool',
    bootstrap: (b) => delete cluster(b, 'remote_pool').typed_extension_protocol_options,
    finds: ['hop header of retries: wrong'],
    says: /^a retry from the local pool goes to remote_pool without x-site-hop/,
    fix: /header_mutation/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  {
    name: "stickiness on another site's route",
    bootstrap: (b) => delete route(b, 'decided_remote_pool').typed_per_filter_config,
    finds: ['stickiness off: wrong'],
    says: /^route "decided_remote_pool" gives clients of another site this site's cookie$/,
    fix: /StatefulSessionPerRoute\n\s+disabled: true/,
    at: (b) => route(b, 'decided_remote_pool'),
  },
  {
    name: 'stickiness switched off in a way that does not work',
    bootstrap: (b) => {
      route(b, 'decided_remote_pool').typed_per_filter_config = {
        'envoy.filters.http.stateful_session': {
          '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig',
          disabled: true,
        },
      };
    },
    finds: ['stickiness off: wrong'],
    says: /FilterConfig does not switch stateful_session off/,
    fix: /StatefulSessionPerRoute/,
    at: (b) => route(b, 'decided_remote_pool'),
  },
  {
    name: 'stickiness switched off under another name',
    bootstrap: (b) => {
      filter(b, 'stateful_session').name = 'sticky';
    },
    finds: ['stickiness off: wrong', 'stickiness off: wrong'],
    says: /its config is for a filter envoy\.filters\.http\.stateful_session, and the filter is called sticky$/,
    fix: /^typed_per_filter_config:\n {2}sticky:/,
  },
  {
    name: 'what the other site refuses is not tried here',
    bootstrap: (b) => {
      tree(route(b, 'decided_remote_pool'), 'route', 'retry_policy').retry_on =
        'connect-failure,refused-stream,reset-before-request';
    },
    finds: ['retry on refusal: wrong'],
    says: /^route "decided_remote_pool" does not retry what the other site refuses \(x-site-refused\)/,
    fix: /retriable_headers:\n\s+- name: x-site-refused/,
    at: (b) => tree(route(b, 'decided_remote_pool'), 'route'),
  },
  {
    name: 'each retry meets the site that has refused',
    bootstrap: (b) => leadTo(route(b, 'decided_remote_pool'), 'remote_pool_or_local'),
    finds: ['retry on refusal: wrong'],
    says: /has no retry_priority/,
    fix: /previous_priorities/,
    at: (b) => tree(route(b, 'decided_remote_pool'), 'route', 'retry_policy'),
  },
  {
    name: 'the remote route leads to the other site alone',
    bootstrap: (b) => {
      for (const name of ['decided_remote_pool', 'undecided_remote_pool']) {
        leadTo(route(b, name), 'remote_pool');
      }
    },
    finds: ['retry on refusal: warn', 'retry on refusal: warn'],
    says: /has nowhere to go where the other site is down or refuses$/,
    fix: /name: remote_pool_or_local/,
  },
  {
    name: 'a local route without retries',
    bootstrap: (b) => delete tree(route(b, 'undecided_local'), 'route').retry_policy,
    finds: ['retries: warn'],
    says: /^route "undecided_local" does not retry on connect-failure, refused-stream, reset-before-request/,
    fix: /retry_policy:\n {2}retry_on: connect-failure/,
    at: (b) => tree(route(b, 'undecided_local'), 'route'),
  },
  {
    name: 'retries of what a server has seen',
    bootstrap: (b) => {
      tree(route(b, 'undecided_local'), 'route', 'retry_policy').retry_on =
        'connect-failure,refused-stream,reset-before-request,5xx';
    },
    finds: ['retries: warn'],
    says: /retries on 5xx: a request that a server has seen may be sent twice$/,
    at: (b) => tree(route(b, 'undecided_local'), 'route'),
  },
  // Envoy's own answers
  {
    name: 'Envoy does not refuse',
    bootstrap: (b) => delete manager(b).local_reply_config,
    finds: ['refusal: wrong'],
    says: /^Envoy's own 503 has no x-site-refused/,
    fix: /- UH\n\s+- UF[\s\S]*key: x-site-refused/,
    at: manager,
  },
  {
    name: 'Envoy refuses what a server may have seen',
    bootstrap: (b) =>
      list(
        manager(b),
        'local_reply_config',
        'mappers',
        0,
        'filter',
        'and_filter',
        'filters',
        0,
        'response_flag_filter',
        'flags',
      ).push('UT'),
    finds: ['refusal: wrong'],
    says: /is on answers with the flag UT: a request that a server has seen may be sent twice$/,
    at: manager,
  },
  {
    name: 'Envoy refuses without a connection only',
    bootstrap: (b) => {
      tree(
        manager(b),
        'local_reply_config',
        'mappers',
        0,
        'filter',
        'and_filter',
        'filters',
        0,
        'response_flag_filter',
      ).flags = ['UF'];
    },
    finds: ['refusal: wrong'],
    says: /is not on answers with the flag UH$/,
    at: manager,
  },
  {
    name: 'Envoy tells clients too that it refuses',
    bootstrap: (b) => {
      const mapper = tree(manager(b), 'local_reply_config', 'mappers', 0);
      mapper.filter = tree(mapper, 'filter', 'and_filter', 'filters', 0);
    },
    finds: ['refusal: warn'],
    says: /is on answers to clients as well/,
    at: manager,
  },
  {
    name: 'the servers may say that they refuse',
    bootstrap: (b) => {
      const mutations = localMutations(b);
      const kept = list(mutations, 'response_mutations').filter((mutation) => 'append' in tree(mutation));
      mutations.response_mutations = kept;
    },
    finds: ["the servers' own: warn"],
    says: /gets the request again/,
    fix: /remove: x-site-refused/,
    at: (b) => cluster(b, 'local_pool'),
  },
  // The fast path
  {
    name: 'the key of the fast path is left over',
    bootstrap: (b) => {
      tree(b, 'layered_runtime', 'layers', 0, 'static_layer')['site_persistence.fast_path'] = 100;
    },
    finds: ['key: wrong'],
    says: /^site_persistence\.fast_path is 100, though envoy\.fast_path is false/,
    fix: /^curl -X POST "http:\/\/127\.0\.0\.1:\d+\/runtime_modify\?site_persistence\.fast_path=0"$/,
  },
  {
    name: 'a route of the fast path is left over',
    rendered: { envoy: { fast_path: true } },
    config: {},
    finds: ['route: warn'],
    says: /^route "fast_local" reads site_persistence\.fast_path, though envoy\.fast_path is false$/,
    fix: /fast_path: true/,
  },
  {
    name: 'the key of the fast path cannot be set',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => list(b, 'layered_runtime', 'layers').pop(),
    finds: ['key: wrong'],
    says: /layered_runtime has no admin_layer$/,
    fix: /admin_layer: \{\}/,
  },
  {
    name: 'no route for the fast path',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => remove(routes(b), 'fast_local'),
    finds: ['route: wrong'],
    says: /^no route reads site_persistence\.fast_path/,
    fix: /runtime_key: site_persistence\.fast_path/,
    at: routes,
  },
  {
    name: 'the fast path asks the sidecar all the same',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => delete route(b, 'fast_local').typed_per_filter_config,
    finds: ['route: wrong'],
    says: /^route "fast_local" does not switch envoy\.filters\.http\.ext_proc off/,
    fix: /FilterConfig\n\s+disabled: true/,
    at: (b) => route(b, 'fast_local'),
  },
  {
    name: 'the fast path is on without a key',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => {
      tree(route(b, 'fast_local'), 'match', 'runtime_fraction', 'default_value').numerator = 100;
    },
    finds: ['route: wrong'],
    says: /takes requests when site_persistence\.fast_path is not set/,
  },
  {
    name: 'the fast path takes what needs a decision',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => delete tree(route(b, 'fast_local'), 'match').headers,
    finds: ['route: wrong'],
    says: /with x-site-hop, with the cookie of west, for the status URI, for the status URI, escaped$/,
    fix: /invert_match: true/,
    at: (b) => {
      remove(routes(b), 'fast_local');
      return routes(b);
    },
  },
];

async function ask(url: string, times: number, cookies = '', hop = ''): Promise<void> {
  const headers = { ...(cookies === '' ? {} : { cookie: cookies }), ...(hop === '' ? {} : { 'x-site-hop': hop }) };
  for (let count = 0; count < times; count++) await (await fetch(url, { headers })).text();
}

/** All but what is fine, as `check: mark`. */
function troubles(findings: readonly DoctorFinding[]): string[] {
  return findings.filter(({ mark }) => mark !== 'ok').map(({ check, mark }) => `${check}: ${mark}`);
}

const ALL_WELL = { code: 0, troubles: [] };

async function outcome(site: DoctorSite, changes: Changes) {
  const { code, findings } = await site.examine(changes);
  return { code, troubles: troubles(findings) };
}

describe('on Envoy 1.40, broken in one way:', () => {
  let site: DoctorSite;
  beforeAll(async () => {
    site = await DoctorSite.start('1.40.0');
  });
  afterAll(async () => await site?.close());

  test.each(CASES.map((each) => [each.name, each] as const))('%s', async (_, each) => {
    const { finds, says, fix, at, besides = [], name: __, ...changes } = each;
    const { code, findings } = await site.examine(changes);
    const isBesides = (line: string) =>
      (besides.includes('*') || besides.includes(line.replace(/: \w+$/, ''))) && !finds.includes(line);
    const found = troubles(findings).filter((line) => !isBesides(line));
    expect(found.sort()).toEqual([...finds].sort());
    const [check, mark] = (finds[0] ?? '').split(': ');
    const candidates = findings.filter((finding) => finding.check === check && finding.mark === mark);
    expect(candidates.map(({ text }) => text)).toContainEqual(expect.stringMatching(says));
    const finding = candidates.find(({ text }) => says.test(text));
    if (fix !== undefined) expect(finding?.fix?.lines).toMatch(fix);
    expect(code).toBe(findings.some((other) => other.mark === 'wrong') ? 1 : 0);
    if (at === undefined) return;

    const lines: unknown = parse(finding?.fix?.lines ?? '');
    const { bootstrap: change, ...others } = changes;
    const fixed = await outcome(site, {
      ...others,
      bootstrap: (bootstrap: Tree, ports: Ports) => {
        change?.(bootstrap, ports);
        paste(at(bootstrap), lines);
      },
    });
    expect(fixed).toEqual(ALL_WELL);
  });

  test('filters in another order: the order that is printed is right', async () => {
    const names = ['stateful_session', 'health_check', 'ext_proc', 'router'].map(
      (name) => `envoy.filters.http.${name}`,
    );
    const reorder = (bootstrap: Tree, order: readonly string[]) => {
      manager(bootstrap).http_filters = order.map((name) => tree(filters(bootstrap), `name=${name}`));
    };
    const { findings } = await site.examine({ bootstrap: (b) => reorder(b, names) });
    expect(troubles(findings)).toEqual(['order: wrong']);
    const lines: unknown = parse(findings.find(({ mark }) => mark === 'wrong')?.fix?.lines ?? '');
    const right = list(lines, 'http_filters').map((item) => String(tree(item).name));
    expect(await outcome(site, { bootstrap: (b) => reorder(b, right) })).toEqual(ALL_WELL);
  });

  test.each(['adopt', 'keep', 'refuse'])('on_owner_down: %s, as it is printed: all is well', async (on_owner_down) => {
    expect(await outcome(site, { rendered: { on_owner_down } })).toEqual(ALL_WELL);
  });

  test('with all that a config can say, all is well but for sites that are not there', async () => {
    const rendered = {
      status_uri: '/a.b(c)/status',
      local_pool: {
        cluster: 'local.pool:1',
        cookie: { name: '__Secure-KV.A', path: '/app', domain: 'example.com', same_site: 'None', secure: true },
      },
      remote_pools: [
        { site: 'west', cluster: 'west', cookie: 'DD$VH', servers: ['localhost:1'], tls: { sni: 'west.example.com' } },
        { site: 'north', cluster: 'north|pool', cookie: 'NN', servers: ['127.0.0.1:1', '127.0.0.1:2'] },
      ],
      envoy: { fast_path: true },
    };
    const { code, findings } = await site.examine({ rendered });
    expect({ code, troubles: troubles(findings) }).toEqual({ code: 0, troubles: ['hosts: warn', 'hosts: warn'] });
  });

  test('with TLS for clients and a listener for other sites: all is well while their certificates last', async () => {
    const ca = await TestCa.create(site.directory);
    const { certFile, keyFile } = await ca.issue('edge', { days: 30 });
    const own = { cert_file: certFile, key_file: keyFile };
    const envoy = {
      listen_tls: own,
      hop_listen: `127.0.0.1:${site.ports.second}`,
      hop_listen_tls: { ...own, client_ca_file: ca.certFile },
    };
    // The CA's own, which has no name, ends tomorrow; it might be one of the system's.
    expect(await outcome(site, { rendered: { envoy } })).toEqual(ALL_WELL);
    await ca.issue('edge');
    const { code, findings } = await site.examine({ rendered: { envoy } });
    expect(code).toBe(0);
    const bad = findings.filter(({ mark }) => mark !== 'ok').map(({ text }) => text.replace(/unnamed_cert_\w+/, 'it'));
    expect(new Set(bad.map((text) => text.replace(/\d{5}/, 'PORT')))).toEqual(
      new Set([expect.stringMatching(/^it of listener 127\.0\.0\.1_PORT expires on \d{4}-\d\d-\d\d$/)]),
    );
    expect(bad).toHaveLength(2);
  });

  test('with an Envoy config of the operator, in files of its own and under other names: all is well', async () => {
    expect(await outcome(site, { bootstrap: (b, ports) => asOperatorsDo(b, ports, site.directory) })).toEqual(ALL_WELL);
  });

  test('what is wrong in one of several listeners is said of that one', async () => {
    const { findings } = await site.examine({
      bootstrap: (b, { second }) => {
        const listeners = list(b, 'static_resources', 'listeners');
        const other = structuredClone(tree(listeners, 'name=edge'));
        Object.assign(other, { name: 'other' });
        tree(other, 'address', 'socket_address').port_value = second;
        const config = tree(other, 'filter_chains', 0, 'filters', 0, 'typed_config');
        delete tree(config, 'http_filters', 'name=envoy.filters.http.ext_proc', 'typed_config').failure_mode_allow;
        listeners.push(other);
      },
    });
    expect(findings.filter(({ mark }) => mark !== 'ok').map(({ text }) => text)).toEqual([
      'listener other: failure_mode_allow is not set: without a sidecar every request fails',
    ]);
  });

  test('a listener that leads to the pools without a sidecar is warned of', async () => {
    const { code, findings } = await site.examine({
      bootstrap: (b, { second }) => {
        const listeners = list(b, 'static_resources', 'listeners');
        const other = structuredClone(tree(listeners, 'name=edge'));
        Object.assign(other, { name: 'other' });
        tree(other, 'address', 'socket_address').port_value = second;
        remove(
          list(other, 'filter_chains', 0, 'filters', 0, 'typed_config', 'http_filters'),
          'envoy.filters.http.ext_proc',
        );
        listeners.push(other);
      },
    });
    expect(code).toBe(0);
    expect(findings.filter(({ mark }) => mark !== 'ok').map(({ text }) => text)).toEqual([
      'listener other leads to the pools too, but asks no sidecar',
    ]);
  });

  test('an admin interface that lets only the sidecar work says what it does not show', async () => {
    const { code, findings } = await site.examine({
      bootstrap: (b) => {
        tree(b, 'admin').allow_paths = ['/stats', '/clusters', '/ready'].map((prefix) => ({ prefix }));
      },
    });
    expect(code).toBe(1);
    expect(findings.filter(({ mark }) => mark === 'wrong').map(({ text }) => text)).toEqual([
      'GET /config_dump was answered 403: most of what follows cannot be checked',
    ]);
    expect(findings.find(({ mark }) => mark === 'wrong')?.fix?.lines).toBe(
      'allow_paths:\n  - safe_regex:\n      regex: /config_dump(\\?.*)?',
    );
  });
});

describe.each(['1.36.4', '1.38.3', '1.40.0'])('on Envoy %s', (release) => {
  let site: DoctorSite;
  beforeAll(async () => {
    site = await DoctorSite.start(release);
  });
  afterAll(async () => await site?.close());

  test.each([false, true])('all is well with what is printed, under traffic, with fast_path: %s', async (fast_path) => {
    const meanwhile = async (edge: string) => {
      await ask(edge, 20);
      await ask(edge, 20, 'DDVHSLLQ=x');
      await ask(edge, 20, 'DDVHSLLQ=x', 'west');
    };
    expect(await outcome(site, { rendered: { envoy: { fast_path } }, meanwhile })).toEqual(ALL_WELL);
  });

  test('for people: a line for each finding, and the lines of the fixes below', async () => {
    const text = await site.print({ bootstrap: (b) => delete extProc(b).failure_mode_allow });
    expect(text).toContain(
      `site east, Envoy ${release} at http://127.0.0.1:${site.ports.admin}\n\nEnvoy\n  ok     admin`,
    );
    expect(text).toMatch(
      /\n {2}WRONG {2}failure mode +failure_mode_allow is not set: .*\n {9}in typed_config of the ext_proc filter:\n {11}failure_mode_allow: true\n/,
    );
    expect(text).toMatch(/\n\n\d+ ok, 0 warn, 1 wrong\n$/);
  });
});

test.each([
  ['1.36.4', 'wrong'],
  ['1.38.3', 'warn'],
])('the graceful close flag is not for Envoy %s', async (release, mark) => {
  const site = await DoctorSite.start(release);
  try {
    const { findings } = await site.examine({
      bootstrap: (b) => {
        b.layered_runtime = { layers: [{ name: 'static', static_layer: { [FLAG]: true } }] };
      },
    });
    expect(troubles(findings)).toEqual([`graceful close: ${mark}`]);
    expect(findings.find((finding) => finding.mark === mark)?.fix?.lines).toBe(`${FLAG}: false`);
  } finally {
    await site.close();
  }
});

/** The same Envoy as an operator might have it: from files that Envoy watches, by other names, with more in it. */
function asOperatorsDo(bootstrap: Tree, { second }: Ports, directory: string): void {
  const write = (name: string, resources: unknown): Tree => {
    const path = join(directory, `${name}.json`);
    writeFileSync(path, JSON.stringify({ resources }));
    return { path_config_source: { path }, resource_api_version: 'V3' };
  };
  const type = (name: string) => ({ '@type': `type.googleapis.com/envoy.config.${name}` });

  tree(extProc(bootstrap), 'grpc_service', 'envoy_grpc').cluster_name = 'deciders';
  const sidecars = cluster(bootstrap, 'site_persistence');
  sidecars.name = 'deciders';
  tree(sidecars, 'load_assignment').cluster_name = 'deciders';
  filter(bootstrap, 'stateful_session').name = 'sticky';
  for (const item of routes(bootstrap)) {
    const settings = isTree(item) ? item.typed_per_filter_config : undefined;
    if (!isTree(item) || !isTree(settings)) continue;
    item.typed_per_filter_config = { sticky: settings['envoy.filters.http.stateful_session'] };
  }
  const decide = filter(bootstrap, 'ext_proc');
  const config = decide.typed_config;
  decide.name = 'decide';
  delete decide.typed_config;
  const extension = { '@type': 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig', name: 'decide' };
  decide.config_discovery = {
    config_source: write('ecds', [{ ...extension, typed_config: config }]),
    type_urls: ['type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor'],
  };

  const host = tree(manager(bootstrap), 'route_config', 'virtual_hosts', 0);
  const shop = structuredClone(host);
  Object.assign(shop, { name: 'shop', domains: ['shop.example.com'] });
  list(shop, 'routes').unshift(
    { name: 'old', match: { prefix: '/old/' }, redirect: { path_redirect: '/' } },
    { name: 'robots', match: { path: '/robots.txt' }, direct_response: { status: 404 } },
    { name: 'metrics', match: { path_separated_prefix: '/metrics' }, route: { cluster: 'metrics' } },
  );
  const other = {
    name: 'other',
    domains: ['other.example.com'],
    routes: [{ match: { prefix: '/' }, route: { cluster: 'metrics' } }],
  };
  const routeConfig = { ...tree(manager(bootstrap), 'route_config'), virtual_hosts: [host, shop, other] };
  const inline = structuredClone(manager(bootstrap));
  delete manager(bootstrap).route_config;
  manager(bootstrap).rds = {
    route_config_name: 'sites',
    config_source: write('rds', [{ ...type('route.v3.RouteConfiguration'), ...routeConfig }]),
  };
  const edge = tree(list(bootstrap, 'static_resources', 'listeners'), 'name=edge');
  const tls = structuredClone(edge);
  Object.assign(tls, { name: 'second' });
  tree(tls, 'address', 'socket_address').port_value = second;
  tree(tls, 'filter_chains', 0, 'filters', 0).typed_config = inline;

  const metrics = { name: 'metrics', type: 'STATIC', load_assignment: { cluster_name: 'metrics', endpoints: [] } };
  bootstrap.dynamic_resources = {
    lds_config: write(
      'lds',
      [...list(bootstrap, 'static_resources', 'listeners'), tls].map((item) => ({
        ...type('listener.v3.Listener'),
        ...tree(item),
      })),
    ),
    cds_config: write(
      'cds',
      [...clusters(bootstrap), metrics].map((item) => ({ ...type('cluster.v3.Cluster'), ...tree(item) })),
    ),
  };
  delete bootstrap.static_resources;
}
