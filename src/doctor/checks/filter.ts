import { siteKeys } from '../../contract.ts';
import { SIDECAR_CLUSTER } from '../../envoy-config/names.ts';
import type { HttpFilter } from '../connection-managers.ts';
import { createDestinationReader } from '../destination.ts';
import { addressesOf } from '../envoy-snapshot.ts';
import { EXT_PROC, ROUTER } from '../extension-types.ts';
import { type Edge, type Facts, formatSidecar } from '../facts.ts';
import { EXT_PROC_FIELDS, MANAGER_FIELDS } from '../fields/filter-fields.ts';
import { fieldChecks } from '../fields/judge.ts';
import { extProcSubject, managerSubject } from '../fields/subjects.ts';
import { statusFilters, stickinessFilter } from '../filters-of.ts';
import { ok, type Said, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { entriesAt, listAt, textAt } from '../json.ts';
import { isOn } from '../per-route.ts';
import { allPools } from '../pools.ts';
import { isExtProcOff, readerOf } from '../route-survey.ts';
import type { VirtualHost } from '../virtual-hosts.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge } from './edges.ts';

/** The ext_proc filter: that it asks the sidecars, when, and what it makes of the answers. */
export const FILTER_CHECKS: CheckGroup = {
  name: 'Filter ext_proc',
  checks: [
    { name: 'present', run: present },
    { name: 'order', run: (facts) => eachEdge(facts, order) },
    ...fieldChecks(MANAGER_FIELDS, (facts, judge) => eachEdge(facts, (edge) => judge(managerSubject(edge, facts)))),
    ...fieldChecks(EXT_PROC_FIELDS, (facts, judge) => eachEdge(facts, (edge) => judge(extProcSubject(edge, facts)))),
    { name: 'switched off', run: (facts) => eachEdge(facts, switchedOff) },
  ],
};

/** The filter as it is printed for this site. */
const MODEL = 'envoy.filters.http.ext_proc';

function present(facts: Facts): Said {
  const { edges, snapshot, config, expected } = facts;
  if (snapshot.unread.has('configDump')) return unchecked('the config cannot be read');
  const verdicts: Verdict[] = [];
  const reader = createDestinationReader(new Map(allPools(config).map(({ cluster }) => [cluster, cluster])), snapshot);
  const leadsToPools = (routeConfig: unknown) =>
    listAt(routeConfig, 'virtual_hosts').some((host) =>
      listAt(host, 'routes').some((route) => (reader.read(route, routeConfig, {})?.first.size ?? 0) > 0),
    );
  for (const manager of snapshot.connectionManagers) {
    for (const what of manager.unread) verdicts.push(unchecked(`${manager.label}: not read: ${what}`));
  }
  for (const edge of edges) {
    if (edge.extProc.isDisabled && !isSwitchedOn(edge, facts)) {
      const fix = yaml(`in the filter ${edge.extProc.name} of http_filters:`, { disabled: false });
      verdicts.push(wrong(`${edge.label}: the filter is there but switched off (disabled: true)`, fix));
    } else if (snapshot.openListeners?.has(edge.listener) === false && !edge.isInternal) {
      verdicts.push(warn(`${edge.label} asks the sidecars, but is not open (/listeners)`));
    } else {
      verdicts.push(ok(`${edge.label} asks ${edge.sidecarCluster ?? 'the sidecars'} (${edge.extProc.name})`));
    }
  }
  const fix = yaml('in http_filters, before all that must see its decision:', [
    asking(sidecarClusterOf(facts) ?? SIDECAR_CLUSTER, expected.filter(MODEL)),
  ]);
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

/** Each of our virtual hosts switches on what is off for the others. */
/** By the application's virtual hosts, or by each of their routes to a pool. */
function isSwitchedOn(edge: Edge, facts: Facts): boolean {
  const surveys = facts.applications.flatMap((own) => own.surveys.get(edge) ?? []);
  const hosts = surveys.flatMap((survey) => survey.hosts);
  if (hosts.length > 0 && hosts.every((host) => isOn(edge.extProc, [host.config, host.routeConfig]))) return true;
  const routed = surveys.flatMap((survey) => survey.requests.filter(({ route }) => route !== undefined));
  return (
    routed.length > 0 && routed.every(({ route, host }) => isOn(edge.extProc, [route, host.config, host.routeConfig]))
  );
}

function ownHosts(edge: Edge, { applications }: Facts): VirtualHost[] {
  return [...new Set(applications.flatMap(({ surveys }) => surveys.get(edge)?.hosts ?? []))];
}

/** The cluster that leads to the sidecars, whatever it is called; undefined where there is none. */
function sidecarClusterOf({ snapshot, config }: Facts): string | undefined {
  const sidecars = config.envoy.sidecars.map(formatSidecar);
  return [...snapshot.clusters.keys()].find((cluster) =>
    sidecars.some((sidecar) => addressesOf(snapshot, cluster).has(sidecar)),
  );
}

/** The filter with this cluster in place of the rendered one. */
function asking(cluster: string, filter: unknown): unknown {
  if (typeof filter !== 'object' || filter === null) return filter;
  if (Array.isArray(filter)) return filter;
  return Object.fromEntries(
    entriesAt(filter).map(([key, value]) => [key, key === 'cluster_name' ? cluster : asking(cluster, value)]),
  );
}

function order(edge: Edge, facts: Facts): Said {
  const position = edge.filters.indexOf(edge.extProc);
  const after = mustSeeDecision(edge, facts);
  const before = edge.filters.slice(0, position).filter((filter) => after.has(filter));
  if (before.length === 0) {
    const names = edge.filters.slice(position).map(({ name }) => name);
    return ok(names.join(', then '));
  }
  const late = new Set<HttpFilter>(before);
  const right = [...edge.filters.slice(0, position).filter((filter) => !late.has(filter)), edge.extProc];
  const rest = edge.filters.filter((filter) => !right.includes(filter));
  return wrong(
    `${edge.extProc.name} comes after ${before.map(({ name }) => name).join(', ')}, which must see its decision`,
    yaml('http_filters in this order, each with the config that it has:', {
      http_filters: [...right, ...rest].map(({ name }) => ({ name })),
    }),
  );
}

/** What must see the decision: the status URI's second answer, the stickiness, and the routing itself. */
function mustSeeDecision(edge: Edge, { applications }: Facts): ReadonlySet<HttpFilter> {
  const routers = edge.filters.filter(({ type }) => type === ROUTER);
  const ours = applications.flatMap(({ application }) => [
    ...statusFilters(edge, application),
    ...[stickinessFilter(edge, application) ?? []].flat(),
  ]);
  return new Set([...routers, ...ours]);
}

/** A virtual host of something else may well do without. */
function switchedOff(edge: Edge, facts: Facts): Said {
  const keys = new Set(facts.applications.flatMap(({ application }) => siteKeys(application)));
  const readers = facts.applications.map(({ application, snapshot }) => readerOf([application], snapshot));
  // One that is known to lead elsewhere has nothing to decide.
  const isElsewhere = (route: unknown) =>
    readers.every((reader) => reader.read(route, edge.routeConfig, {})?.first.size === 0);
  const names = ownHosts(edge, facts).flatMap(({ name, config: host }) => [
    ...(isExtProcOff(host, edge) ? [`virtual host ${name}`] : []),
    ...listAt(host, 'routes')
      .filter((route) => !keys.has(textAt(route, 'match', 'runtime_fraction', 'runtime_key') ?? ''))
      .filter((route) => isExtProcOff(route, edge) && !isElsewhere(route))
      .map((route) => `route ${textAt(route, 'name') ?? '(no name)'}`),
  ]);
  if (names.length === 0) return ok('for no route');
  return warn(`without a decision, since their config says so: ${names.join(', ')}`);
}
