import { EXT_PROC_SERVICE, MAX_CALLS_OF_CONNECTION } from '../../contract.ts';
import { addressesOf } from '../envoy-snapshot.ts';
import { UPSTREAM_TLS } from '../extension-types.ts';
import { type Facts, formatSidecar } from '../facts.ts';
import { type Fix, ok, steps, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { http2OptionsOf } from '../http-protocol-options.ts';
import { at, entriesAt, listAt, pick, textAt, typeOf } from '../json.ts';
import type { CheckGroup } from './check.ts';
import { limitOf, panicThreshold } from './cluster-limits.ts';

/** The cluster through which Envoy asks the sidecars. */
export const SIDECAR_CHECKS: CheckGroup = {
  name: 'Sidecars',
  checks: [
    { name: 'cluster', run: (facts) => eachCluster(facts, addresses) },
    { name: 'answering', run: (facts) => eachCluster(facts, answering) },
    { name: 'HTTP/2', run: (facts) => eachCluster(facts, http2) },
    { name: 'TLS', run: (facts) => eachCluster(facts, tls) },
    { name: 'circuit breaker', run: (facts) => eachCluster(facts, circuitBreaker) },
    { name: 'health check', run: (facts) => eachCluster(facts, healthCheck) },
    { name: 'panic threshold', run: (facts) => eachCluster(facts, panicThreshold) },
    { name: 'load balancing', run: (facts) => eachCluster(facts, loadBalancing) },
  ],
};

function eachCluster(facts: Facts, check: (facts: Facts, cluster: string) => Verdict): Verdict[] {
  if (facts.sidecarClusters.length > 0) return facts.sidecarClusters.map((cluster) => check(facts, cluster));
  return [
    unchecked(
      facts.edges.length === 0
        ? 'no filter asks the sidecars, so their cluster is not known'
        : "Google's gRPC client (google_grpc) has no cluster: use envoy_grpc",
    ),
  ];
}

function addresses({ config, snapshot, expected }: Facts, cluster: string): Verdict {
  const wanted = config.envoy.sidecars.map(formatSidecar);
  const fix = (what: unknown) => yaml(`in cluster ${cluster}:`, pick(what, 'load_assignment', 'endpoints'));
  if (!snapshot.clusters.has(cluster)) {
    return wrong(
      `the ext_proc filter asks cluster ${cluster}, which Envoy does not have`,
      yaml('in clusters:', [{ ...Object.fromEntries(entriesAt(expected.sidecarCluster)), name: cluster }]),
    );
  }
  const there = addressesOf(snapshot, cluster);
  const missing = wanted.filter((address) => !there.has(address));
  if (missing.length === 0) return ok(`${cluster}: ${[...there].join(', ')}`);
  const text = `${cluster} leads to ${[...there].join(', ') || 'no host'}, not to ${missing.join(', ')} of envoy.sidecars`;
  return missing.length === wanted.length
    ? wrong(text, fix(expected.sidecarCluster))
    : warn(text, fix(expected.sidecarCluster));
}

function answering({ snapshot, config }: Facts, cluster: string): Verdict {
  const hosts = snapshot.hosts?.get(cluster);
  if (hosts === undefined) return unchecked(`the hosts of ${cluster} cannot be read`);
  const down = hosts.filter((host) => !host.up).map((host) => `${host.address} ${host.why}`);
  if (hosts.length > 0 && down.length === 0) return ok(`${hosts.length} of ${hosts.length} up`);
  const text = [`${hosts.length - down.length} of ${hosts.length} up`, ...down].join('; ');
  if (down.length < hosts.length) return warn(text);
  return wrong(
    `no sidecar answers, so no request is decided: ${text}`,
    steps(
      'run it:',
      'site-persistence serve --config site.yaml',
      ...(config.listenTls === null
        ? []
        : ["# where it runs it refuses Envoy's certificate, or Envoy its: its log says which"]),
    ),
  );
}

function http2({ snapshot, expected }: Facts, cluster: string): Verdict {
  const http2Options = http2OptionsOf(snapshot.clusters.get(cluster));
  const fix = yaml(`in cluster ${cluster}:`, pick(expected.sidecarCluster, 'typed_extension_protocol_options'));
  if (http2Options === undefined) return wrong(`${cluster} does not speak HTTP/2, and so no gRPC`, fix);
  const most = at(http2Options, 'max_concurrent_streams');
  if (typeof most === 'number' && most <= MAX_CALLS_OF_CONNECTION) return ok(`${cluster} speaks HTTP/2`);
  return warn(
    `${cluster} may open more than ${MAX_CALLS_OF_CONNECTION} streams on a new connection: in a burst the sidecar refuses the others, and they go on undecided`,
    fix,
  );
}

function tls({ snapshot, expected, config }: Facts, cluster: string): Verdict {
  const settings = snapshot.clusters.get(cluster);
  if (listAt(settings, 'transport_socket_matches').length > 0) {
    return unchecked(`${cluster} has transport_socket_matches: see that they are right for its hosts`);
  }
  const hasTls = typeOf(at(settings, 'transport_socket', 'typed_config')) === UPSTREAM_TLS;
  const needsTls = config.listenTls !== null;
  if (hasTls === needsTls) return ok(needsTls ? `${cluster} speaks TLS` : `${cluster} speaks no TLS, as the sidecar`);
  if (hasTls) {
    const fix = steps(`in cluster ${cluster}:`, 'take transport_socket away, or set listen_tls in the config file');
    return wrong(`${cluster} speaks TLS and the sidecar does not, so no request is decided`, fix);
  }
  const text = `${cluster} does not speak TLS as listen_tls asks for, so no request is decided`;
  if (config.envoy.sidecarTls === null) {
    return wrong(text, steps('in the config file:', 'set envoy.sidecar_tls, and ask again'));
  }
  return wrong(text, yaml(`in cluster ${cluster}:`, pick(expected.sidecarCluster, 'transport_socket')));
}

/** At Envoy's default of 1,024, a burst of 1,500 requests had 476 that nobody decided. */
const ENOUGH_REQUESTS = 10_000;
const ENOUGH_RETRIES = 1_000;
const LIMITS = [
  { name: 'max_requests', enough: ENOUGH_REQUESTS, envoys: 1024 },
  { name: 'max_pending_requests', enough: ENOUGH_REQUESTS, envoys: 1024 },
  // One for each worker and sidecar will do.
  { name: 'max_connections', enough: 1024, envoys: 1024 },
  { name: 'max_retries', enough: ENOUGH_RETRIES, envoys: 3 },
];

function circuitBreaker({ snapshot, expected }: Facts, cluster: string): Verdict {
  const settings = snapshot.clusters.get(cluster);
  const low = LIMITS.map((limit) => ({ ...limit, value: limitOf(settings, limit.name) ?? limit.envoys })).filter(
    ({ value, enough }) => value < enough,
  );
  if (low.length === 0) return ok(`${cluster} has no limit that a burst of requests meets`);
  return wrong(
    `${cluster}: ${low.map(({ name, value }) => `${name} ${value}`).join(', ')}: beyond that requests go on undecided`,
    yaml(`in cluster ${cluster}:`, pick(expected.sidecarCluster, 'circuit_breakers')),
  );
}

function healthCheck({ snapshot, expected }: Facts, cluster: string): Verdict {
  const checks = listAt(snapshot.clusters.get(cluster), 'health_checks');
  const fix: Fix = yaml(`in cluster ${cluster}:`, pick(expected.sidecarCluster, 'health_checks'));
  if (checks.length === 0) {
    return wrong(`${cluster} has no health check: a sidecar that hangs costs each request message_timeout`, fix);
  }
  const grpc = checks.map((check) => at(check, 'grpc_health_check')).find((check) => check !== undefined);
  if (grpc === undefined)
    return wrong(`${cluster} is not checked by gRPC: a sidecar that hangs still takes connections`, fix);
  const service = textAt(grpc, 'service_name') ?? '';
  // The sidecar answers for the whole of it under the empty name.
  if (service === EXT_PROC_SERVICE || service === '') return ok(`${cluster} is checked by gRPC`);
  return wrong(`the health check of ${cluster} asks for the service ${service}, which no sidecar is`, fix);
}

function loadBalancing({ snapshot, expected, config }: Facts, cluster: string): Verdict {
  const settings = snapshot.clusters.get(cluster);
  if (at(settings, 'load_balancing_policy') !== undefined) {
    return unchecked(`${cluster} has a load_balancing_policy: see that it is not one that prefers the idlest host`);
  }
  const policy = textAt(settings, 'lb_policy') ?? 'ROUND_ROBIN';
  if (policy !== 'LEAST_REQUEST' || config.envoy.sidecars.length === 1) return ok(`${cluster}: ${policy}`);
  return warn(
    `${cluster}: ${policy}: a sidecar that just died has the fewest requests, and draws the retries as well`,
    yaml(`in cluster ${cluster}:`, pick(expected.sidecarCluster, 'lb_policy')),
  );
}
