import { addressesOf } from '../envoy-snapshot.ts';
import { UPSTREAM_TLS } from '../extension-types.ts';
import { type Facts, formatSidecar } from '../facts.ts';
import { SIDECAR_FIELDS } from '../fields/cluster-fields.ts';
import { fieldChecks } from '../fields/judge.ts';
import { sidecarSubject } from '../fields/subjects.ts';
import { ok, type Said, steps, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { at, entriesAt, listAt, pick, typeOf } from '../json.ts';
import type { CheckGroup } from './check.ts';

/** The cluster through which Envoy asks the sidecars. */
export const SIDECAR_CHECKS: CheckGroup = {
  name: 'Sidecars',
  checks: [
    { name: 'cluster', run: (facts) => eachCluster(facts, addresses) },
    { name: 'answering', run: (facts) => eachCluster(facts, answering) },
    { name: 'TLS', run: (facts) => eachCluster(facts, tls) },
    ...fieldChecks(SIDECAR_FIELDS, (facts, judge) =>
      eachCluster(facts, (_, cluster) => judge(sidecarSubject(facts, cluster))),
    ),
  ],
};

function eachCluster(facts: Facts, check: (facts: Facts, cluster: string) => Said): Said {
  if (facts.sidecarClusters.length > 0) return facts.sidecarClusters.flatMap((cluster) => check(facts, cluster));
  return unchecked(
    facts.edges.length === 0
      ? 'no filter asks the sidecars, so their cluster is not known'
      : "Google's gRPC client (google_grpc) has no cluster: use envoy_grpc",
  );
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
