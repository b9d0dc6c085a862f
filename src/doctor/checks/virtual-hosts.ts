import { HOP_EDGE } from '../../envoy-config/names.ts';
import type { ApplicationFacts, Edge, Facts } from '../facts.ts';
import { fitted } from '../filters-of.ts';
import { ok, type Said, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { isTrueAt } from '../json.ts';
import { domainsOf, routeConfigOf } from '../virtual-hosts.ts';
import { eachApplication } from './applications.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge } from './edges.ts';
import { otherHosts } from './other-hosts.ts';

/** Which virtual hosts are the applications', and that the filters leave the others alone. */
export const VIRTUAL_HOST_CHECKS: CheckGroup = {
  name: 'Virtual hosts',
  checks: [
    { name: 'own', run: (facts) => eachApplication(facts, (own) => eachEdge(own, ownHosts)) },
    { name: 'port of the host', run: (facts) => eachEdge(facts, portOfHost) },
    { name: 'others', run: (facts) => eachEdge(facts, otherHosts) },
  ],
};

/** Each host of an application must be taken by a virtual host that leads to its pools. */
function ownHosts(edge: Edge, facts: ApplicationFacts): Said {
  const { application, rendered, isOneForAll } = facts;
  const survey = facts.surveys.get(edge);
  if (survey === undefined) return unchecked('the routes cannot be read');
  const names = survey.hosts.map(({ name }) => name).join(', ');
  // That there is none is said of the routes.
  if (isOneForAll) return survey.hosts.length === 0 ? [] : ok(`${names}: the one application takes every host`);
  const lost = application.hosts.filter((host) => {
    if (isServed(host, edge, facts)) return false;
    const isElsewhere = facts.edges.some((other) => isServed(host, other, facts));
    return edge.hostMap.taking(host) !== undefined || edge.listener === HOP_EDGE || !isElsewhere;
  });
  if (lost.length === 0) return ok(`${application.hosts.join(', ')}: virtual host ${names}`);

  const takers = new Set(lost.flatMap((host) => edge.hostMap.taking(host) ?? []));
  const text =
    lost.join(', ') +
    (takers.size === 0
      ? ' has no virtual host: it is answered 404'
      : ` goes to virtual host ${[...takers].map(({ name }) => name).join(', ')}, which leads to none of its pools`);
  // Envoy refuses a domain that stands in two virtual hosts.
  const losers = [...takers].filter((taker) => domainsOf(taker).some((domain) => lost.includes(domain)));
  const outOf =
    losers.length === 0 ? '' : `, and taken out of the domains of ${losers.map(({ name }) => name).join(', ')}`;
  const [own] = survey.hosts;
  if (own !== undefined) {
    const domains = [...domainsOf(own), ...lost];
    return wrong(text, yaml(`in virtual host ${own.name} of ${routeConfigOf(edge)}${outOf}:`, { domains }));
  }
  const lines = [fitted(rendered.virtualHost, edge, facts)];
  return wrong(text, yaml(`in virtual_hosts of ${routeConfigOf(edge)}${outOf}:`, lines));
}

function isServed(host: string, edge: Edge, { surveys }: ApplicationFacts): boolean {
  const taker = edge.hostMap.taking(host);
  return surveys.get(edge)?.hosts.some((own) => own === taker) === true;
}

/** The sidecar goes by the host alone: clients say the port where it is not the usual one. */
function portOfHost(edge: Edge, { isOneForAll }: Facts): Verdict {
  if (isOneForAll) return ok('is nothing to go by: one application takes every host');
  const { routeConfig, config } = edge;
  if (routeConfig === undefined) return unchecked('the routes cannot be read');
  if (isTrueAt(routeConfig, 'ignore_port_in_host_matching')) return ok('ignore_port_in_host_matching');
  if (isTrueAt(config, 'strip_any_host_port')) return ok('strip_any_host_port');
  return warn(
    'a host with a port, such as shop.example.com:8443, is another virtual host than without it, but the same application',
    yaml(`in ${routeConfigOf(edge)}:`, { ignore_port_in_host_matching: true }),
  );
}
