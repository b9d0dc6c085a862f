import { type Address, formatAddress } from '../config/address.ts';
import {
  type Application,
  applicationsOf,
  type Config,
  type EnvoyVersion,
  isOneForEveryHost,
} from '../config/config.ts';
import { HOP_EDGE, SIDECAR_CLUSTER } from '../envoy-config/names.ts';
import type { ConnectionManager, HttpFilter } from './connection-managers.ts';
import { addressesOf, type EnvoySnapshot } from './envoy-snapshot.ts';
import { type Expected, type ExpectedApplication, expectedOf, nearestVersion } from './expected.ts';
import { EXT_PROC } from './extension-types.ts';
import { textAt } from './json.ts';
import type { PeerCertificate } from './peer-certificates.ts';
import { type RouteSurvey, surveyRoutes } from './route-survey.ts';
import type { Spoken } from './spoken-protocols.ts';
import { type HostMap, mapHosts } from './virtual-hosts.ts';

/** A connection manager that asks this site's sidecars. */
export interface Edge extends ConnectionManager {
  readonly extProc: HttpFilter;
  /** Null where it reaches them by Google's gRPC client, without a cluster. */
  readonly sidecarCluster: string | null;
  readonly hostMap: HostMap;
}

/** What is known beside the Envoy. */
export interface Around {
  /** When the snapshot was taken, since 1970. */
  readonly nowMs: number;
  /** Requests that a sidecar saw with this site's cookie more than once, by application; null where none answers. */
  readonly duplicateCookies: ReadonlyMap<string, number> | null;
  /** What servers of the local pools speak; empty where none could be asked. */
  readonly spoken: readonly Spoken[];
  /** The certificates of servers to which Envoy speaks TLS; empty where none could be seen. */
  readonly peers: readonly PeerCertificate[];
}

/** What checks of the whole Envoy and checks of an application look at. */
export interface SharedFacts extends Around {
  readonly config: Config;
  readonly snapshot: EnvoySnapshot;
  /** The Envoy that the checks go by. */
  readonly version: EnvoyVersion;
  readonly expected: Expected;
  readonly edges: readonly Edge[];
  /** One application takes every host, so that what is its own may stand where it is for all. */
  readonly isOneForAll: boolean;
}

/** All that a check looks at. */
export interface Facts extends SharedFacts {
  /** In the order of the config. */
  readonly applications: readonly ApplicationFacts[];
  /** The clusters that lead to the sidecars, as the filters name them. */
  readonly sidecarClusters: readonly string[];
}

/** The same for what is to be said of each application; its edges are those that have a virtual host of it. */
export interface ApplicationFacts extends SharedFacts {
  readonly application: Application;
  readonly rendered: ExpectedApplication;
  /** Where requests go at each edge; none where its routes are not to be seen. */
  readonly surveys: ReadonlyMap<Edge, RouteSurvey>;
}

export function gatherFacts(config: Config, snapshot: EnvoySnapshot, around: Around): Facts {
  const version = nearestVersion(snapshot.version, config.envoy.version);
  const edges = edgesOf(config, snapshot);
  const expected = expectedOf(config, version);
  const isOneForAll = isOneForEveryHost(config);
  const shared = { config, snapshot, ...around, version, expected, edges, isOneForAll };
  return {
    ...shared,
    applications: applicationsOf(config).flatMap((application, index) => {
      const rendered = expected.applications[index];
      return rendered === undefined ? [] : [factsOf(application, rendered, shared)];
    }),
    sidecarClusters: [...new Set(edges.flatMap((edge) => edge.sidecarCluster ?? []))],
  };
}

function factsOf(application: Application, rendered: ExpectedApplication, shared: SharedFacts): ApplicationFacts {
  const { edges, snapshot, isOneForAll } = shared;
  const surveys = new Map(
    edges
      .filter(({ routeConfig }) => routeConfig !== undefined)
      .map((edge) => [edge, surveyRoutes(edge, { application, snapshot, hostMap: edge.hostMap })]),
  );
  // Each application may have a listener of its own, but what other sites forward comes by one for all.
  const hasHosts = (edge: Edge) => surveys.get(edge)?.hosts.length !== 0;
  const isSomewhere = !isOneForAll && edges.some(hasHosts);
  const own = isSomewhere ? edges.filter((edge) => hasHosts(edge) || edge.listener === HOP_EDGE) : edges;
  return { ...shared, edges: own, application, rendered, surveys };
}

/** Where an Envoy asks this site's sidecars. */
export function edgesOf(config: Config, snapshot: EnvoySnapshot): Edge[] {
  return snapshot.connectionManagers.flatMap((manager) => edgeOf(manager, config, snapshot) ?? []);
}

/** Of several filters that may ask the sidecars, one that leads to their addresses is better than one that is named so. */
function edgeOf(manager: ConnectionManager, config: Config, snapshot: EnvoySnapshot): Edge | undefined {
  const sidecars = config.envoy.sidecars.map(formatSidecar);
  const filters = manager.filters.filter(({ type }) => type === EXT_PROC);
  const clusterOf = ({ config: settings }: HttpFilter) =>
    textAt(settings, 'grpc_service', 'envoy_grpc', 'cluster_name') ?? null;
  const leadsThere = (filter: HttpFilter) => {
    const cluster = clusterOf(filter);
    const target = textAt(filter.config, 'grpc_service', 'google_grpc', 'target_uri');
    const addresses = cluster === null ? new Set([target]) : addressesOf(snapshot, cluster);
    return sidecars.some((sidecar) => addresses.has(sidecar));
  };
  const extProc = filters.find(leadsThere) ?? filters.find((filter) => clusterOf(filter) === SIDECAR_CLUSTER);
  if (extProc === undefined) return undefined;
  const hostMap = mapHosts(manager.routeConfig, config);
  return { ...manager, extProc, sidecarCluster: clusterOf(extProc), hostMap };
}

export function formatSidecar(address: Address): string {
  return formatAddress(address);
}
