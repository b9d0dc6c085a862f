import type { ApplicationFacts, Edge, Facts, SharedFacts } from '../facts.ts';
import { describeFilter } from '../filters-of.ts';
import { at } from '../json.ts';
import type { Subject } from './field.ts';

/**
 * A cluster, and what is rendered under its name; of one that is the operator's own, what is rendered for the local pool.
 * @param model what it is rendered as, if not under its own name
 */
export function clusterSubject(facts: ApplicationFacts, cluster: string, model = cluster): Subject {
  const { expected, application } = facts;
  const rendered = expected.cluster(model) ?? expected.cluster(application.localPool.cluster);
  return { ...named(facts, cluster), rendered };
}

/** A cluster by which the sidecars are asked, whatever it is called. */
export function sidecarSubject(facts: Facts, cluster: string): Subject {
  return { ...named(facts, cluster), rendered: facts.expected.sidecarCluster };
}

function named({ snapshot, config }: SharedFacts, cluster: string) {
  return { place: `cluster ${cluster}`, label: cluster, actual: snapshot.clusters.get(cluster), config };
}

export function extProcSubject({ extProc }: Edge, { expected, config }: Facts): Subject {
  return {
    place: `typed_config of ${describeFilter('ext_proc', extProc)}`,
    actual: extProc.config,
    rendered: at(expected.filter('envoy.filters.http.ext_proc'), 'typed_config'),
    config,
  };
}

export function managerSubject(edge: Edge, { expected, config }: Facts): Subject {
  return { place: 'the connection manager', actual: edge.config, rendered: expected.connectionManager, config };
}
