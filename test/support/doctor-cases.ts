import { GRACEFUL_CLOSE_FLAG } from '../../src/contract.ts';
import {
  cluster,
  clusters,
  cookie,
  extProc,
  filter,
  filters,
  keepHeaders,
  leadTo,
  manager,
  refusalFlags,
  remove,
  route,
  routes,
  session,
} from './bootstrap-parts.ts';
import type { Changes } from './doctor-file.ts';
import { isTree, list, type Tree, tree } from './json-tree.ts';

/** A site that is broken in one way. */
export interface DoctorCase extends Changes {
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
  /**
   * By default the case is examined on a snapshot of an Envoy alone. `too`: on a real Envoy as well, as the one of its group
   * that shows that Envoy takes the fix, or because Envoy itself decides what it shows. `only`: a snapshot cannot tell.
   */
  readonly real?: 'too' | 'only';
}

const SITE_STATS = { stats_matcher: { exclusion_list: { patterns: [{ contains: 'membership_' }] } } };

/** What doctor must find, one a line of its checks. */
export const DOCTOR_CASES: readonly DoctorCase[] = [
  // Envoy
  {
    name: 'the graceful close flag is not set',
    real: 'too',
    bootstrap: (b) => list(b, 'layered_runtime', 'layers').shift(),
    finds: ['graceful close: wrong'],
    says: /is off: each decision ends by a reset/,
    fix: /layered_runtime:[\s\S]*ext_proc_graceful_grpc_close: true/,
    at: (b) => b,
  },
  {
    name: 'the graceful close flag is set to false',
    bootstrap: (b) => {
      tree(b, 'layered_runtime', 'layers', 0, 'static_layer')[GRACEFUL_CLOSE_FLAG] = false;
    },
    finds: ['graceful close: wrong'],
    says: /is off/,
    at: (b) => b,
  },
  {
    name: 'the config is for an older Envoy',
    real: 'too',
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
    real: 'too',
    bootstrap: (b) => delete tree(b, 'admin').allow_paths,
    finds: ['admin paths: warn'],
    says: /^every client of the admin interface can stop Envoy: it has no allow_paths$/,
    fix: /allow_paths:[\s\S]*server_info/,
    at: (b) => b,
  },
  {
    name: 'the admin interface refuses the key of the fast path',
    real: 'too',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => {
      const paths = ['stats', 'clusters', 'runtime', 'server_info', 'config_dump', 'listeners', 'ready'];
      tree(b, 'admin').allow_paths = paths.map((path) => ({ safe_regex: { regex: `/${path}(\\?.*)?` } }));
    },
    finds: ['admin paths: wrong'],
    says: /^allow_paths refuses \/runtime_modify: no sidecar can set site_persistence\.default\.east, site_persistence\.default\.west$/,
    fix: /allow_paths:[\s\S]*runtime_modify/,
    at: (b) => b,
  },
  {
    name: 'the gauges are hidden',
    real: 'only',
    bootstrap: (b) => {
      b.stats_config = { stats_matcher: { inclusion_list: { patterns: [{ prefix: 'http.' }] } } };
    },
    finds: ['gauges: warn'],
    says: /^stats_matcher hides membership_\* of local_pool, remote_pool/,
    fix: /inclusion_list:[\s\S]*cluster\\.\(local_pool\|remote_pool\)/,
  },
  {
    name: 'the gauges are excluded',
    real: 'only',
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
    real: 'only',
    bootstrap: (b, ports) => {
      const host = tree(cluster(b, 'local_pool'), 'load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint');
      tree(host, 'address', 'socket_address').port_value = ports.nobody;
    },
    finds: ['hosts: warn'],
    besides: ['servers'],
    says: /^local_pool: 1 of 2 hosts up; 127\.0\.0\.1:\d+ failed active health check: connection refused$/,
  },
  {
    name: 'the local pool is not health-checked',
    bootstrap: (b) => delete cluster(b, 'local_pool').health_checks,
    finds: ['health check: wrong'],
    says: /^local_pool: health_checks is not set: it counts as up whatever happens$/,
    fix: /health_checks:[\s\S]*path: \/healthz/,
    at: (b) => cluster(b, 'local_pool'),
  },
  {
    name: 'the remote pool is not health-checked',
    real: 'too',
    bootstrap: (b) => delete cluster(b, 'remote_pool').health_checks,
    finds: ['health check: wrong'],
    says: /^remote_pool: health_checks is not set: it counts as up whatever happens$/,
    fix: /path: \/local_pool_status[\s\S]*key: x-site-hop/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  {
    name: 'the remote pool is asked for something else',
    bootstrap: (b) => {
      tree(cluster(b, 'remote_pool'), 'health_checks', 0, 'http_health_check').path = '/';
    },
    finds: ['health check: wrong'],
    says: /^remote_pool: http_health_check\.path lacks \/local_pool_status: it does not tell of that site's pool$/,
    fix: /path: \/local_pool_status/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  {
    name: 'the remote pool is asked without the hop header',
    bootstrap: (b) =>
      delete tree(cluster(b, 'remote_pool'), 'health_checks', 0, 'http_health_check').request_headers_to_add,
    finds: ['health check: wrong'],
    says: /request_headers_to_add lacks x-site-hop: while that site drains, its sessions would leave it/,
    fix: /key: x-site-hop/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  {
    name: 'the remote pool takes a 503 for up',
    real: 'too',
    bootstrap: (b) => {
      tree(cluster(b, 'remote_pool'), 'health_checks', 0, 'http_health_check').expected_statuses = [
        { start: 200, end: 600 },
      ];
    },
    finds: ['health check: wrong'],
    says: /expected_statuses is .*: a 503 is taken for less than "down"/,
    fix: /health_checks:/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  {
    name: 'a pool without traffic is seldom checked',
    bootstrap: (b) => delete tree(cluster(b, 'remote_pool'), 'health_checks', 0).no_traffic_interval,
    finds: ['health check: warn'],
    says: /^remote_pool: no_traffic_interval is 60s \(Envoy's default\): so seldom it is checked without traffic$/,
    fix: /no_traffic_interval: 1s/,
    at: (b) => tree(cluster(b, 'remote_pool'), 'health_checks', 0),
  },
  ...['local_pool', 'remote_pool', 'site_persistence'].map(
    (name): DoctorCase => ({
      name: `${name} panics`,
      bootstrap: (b) => delete tree(cluster(b, name), 'common_lb_config').healthy_panic_threshold,
      finds: ['panic threshold: wrong'],
      says: new RegExp(`^${name}: common_lb_config\\.healthy_panic_threshold is 50 \\(Envoy's default\\), not 0: `),
      fix: /common_lb_config:\n {2}healthy_panic_threshold:\n {4}value: 0/,
      at: (b) => cluster(b, name),
    }),
  ),
  {
    name: 'the runtime makes every pool panic',
    bootstrap: (b) => {
      tree(b, 'layered_runtime', 'layers', 0, 'static_layer')['upstream.healthy_panic_threshold'] = 30;
    },
    finds: ['panic threshold: wrong'],
    says: /^the runtime key upstream\.healthy_panic_threshold is 30/,
    fix: /upstream\.healthy_panic_threshold: 0/,
    at: (b) => tree(b, 'layered_runtime', 'layers', 0, 'static_layer'),
  },
  {
    name: 'changes of health are merged',
    bootstrap: (b) => delete tree(cluster(b, 'local_pool'), 'common_lb_config').update_merge_window,
    finds: ['update merge: warn'],
    says: /^local_pool: common_lb_config\.update_merge_window is 1s \(Envoy's default\), not 0s: so late a worker/,
    fix: /update_merge_window: 0s/,
    at: (b) => cluster(b, 'local_pool'),
  },
  ...['local_pool', 'remote_pool', 'remote_pool_or_local'].map(
    (name): DoctorCase => ({
      name: `${name} has Envoy's own limit of retries`,
      bootstrap: (b) => delete cluster(b, name).circuit_breakers,
      finds: ['retry limit: wrong'],
      says: new RegExp(`^${name}: max_retries is 3 \\(Envoy's default\\): further requests`),
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
    says: /^local_pool: retry_budget\.budget_percent\.value is 20 \(Envoy's default\): further requests/,
    fix: /max_retries/,
    at: (b) => cluster(b, 'local_pool'),
  },
  // Sidecars
  {
    name: 'the sidecars have a low circuit breaker',
    bootstrap: (b) => delete cluster(b, 'site_persistence').circuit_breakers,
    finds: ['circuit breaker: wrong'],
    says: /max_requests is 1024 .*, max_pending_requests is 1024 .*, max_retries is 3 .*: beyond that/,
    fix: /max_requests: 1000000/,
    at: (b) => cluster(b, 'site_persistence'),
  },
  {
    name: 'the sidecars are not health-checked',
    real: 'too',
    bootstrap: (b) => delete cluster(b, 'site_persistence').health_checks,
    finds: ['health check: wrong'],
    says: /^site_persistence: health_checks is not set: a sidecar that hangs/,
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
    says: /grpc_health_check is not set: one that hangs/,
    fix: /grpc_health_check/,
    at: (b) => cluster(b, 'site_persistence'),
  },
  {
    name: 'the sidecars are asked for another service',
    real: 'only',
    bootstrap: (b) => {
      tree(cluster(b, 'site_persistence'), 'health_checks', 0, 'grpc_health_check').service_name = 'other.Service';
    },
    finds: ['health check: wrong', 'answering: wrong'],
    says: /service_name is other\.Service, not envoy\.service\.ext_proc\.v3\.ExternalProcessor/,
    at: (b) => cluster(b, 'site_persistence'),
  },
  {
    name: 'the sidecars are asked by HTTP/1.1',
    bootstrap: (b) => {
      delete cluster(b, 'site_persistence').health_checks;
      delete cluster(b, 'site_persistence').typed_extension_protocol_options;
    },
    finds: ['HTTP/2: wrong', 'health check: wrong'],
    says: /http2_protocol_options is not set: it does not speak HTTP\/2/,
    fix: /http2_protocol_options:\n *max_concurrent_streams: 100/,
  },
  {
    name: 'another site gets as many requests on a connection as come',
    bootstrap: (b) => {
      const [options] = Object.values(tree(cluster(b, 'remote_pool'), 'typed_extension_protocol_options'));
      tree(options).explicit_http_config = { http2_protocol_options: {} };
    },
    finds: ['streams: warn'],
    says: /max_concurrent_streams is not set: where the other edge takes fewer/,
  },
  {
    name: 'the idlest sidecar gets the request',
    bootstrap: (b) => {
      cluster(b, 'site_persistence').lb_policy = 'LEAST_REQUEST';
    },
    finds: ['load balancing: warn'],
    says: /lb_policy is LEAST_REQUEST: a sidecar that just died has the fewest requests/,
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
    real: 'only',
    bootstrap: (b, ports) => {
      const endpoint = { address: { socket_address: { address: '127.0.0.1', port_value: ports.nobody } } };
      tree(cluster(b, 'site_persistence'), 'load_assignment').endpoints = [{ lb_endpoints: [{ endpoint }] }];
    },
    finds: ['answering: wrong', 'cluster: wrong'],
    says: /^no sidecar answers, so no request is decided/,
    fix: /site-persistence serve/,
  },
  // The filter
  {
    name: 'there is no ext_proc filter',
    real: 'too',
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
    (name): DoctorCase => ({
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
    says: /^early_header_mutation_extensions\.remove lacks x-site-pool: while no sidecar answers/,
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
    says: /^early_header_mutation_extensions\.remove has x-site-hop: forwarded requests could loop$/,
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
    says: /response_header_mode is SEND \(Envoy's default\), not SKIP/,
    fix: /response_header_mode: SKIP/,
    at: extProc,
  },
  {
    name: 'bodies are sent',
    bootstrap: (b) => {
      Object.assign(tree(extProc(b), 'processing_mode'), {
        request_body_mode: 'BUFFERED',
        response_body_mode: 'STREAMED',
      });
    },
    finds: ['processing mode: wrong'],
    says: /request_body_mode is BUFFERED, not NONE, processing_mode.response_body_mode is STREAMED, not NONE: bodies go/,
    fix: /request_body_mode: NONE\n {2}response_body_mode: NONE/,
    at: extProc,
  },
  {
    name: 'trailers are sent',
    bootstrap: (b) => {
      tree(extProc(b), 'processing_mode').response_trailer_mode = 'SEND';
    },
    finds: ['processing mode: warn'],
    says: /response_trailer_mode is SEND: the sidecar has no use for trailers$/,
    fix: /response_trailer_mode: SKIP/,
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
    says: /response_header_mode is SKIP, not SEND: the sidecar can expire no cookie/,
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
    says: /observability_mode is true: Envoy asks, and does not wait/,
    fix: /observability_mode: false/,
  },
  {
    name: 'the sidecar may not answer itself',
    bootstrap: (b) => {
      extProc(b).disable_immediate_response = true;
    },
    finds: ['answers: wrong'],
    says: /the status URI is not answered, nothing refused/,
    fix: /disable_immediate_response: false/,
    at: extProc,
  },
  {
    name: 'the sidecar may set no header',
    bootstrap: (b) => {
      extProc(b).mutation_rules = { disallow_all: true };
    },
    finds: ['answers: wrong'],
    says: /disallow_all is true: the sidecar's x-site-pool is thrown away/,
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
    says: /^message_timeout is 0\.2s \(Envoy's default\): in a burst/,
    fix: /message_timeout: 1s/,
    at: extProc,
  },
  {
    name: 'decisions get much time',
    bootstrap: (b) => {
      extProc(b).message_timeout = '30s';
    },
    finds: ['message timeout: warn'],
    says: /^message_timeout is 30s: so long/,
    at: extProc,
  },
  {
    name: 'calls to the sidecar are not made again',
    bootstrap: (b) => delete tree(extProc(b), 'grpc_service').retry_policy,
    finds: ['retries: wrong'],
    says: /^grpc_service\.retry_policy is not set: /,
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
    says: /retry_on lacks refused-stream, reset-before-request, reset: /,
    at: extProc,
  },
  {
    name: 'a call is made again at the same sidecar',
    bootstrap: (b) => delete tree(extProc(b), 'grpc_service', 'retry_policy').retry_host_predicate,
    finds: ['retries: warn'],
    says: /retry_host_predicate is not set: a retry may meet the same sidecar$/,
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
    says: /^forward_rules lacks cookie: the sidecar reads/,
    fix: /exact: cookie/,
    at: extProc,
  },
  {
    name: 'the hop header is among those kept back',
    bootstrap: (b) => {
      tree(extProc(b), 'forward_rules').disallowed_headers = { patterns: [{ safe_regex: { regex: 'x-site-.*' } }] };
    },
    finds: ['headers sent: wrong'],
    says: /^forward_rules lacks x-site-hop, x-site-refused: the sidecar reads/,
  },
  {
    name: 'every header leaves Envoy',
    bootstrap: (b) => delete extProc(b).forward_rules,
    finds: ['headers sent: warn'],
    says: /^forward_rules has authorization: every header leaves Envoy/,
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
    says: /max_headers_count is 100 \(.*\), max_request_headers_kb is 60 \(.*\): a request near that is answered 500/,
    fix: /max_headers_count: 400/,
    at: manager,
  },
  {
    name: 'the decision does not get into the access log',
    bootstrap: (b) => delete extProc(b).metadata_options,
    finds: ['metadata: warn'],
    says: /untyped lacks site_persistence: /,
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
      for (const item of routes(b)) {
        const settings = isTree(item) ? item.typed_per_filter_config : undefined;
        if (isTree(settings)) delete settings['envoy.filters.http.stateful_session'];
      }
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
    says: /^cookie\.name is JSESSIONID, not KVAAVROI: /,
    fix: /name: KVAAVROI/,
    at: session,
  },
  {
    name: 'the cookie has another path, ttl and attributes',
    real: 'too',
    bootstrap: (b) => {
      Object.assign(cookie(b), { path: '/app', ttl: '60s', attributes: [{ name: 'Secure' }] });
    },
    finds: ['stickiness: wrong'],
    says: /cookie\.path is \/app, not \/, cookie\.ttl is 60s, not 3600s, cookie\.attributes is secure, not samesite=lax: /,
    fix: /ttl: 3600s[\s\S]*name: SameSite/,
    at: session,
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
    says: /^listener site_persistence_stand_in: cookie\.name is X, not KVAAVROI: /,
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
    says: /^strict is true: /,
    fix: /strict: false/,
    at: session,
  },
  {
    name: 'nobody answers the status URI without a sidecar',
    bootstrap: (b) => remove(filters(b), 'envoy.filters.http.health_check'),
    finds: ['status URI: warn'],
    says: /there is no health_check filter/,
    fix: /cluster_min_healthy_percentages/,
  },
  {
    name: 'a drain is not obeyed without a sidecar',
    real: 'too',
    bootstrap: (b) => remove(routes(b), 'drained_status'),
    finds: ['drained: warn'],
    says: /^no route answers \/local_pool_status with 503 by site_persistence\.drain\.default: without a sidecar such a drain is not obeyed$/,
    fix: /runtime_key: site_persistence\.drain\.default$/m,
    at: routes,
  },
  {
    name: 'the health_check filter answers before the routes of a drain',
    bootstrap: (b) => {
      for (const name of ['evicted_status', 'drained_status', 'drained_in_file_status']) {
        delete route(b, name).typed_per_filter_config;
      }
    },
    finds: ['drained: warn'],
    says: /^no route answers \/local_pool_status with 503 by site_persistence\.drain_evict\.default, site_persistence\.drain\.default, site_persistence\.drain_in_file\.default:/,
    fix: /envoy\.filters\.http\.health_check:/,
    at: routes,
  },
  {
    name: 'the status URI is always 200 without a sidecar',
    bootstrap: (b) => delete tree(filter(b, 'health_check'), 'typed_config').cluster_min_healthy_percentages,
    finds: ['status URI: warn'],
    says: /^cluster_min_healthy_percentages lacks local_pool: .* is answered 200, however the pool is$/,
    fix: /cluster_min_healthy_percentages:\n {2}local_pool:/,
    at: (b) => tree(filter(b, 'health_check'), 'typed_config'),
  },
  // Routes
  {
    name: 'a route takes every request before those to the pools',
    bootstrap: (b) =>
      routes(b).unshift({ name: 'maintenance', match: { prefix: '/' }, direct_response: { status: 503 } }),
    finds: ['decided: wrong'],
    says: /^route "maintenance" takes every request of virtual host application: no route after it is reached/,
    fix: /^take route "maintenance" out, or put it after the routes to the pools$/,
    besides: ['drained', 'hop header', 'retry on refusal', 'stickiness off'],
  },
  {
    name: 'no route for the remote pool',
    real: 'too',
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
    says: /^with x-site-hop, route "decided_local" may send a retry on to remote_pool: it could loop$/,
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
    says: /^route "decided_remote_pool": retry_policy\.retry_on lacks retriable-headers: what the other site refuses is lost$/,
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
    says: /^route "undecided_local": retry_policy\.retry_on lacks connect-failure, refused-stream, reset-before-request/,
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
    says: /retry_policy\.retry_on has 5xx: a request that a server has seen may be sent twice$/,
    at: (b) => tree(route(b, 'undecided_local'), 'route'),
  },
  // Envoy's own answers
  {
    name: 'Envoy does not refuse',
    real: 'too',
    bootstrap: (b) => delete manager(b).local_reply_config,
    finds: ['refusal: wrong'],
    says: /^Envoy's own 503 has no x-site-refused/,
    fix: /- UH\n\s+- UF[\s\S]*key: x-site-refused/,
    at: manager,
  },
  {
    name: 'Envoy refuses what a server may have seen',
    bootstrap: (b) => list(refusalFlags(b), 'flags').push('UT'),
    finds: ['refusal: wrong'],
    says: /is on answers with the flag UT: a request that a server has seen may be sent twice$/,
    at: manager,
  },
  {
    name: 'Envoy refuses without a connection only',
    bootstrap: (b) => {
      refusalFlags(b).flags = ['UF'];
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
    bootstrap: (b) => keepHeaders(b, 'local_pool'),
    finds: ["the servers' own: warn", "the servers' own: warn"],
    says: /^local_pool: response_mutations\.remove lacks x-site-refused: .* gets the request again/,
    fix: /remove: x-site-refused/,
    at: (b) => cluster(b, 'local_pool'),
  },
  {
    name: 'the servers may say that they fail their health check, where a request may leave the site',
    bootstrap: (b) => keepHeaders(b, 'local_pool_or_elsewhere'),
    finds: ["the servers' own: warn", "the servers' own: warn"],
    says: /^local_pool_or_elsewhere: .* lacks x-envoy-immediate-health-check-fail: .* at the other sites this whole edge$/,
    fix: /remove: x-envoy-immediate-health-check-fail/,
    at: (b) => cluster(b, 'local_pool_or_elsewhere'),
  },
  {
    name: 'the servers may say that they fail their health check, where WebSockets go',
    rendered: { local_pool: { protocol: 'downstream' } },
    bootstrap: (b) => keepHeaders(b, 'local_pool_http1'),
    finds: ["the servers' own: warn", "the servers' own: warn"],
    says: /^local_pool_http1: .* lacks x-site-refused/,
    fix: /http_protocol_options: \{\}[\s\S]*remove: x-site-refused/,
    // The servers speak HTTP/1.1 alone.
    besides: ['local pool'],
  },
  {
    name: 'the servers may say so by a cluster of another name',
    bootstrap: (b) => {
      clusters(b).push({ ...structuredClone(cluster(b, 'local_pool')), name: 'app_by_the_way' });
      keepHeaders(b, 'app_by_the_way');
      leadTo(route(b, 'decided_local'), 'app_by_the_way');
    },
    finds: ["the servers' own: warn", "the servers' own: warn"],
    says: /^app_by_the_way: .* lacks x-envoy-immediate-health-check-fail/,
    besides: ['decided', 'retries', 'retry on refusal', 'retry limit'],
  },
  {
    name: 'the servers may say so to this Envoy alone',
    bootstrap: (b) => {
      keepHeaders(b, 'local_pool');
      tree(manager(b), 'route_config').response_headers_to_remove = ['X-Envoy-Immediate-Health-Check-Fail'];
    },
    finds: ["the servers' own: warn", "the servers' own: warn"],
    says: /^local_pool: .* lacks x-envoy-immediate-health-check-fail: its own servers can take themselves out$/,
    at: (b) => cluster(b, 'local_pool'),
  },
  ...(['remote_pool_or_local', 'site_persistence_anywhere'] as const).map(
    (name): DoctorCase => ({
      name: `another site may say that its edge fails its health check, by ${name}`,
      ...(name === 'remote_pool_or_local' ? { real: 'too' as const } : {}),
      bootstrap: (b) => keepHeaders(b, name),
      finds: ["the other sites' own: warn", "the other sites' own: warn"],
      says: new RegExp(`^${name}: .* lacks x-envoy-immediate-health-check-fail: .* whole edge out, for all clients$`),
      fix: /remove: x-envoy-immediate-health-check-fail[\s\S]*remove: x-envoy-ratelimited/,
      at: (b) => cluster(b, name),
    }),
  ),
  {
    name: 'another site may say so by an aggregate of another name',
    bootstrap: (b) => {
      keepHeaders(b, 'remote_pool_or_local');
      Object.assign(b, tree(JSON.parse(JSON.stringify(b).replaceAll('remote_pool_or_local', 'west_or_here'))));
    },
    finds: ["the other sites' own: warn", "the other sites' own: warn"],
    says: /^west_or_here: .* lacks x-envoy-immediate-health-check-fail/,
    at: (b) => cluster(b, 'west_or_here'),
  },
  {
    name: 'another site may say so where nobody else serves its sessions',
    rendered: { on_owner_down: 'refuse' },
    bootstrap: (b) => keepHeaders(b, 'remote_pool'),
    finds: ["the other sites' own: warn", "the other sites' own: warn"],
    says: /^remote_pool: .* lacks x-envoy-overloaded, x-envoy-ratelimited: .* is not tried elsewhere$/,
    at: (b) => cluster(b, 'remote_pool'),
  },
  // The fast path
  {
    name: 'the key of the fast path is left over',
    rendered: { envoy: { fast_path: false } },
    config: { envoy: { fast_path: false } },
    bootstrap: (b) => {
      tree(b, 'layered_runtime', 'layers', 0, 'static_layer')['site_persistence.default.east'] = 100;
      // No sidecar can take it away, either.
      list(b, 'layered_runtime', 'layers').pop();
    },
    finds: ['key: wrong'],
    says: /^site_persistence\.default\.east is 100, though envoy\.fast_path is false/,
    fix: /^curl -X POST "http:\/\/127\.0\.0\.1:\d+\/runtime_modify\?site_persistence\.default\.east=0"$/,
  },
  {
    name: 'a route of the fast path is left over',
    rendered: { envoy: { fast_path: true } },
    config: { envoy: { fast_path: false } },
    finds: ['route: warn'],
    says: /reads site_persistence\.default\.east, site_persistence\.default\.west, though envoy\.fast_path is false$/,
    fix: /fast_path: true/,
  },
  {
    name: 'the key of the fast path cannot be set',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => list(b, 'layered_runtime', 'layers').pop(),
    finds: ['key: wrong'],
    says: /layered_runtime has no admin_layer\. Each request asks, and a drain is that of one sidecar$/,
    fix: /admin_layer: \{\}/,
  },
  {
    name: 'no route for the fast path',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => remove(routes(b), 'steady_remote_pool'),
    finds: ['route: wrong'],
    says: /^no route reads site_persistence\.default\.west/,
    fix: /runtime_key: site_persistence\.default\.west/,
    at: routes,
  },
  {
    name: 'the fast path asks the sidecar all the same',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => delete route(b, 'steady_new').typed_per_filter_config,
    finds: ['route: wrong'],
    says: /^route "steady_new" does not switch envoy\.filters\.http\.ext_proc off/,
    fix: /FilterConfig\n\s+disabled: true/,
    at: (b) => route(b, 'steady_new'),
  },
  {
    name: 'the fast path is not counted',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => delete route(b, 'steady_forwarded').stat_prefix,
    finds: ['route: warn'],
    says: /^what route "steady_forwarded" decides is not counted: it has no stat_prefix$/,
    fix: /^stat_prefix: site_persistence_default_steady_forwarded$/,
    at: (b) => route(b, 'steady_forwarded'),
  },
  {
    name: 'the fast path is counted under a name of before',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => {
      route(b, 'steady_new').stat_prefix = 'site_persistence_new';
    },
    finds: ['route: warn'],
    says: /^what route "steady_new" decides is not counted: no sidecar reads the stat_prefix site_persistence_new$/,
    fix: /^stat_prefix: site_persistence_default_steady_new$/,
    at: (b) => route(b, 'steady_new'),
  },
  {
    name: 'the fast path is on without a key',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => {
      tree(route(b, 'steady_new'), 'match', 'runtime_fraction', 'default_value').numerator = 100;
    },
    finds: ['route: wrong'],
    says: /takes requests when site_persistence\.default\.east is not set/,
  },
  {
    name: 'the fast path takes what needs a decision',
    real: 'too',
    rendered: { envoy: { fast_path: true } },
    bootstrap: (b) => delete tree(route(b, 'steady_new'), 'match').headers,
    finds: ['route: wrong', 'route: wrong', 'route: wrong'],
    says: /^route "steady_new" decides otherwise than the sidecar: a request for the status URI, escaped goes to local_pool instead of the answer UP$/,
    fix: /invert_match: true/,
    at: (b) => {
      remove(routes(b), 'steady_new');
      return routes(b);
    },
  },
];
