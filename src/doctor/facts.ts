import { type Address, formatAddress } from '../config/address.ts';
import type { Config, EnvoyVersion } from '../config/config.ts';
import { SIDECAR_CLUSTER } from '../envoy-config/names.ts';
import type { ConnectionManager, HttpFilter } from './connection-managers.ts';
import { addressesOf, type EnvoySnapshot } from './envoy-snapshot.ts';
import { type Expected, expectedOf, nearestVersion } from './expected.ts';
import { EXT_PROC } from './extension-types.ts';
import { textAt } from './json.ts';
import type { PeerCertificate } from './peer-certificates.ts';
import { type RouteSurvey, surveyRoutes } from './route-survey.ts';
import type { Spoken } from './spoken-protocols.ts';

/** A connection manager that asks this site's sidecars. */
export interface Edge extends ConnectionManager {
  readonly extProc: HttpFilter;
  /** Null where it reaches them by Google's gRPC client, without a cluster. */
  readonly sidecarCluster: string | null;
}

/** What is known beside the Envoy. */
export interface Around {
  /** When the snapshot was taken, since 1970. */
  readonly nowMs: number;
  /** Requests that a sidecar saw with this site's cookie more than once; null where none answers. */
  readonly duplicateCookies: number | null;
  /** What servers of the local pool speak; empty where none could be asked. */
  readonly spoken: readonly Spoken[];
  /** The certificates of servers to which Envoy speaks TLS; empty where none could be seen. */
  readonly peers: readonly PeerCertificate[];
}

/** All that a check looks at. */
export interface Facts extends Around {
  readonly config: Config;
  readonly snapshot: EnvoySnapshot;
  /** The Envoy that the checks go by. */
  readonly version: EnvoyVersion;
  readonly expected: Expected;
  readonly edges: readonly Edge[];
  /** Where requests go at each edge; none where its routes are not to be seen. */
  readonly surveys: ReadonlyMap<Edge, RouteSurvey>;
  /** The clusters that lead to the sidecars, as the filters name them. */
  readonly sidecarClusters: readonly string[];
}

export function gatherFacts(config: Config, snapshot: EnvoySnapshot, around: Around): Facts {
  const version = nearestVersion(snapshot.version, config.envoy.version);
  const edges = snapshot.connectionManagers.flatMap((manager) => edgeOf(manager, config, snapshot));
  return {
    config,
    snapshot,
    ...around,
    version,
    expected: expectedOf(config, version),
    edges,
    surveys: new Map(
      edges
        .filter(({ routeConfig }) => routeConfig !== undefined)
        .map((edge) => [edge, surveyRoutes(edge, config, snapshot)]),
    ),
    sidecarClusters: [...new Set(edges.flatMap((edge) => edge.sidecarCluster ?? []))],
  };
}

function edgeOf(manager: ConnectionManager, config: Config, snapshot: EnvoySnapshot): Edge[] {
  const sidecars = config.envoy.sidecars.map(formatSidecar);
  for (const extProc of manager.filters) {
    if (extProc.type !== EXT_PROC) continue;
    const cluster = textAt(extProc.config, 'grpc_service', 'envoy_grpc', 'cluster_name');
    if (cluster !== undefined) {
      const addresses = addressesOf(snapshot, cluster);
      if (cluster === SIDECAR_CLUSTER || sidecars.some((sidecar) => addresses.has(sidecar))) {
        return [{ ...manager, extProc, sidecarCluster: cluster }];
      }
    }
    const target = textAt(extProc.config, 'grpc_service', 'google_grpc', 'target_uri');
    if (target !== undefined && sidecars.includes(target)) return [{ ...manager, extProc, sidecarCluster: null }];
  }
  return [];
}

export function formatSidecar(address: Address): string {
  return formatAddress(address);
}
