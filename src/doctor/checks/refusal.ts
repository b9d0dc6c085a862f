import { CHECK_FAIL_HEADER, HOP_HEADER, REFUSED_HEADER } from '../../contract.ts';
import type { Edge, Facts } from '../facts.ts';
import { ok, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { at, listAt, numberAt, pick, textAt } from '../json.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge } from './edges.ts';
import { upstreamMutations } from './upstream-mutations.ts';

/** What Envoy itself answers to another site. */
export const REFUSAL_CHECKS: CheckGroup = {
  name: "Envoy's own answers",
  checks: [
    { name: 'refusal', run: (facts) => eachEdge(facts, refusal) },
    { name: "the servers' own", run: ofServers },
  ],
};

/** What happens when an answer of an application has this header. */
const HARM: Readonly<Record<string, string>> = {
  [REFUSED_HEADER]: 'gets the request again, a POST as well',
  [CHECK_FAIL_HEADER]: 'is taken out until its next health check, and at the other sites this whole edge',
};

/** What Envoy obeys in an answer must not come from an application, which may only reflect what a client sent. */
function ofServers({ snapshot, expected, config }: Facts): Verdict[] {
  const { cluster } = config.localPool;
  const settings = snapshot.clusters.get(cluster);
  if (settings === undefined) return [unchecked(`Envoy does not show a cluster ${cluster}`)];
  const removed = upstreamMutations(settings, 'response_mutations').map((mutation) =>
    textAt(mutation, 'remove')?.toLowerCase(),
  );
  const fix = yaml(`in cluster ${cluster}:`, pick(expected.cluster(cluster), 'typed_extension_protocol_options'));
  const left = Object.entries(HARM).filter(([header]) => !removed.includes(header));
  if (left.length === 0) return [ok(`what Envoy would obey is removed from what servers answer`)];
  const harms = left.map(([header, harm]) => `with ${header} ${harm}`).join('; ');
  return [warn(`a server of ${cluster} that answers ${harms}`, fix)];
}

/** No healthy host, and no connection: no server has seen the request. */
const UNSEEN = ['UH', 'UF'];

/** Flags that go with them where it is as sure that no server has seen the request. */
const AS_SAFE = [...UNSEEN, 'NR', 'NC', 'UO'];

function refusal(edge: Edge, { config, expected }: Facts): Verdict[] {
  const fix = yaml('in the connection manager:', pick(expected.connectionManager, 'local_reply_config'));
  const mappers = listAt(edge.config, 'local_reply_config', 'mappers').filter(
    (mapper) =>
      listAt(mapper, 'headers_to_add').some(
        (item) => textAt(item, 'header', 'key')?.toLowerCase() === REFUSED_HEADER,
      ) && !isForTooLarge(at(mapper, 'filter')),
  );
  if (mappers.length === 0) {
    return [
      wrong(`Envoy's own 503 has no ${REFUSED_HEADER}: until the pool is seen down, forwarded requests are lost`, fix),
    ];
  }
  const flags = mappers.flatMap((mapper) => flagsOf(at(mapper, 'filter')));
  const missing = UNSEEN.filter((flag) => !flags.includes(flag));
  if (flags.length === 0 || mappers.some((mapper) => flagsOf(at(mapper, 'filter')).length === 0)) {
    return [
      wrong(
        `${REFUSED_HEADER} is on answers whatever their flags: a request that a server has seen may be sent twice`,
        fix,
      ),
    ];
  }
  if (missing.length > 0)
    return [wrong(`${REFUSED_HEADER} is not on answers with the flag ${missing.join(', ')}`, fix)];
  const unsafe = flags.filter((flag) => !AS_SAFE.includes(flag));
  if (unsafe.length > 0) {
    return [
      wrong(
        `${REFUSED_HEADER} is on answers with the flag ${unsafe.join(', ')}: a request that a server has seen may be sent twice`,
        fix,
      ),
    ];
  }
  if (!mappers.every((mapper) => asksForHop(at(mapper, 'filter')))) {
    return [warn(`${REFUSED_HEADER} is on answers to clients as well: ask for ${HOP_HEADER} in the filter`, fix)];
  }
  return [ok(`Envoy's own 503 to another site says ${REFUSED_HEADER}: ${config.site}`)];
}

/** An upload too large to be sent again, which no server has seen either; Envoy gives it no flag. */
function isForTooLarge(filter: unknown): boolean {
  return conjuncts(filter).some(
    (part) => numberAt(part, 'status_code_filter', 'comparison', 'value', 'default_value') === 507,
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
