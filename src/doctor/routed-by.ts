import { applicationsOf, type Config } from '../config/config.ts';
import type { EnvoySnapshot } from './envoy-snapshot.ts';
import { type Edge, edgesOf } from './facts.ts';
import { numberAt, textAt } from './json.ts';
import { isOn } from './per-route.ts';
import { isGuardedRedirect, isRedirect } from './redirects.ts';
import type { Probe } from './route-match.ts';
import { describeRoute, firstRoute, readerOf } from './route-survey.ts';
import type { VirtualHost } from './virtual-hosts.ts';

export interface RoutedProbe {
  /** Without its query. */
  readonly path: string;
  readonly host: string;
  /** As the client or the other site sends them, in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** What the sidecar adds once it has decided; `answered`: it answers itself. */
  readonly decided: Readonly<Record<string, string>> | 'answered';
}

/** The route that a running Envoy takes for a GET, and where that leads, as lines for people; one for each of its edges. */
export function routedBy(config: Config, snapshot: EnvoySnapshot, probe: RoutedProbe): string[] {
  const edges = edgesOf(config, snapshot).filter((edge) => !edge.isInternal);
  if (edges.length === 0) return ['Envoy has no listener that asks the sidecars: see "site-persistence doctor"'];
  return edges.map((edge) => `${edge.label}: ${routedAt(edge, { config, snapshot, probe })}`);
}

interface Surroundings {
  readonly config: Config;
  readonly snapshot: EnvoySnapshot;
  readonly probe: RoutedProbe;
}

function routedAt(edge: Edge, { config, snapshot, probe }: Surroundings): string {
  const host = edge.hostMap.taking(probe.host);
  if (host === undefined) return `no virtual host takes ${probe.host || 'a request without a host'}: 404`;
  const { path } = probe;
  const headers = { ...probe.headers, ':authority': probe.host };
  const runtime = snapshot.runtime ?? new Map<string, string>();
  const asking = firstRoute(host, { path, headers, runtime }, new Set());
  const isAsked = isOn(
    edge.extProc,
    [asking, host.config, host.routeConfig].filter((level) => level !== undefined),
  );
  if (!isAsked)
    return `${leadsTo(asking, host, { path, headers, runtime }, { config, snapshot })}, without asking the sidecar`;
  if (probe.decided === 'answered') return 'the sidecar answers';
  const decided: Probe = { path, headers: { ...headers, ...probe.decided }, runtime };
  return leadsTo(firstRoute(host, decided, new Set()), host, decided, { config, snapshot });
}

function leadsTo(
  route: unknown,
  host: VirtualHost,
  { headers }: Probe,
  { config, snapshot }: Omit<Surroundings, 'probe'>,
): string {
  if (route === undefined) return 'no route: 404';
  const name = describeRoute(route);
  const status = numberAt(route, 'direct_response', 'status');
  if (status !== undefined) return `${name} answers ${status}`;
  if (isRedirect(route)) return `${name} redirects to ${textAt(route, 'redirect', 'host_redirect') ?? 'the same host'}`;
  const redirecting = applicationsOf(config)
    .flatMap(({ remotePools }) => remotePools)
    .find((pool) => isGuardedRedirect(route, pool));
  if (redirecting !== undefined) {
    const { redirect, site, cluster } = redirecting;
    return `${name} answers 307 to ${redirect}, with the path and query, while Envoy sees ${site} up, and else goes on as to ${cluster}`;
  }
  const destination = readerOf(applicationsOf(config), snapshot).read(route, host.routeConfig, headers);
  if (destination === null) return `${name} leads to no cluster that is known`;
  const first = [...(destination.first.size > 0 ? destination.first : destination.named)].join(' or ');
  // As the access log and Envoy's admin interface call it.
  const [by = first] = destination.first.size === 1 ? destination.named : [];
  const later = [...destination.later].filter((pool) => !destination.first.has(pool));
  return `${name} to ${first}${by === first ? '' : ` (cluster ${by})`}${later.length === 0 ? '' : `; what that does not take to ${later.join(', ')}`}`;
}
