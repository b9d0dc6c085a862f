import { HOP_HEADER, REFUSED_HEADER } from '../../contract.ts';
import { OVERLOADED } from '../../envoy-config/local-replies.ts';
import { anywhere } from '../../envoy-config/names.ts';
import { membersOf } from '../destination.ts';
import type { ApplicationFacts, Edge, SharedFacts } from '../facts.ts';
import { SERVER_ANSWER_FIELDS, SITE_ANSWER_FIELDS } from '../fields/cluster-fields.ts';
import type { Subject } from '../fields/field.ts';
import { fieldChecks, type Judge } from '../fields/judge.ts';
import { clusterSubject } from '../fields/subjects.ts';
import { ok, type Said, unchecked, warn, wrong, yaml } from '../finding.ts';
import { upstreamMutations } from '../http-protocol-options.ts';
import { at, listAt, numberAt, pick, textAt } from '../json.ts';
import { isChecked, type RoutedCluster, routedClusters } from '../routed-clusters.ts';
import { eachApplication } from './applications.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge } from './edges.ts';

/** What Envoy itself answers to another site. */
export const REFUSAL_CHECKS: CheckGroup = {
  name: "Envoy's own answers",
  checks: [
    { name: 'refusal', run: (facts) => eachEdge(facts, refusal) },
    ...fieldChecks(SERVER_ANSWER_FIELDS, (facts, judge) => eachApplication(facts, (own) => ofServers(own, judge))),
    ...fieldChecks(SITE_ANSWER_FIELDS, (facts, judge) => eachApplication(facts, (own) => ofOtherSites(own, judge))),
  ],
};

function ofServers(facts: ApplicationFacts, judge: Judge): Said {
  const { cluster } = facts.application.localPool;
  const settings = facts.snapshot.clusters.get(cluster);
  if (settings === undefined) return unchecked(`Envoy does not show a cluster ${cluster}`);
  const routed = routedClusters(facts).filter(({ pool }) => pool.isLocal);
  if (routed.length > 0) return routed.flatMap((each) => judge(answerSubject(facts, each)));
  // Where no routes are to be seen.
  return judge({ ...clusterSubject(facts, cluster), obeyed: { here: isChecked(settings), elsewhere: true } });
}

function ofOtherSites(facts: ApplicationFacts, judge: Judge): Said {
  if (facts.application.remotePools.length === 0) return [];
  const routed = routedClusters(facts).filter(({ pool }) => !pool.isLocal);
  if (routed.length === 0) return unchecked('no route to another site was found');
  return routed.flatMap((each) => judge(answerSubject(facts, each)));
}

/** What is the operator's own is to be as the pool's cluster, or as what leads to several. */
function answerSubject(
  facts: ApplicationFacts,
  { name, pool, isChecked: here, isRemovedLater }: RoutedCluster,
): Subject {
  const { snapshot, expected, application } = facts;
  const isOne = membersOf(name, snapshot).includes(name);
  const models = [name, ...(isOne ? [] : [anywhere(application)]), pool.cluster];
  const model = models.find((each) => upstreamMutations(expected.cluster(each), 'response_mutations').length > 0);
  return { ...clusterSubject(facts, name, model), obeyed: { here, elsewhere: !isRemovedLater } };
}

/** No healthy host, and no connection: no server has seen the request. */
const UNSEEN = ['UH', 'UF'];

/** Flags that go with them where it is as sure that no server has seen the request. */
const AS_SAFE = [...UNSEEN, 'NR', 'NC', 'UO'];

function refusal(edge: Edge, { config, expected }: SharedFacts): Said {
  const fix = yaml('in the connection manager:', pick(expected.connectionManager, 'local_reply_config'));
  const mappers = listAt(edge.config, 'local_reply_config', 'mappers').filter(
    (mapper) =>
      listAt(mapper, 'headers_to_add').some(
        (item) => textAt(item, 'header', 'key')?.toLowerCase() === REFUSED_HEADER,
      ) && !isUnseenWithoutFlag(at(mapper, 'filter')),
  );
  if (mappers.length === 0) {
    return wrong(
      `Envoy's own 503 has no ${REFUSED_HEADER}: until the pool is seen down, forwarded requests are lost`,
      fix,
    );
  }
  const flags = mappers.flatMap((mapper) => flagsOf(at(mapper, 'filter')));
  const missing = UNSEEN.filter((flag) => !flags.includes(flag));
  if (flags.length === 0 || mappers.some((mapper) => flagsOf(at(mapper, 'filter')).length === 0)) {
    return wrong(
      `${REFUSED_HEADER} is on answers whatever their flags: a request that a server has seen may be sent twice`,
      fix,
    );
  }
  if (missing.length > 0) return wrong(`${REFUSED_HEADER} is not on answers with the flag ${missing.join(', ')}`, fix);
  const unsafe = flags.filter((flag) => !AS_SAFE.includes(flag));
  if (unsafe.length > 0) {
    return wrong(
      `${REFUSED_HEADER} is on answers with the flag ${unsafe.join(', ')}: a request that a server has seen may be sent twice`,
      fix,
    );
  }
  if (!mappers.every((mapper) => asksForHop(at(mapper, 'filter')))) {
    return warn(`${REFUSED_HEADER} is on answers to clients as well: ask for ${HOP_HEADER} in the filter`, fix);
  }
  const { refusalStatus } = config;
  if (refusalStatus !== 503 && !mappers.every((mapper) => numberAt(mapper, 'status_code') === refusalStatus)) {
    return warn(
      `Envoy's own refusals are not ${refusalStatus} (refusal_status): a site that retries on the status returns them to its clients`,
      fix,
    );
  }
  return ok(`Envoy's own ${refusalStatus} to another site says ${REFUSED_HEADER}: ${config.site}`);
}

/** An upload too large to be sent again, and what comes to an Envoy that is overloaded. */
function isUnseenWithoutFlag(filter: unknown): boolean {
  return conjuncts(filter).some(
    (part) =>
      numberAt(part, 'status_code_filter', 'comparison', 'value', 'default_value') === 507 ||
      textAt(part, 'extension_filter', 'typed_config', 'expression') === OVERLOADED,
  );
}

/** The filters that must all hold. Of an `or_filter` it is not certain which holds, so it counts for none. */
function conjuncts(filter: unknown): unknown[] {
  const all = at(filter, 'and_filter');
  return all === undefined ? [filter] : listAt(all, 'filters').flatMap(conjuncts);
}

function flagsOf(filter: unknown): string[] {
  return conjuncts(filter).flatMap((part) =>
    listAt(part, 'response_flag_filter', 'flags').filter((flag) => typeof flag === 'string'),
  );
}

function asksForHop(filter: unknown): boolean {
  return conjuncts(filter).some(
    (part) => textAt(part, 'header_filter', 'header', 'name')?.toLowerCase() === HOP_HEADER,
  );
}
