import { statName } from '../../envoy-admin/admin-client.ts';
import type { Edge, Facts } from '../facts.ts';
import { ok, steps, unchecked, type Verdict, warn, yaml } from '../finding.ts';
import { textAt } from '../json.ts';
import { poolsOf } from '../pools.ts';
import type { CheckGroup } from './check.ts';
import { eachEdge } from './edges.ts';

/** What has gone wrong since Envoy started, by its own count. */
export const COUNTER_CHECKS: CheckGroup = {
  name: 'Since Envoy started',
  checks: [
    { name: 'decisions skipped', run: (facts) => eachEdge(facts, skipped) },
    { name: 'timeouts', run: (facts) => eachEdge(facts, timeouts) },
    { name: 'mutations', run: (facts) => eachEdge(facts, mutations) },
    { name: 'overflow', run: overflow },
    { name: 'renewals', run: renewals },
  ],
};

const HIDDEN = 'its counters are not to be seen (stats_matcher?)';

/** A counter of an edge's ext_proc filter; undefined where it is hidden. */
function extProcStat(edge: Edge, { snapshot }: Facts, name: string): number | undefined {
  const manager = (textAt(edge.config, 'stat_prefix') ?? '').replaceAll(':', '_');
  const own = textAt(edge.extProc.config, 'stat_prefix');
  const prefix = own === undefined || own === '' ? 'ext_proc' : `ext_proc.${own}`;
  return snapshot.stats?.get(`http.${manager}.${prefix}.${name}`);
}

/**
 * Each message to a sidecar has one answer, so what is missing was skipped, but for what is under way. Envoy's own
 * `failure_mode_allowed` does not count a stream that closed without an answer; but it alone counts the requests for
 * which no stream could be started, for want of a sidecar that is up or by the circuit breaker.
 */
function skipped(edge: Edge, facts: Facts): Verdict[] {
  const [started, sent, received, allowed] = SKIPPED_STATS.map((name) => extProcStat(edge, facts, name));
  if (started === undefined || sent === undefined || received === undefined) return [unchecked(HIDDEN)];
  const cluster = edge.sidecarCluster === null ? '' : statName(edge.sidecarCluster);
  const underWay = facts.snapshot.stats?.get(`cluster.${cluster}.upstream_rq_active`) ?? 0;
  const missing = Math.max(started - received - underWay, sent - received - underWay, allowed ?? 0);
  if (missing <= 0) return [ok(`none, of ${started} asked for`)];
  return [warn(`at least ${missing} requests went on without a decision; ${started} were asked for`)];
}

const SKIPPED_STATS = ['streams_started', 'stream_msgs_sent', 'stream_msgs_received', 'failure_mode_allowed'];

function timeouts(edge: Edge, facts: Facts): Verdict[] {
  const count = extProcStat(edge, facts, 'message_timeouts');
  if (count === undefined) return [unchecked(HIDDEN)];
  if (count === 0) return [ok('no decision was late')];
  const text = `${count} decisions came later than message_timeout: is the sidecar short of CPU?`;
  return [warn(text, yaml('in typed_config of the ext_proc filter:', { message_timeout: '1s' }))];
}

function mutations(edge: Edge, facts: Facts): Verdict[] {
  const names = ['rejected_header_mutations', 'clear_route_cache_disabled', 'clear_route_cache_ignored'];
  const counts = names.map((name) => ({ name, count: extProcStat(edge, facts, name) }));
  if (counts[0]?.count === undefined) return [unchecked(HIDDEN)];
  const troubles = counts.filter(({ count }) => count !== undefined && count > 0);
  if (troubles.length === 0) return [ok('no answer of a sidecar was rejected')];
  return troubles.map(({ name, count }) => warn(`Envoy did not do what a sidecar answered: ${name} ${count}`));
}

/** Of the sidecars any overflow is a skipped decision; of the pools, a request that got a 503 of Envoy's. */
function overflow(facts: Facts): Verdict[] {
  const { snapshot, sidecarClusters, config } = facts;
  if (snapshot.stats === null) return [unchecked('the stats cannot be read')];
  const clusters = new Set([...sidecarClusters, ...poolsOf(config).map(({ cluster }) => cluster)]);
  const verdicts: Verdict[] = [];
  for (const cluster of clusters) {
    const prefix = `cluster.${statName(cluster)}.`;
    const found = [...snapshot.stats].filter(
      ([name, value]) => name.startsWith(prefix) && name.endsWith('_overflow') && value > 0,
    );
    if (found.length === 0) continue;
    const counts = found.map(([name, value]) => `${name.slice(prefix.length)} ${value}`).join(', ');
    verdicts.push(warn(`${cluster} met a limit of its circuit breaker: ${counts}`));
  }
  return verdicts.length > 0 ? verdicts : [ok('no circuit breaker has opened')];
}

/** Envoy goes on with the certificate that it has; but it would not start with what it refuses. */
function renewals({ snapshot: { stats } }: Facts): Verdict[] {
  if (stats === null) return [unchecked('the stats cannot be read')];
  const verdicts: Verdict[] = [];
  for (const [name, count] of stats) {
    const secret = /^sds\.(.*)\.key_rotation_failed$/.exec(name)?.[1];
    if (secret === undefined || count === 0) continue;
    const text = `Envoy refused ${count} times what it found of ${secret}, and went on with what it had`;
    const fix = steps(
      'what to do:',
      '# nothing where certificate and key were renewed one after the other; else see its log',
    );
    verdicts.push(warn(text, fix));
  }
  return verdicts.length > 0 ? verdicts : [ok('no certificate that came was refused')];
}
