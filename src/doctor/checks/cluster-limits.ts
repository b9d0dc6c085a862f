import type { Facts } from '../facts.ts';
import { ok, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { at, listAt, numberAt, pick, textAt } from '../json.ts';

/** Overrides each cluster's own threshold where it is set. */
const PANIC_KEY = 'upstream.healthy_panic_threshold';

/** Envoy's defaults, for what a cluster does not say. */
const DEFAULT_PANIC_PERCENT = 50;
const DEFAULT_RETRIES = 3;

/** As many retries at a time as a pool that dies under load may need. */
const ENOUGH_RETRIES = 1_000;

/** With no host up Envoy must answer 503 at once, which is a refusal, and not try hosts that it knows are down. */
export function panicThreshold({ snapshot, expected }: Facts, cluster: string): Verdict {
  const override = snapshot.runtime?.get(PANIC_KEY);
  if (override !== undefined && Number(override) !== 0) {
    return wrong(
      `${cluster}: the runtime key ${PANIC_KEY} is ${override}: with few hosts up Envoy sends to those that are down`,
      yaml('in the layer of layered_runtime that sets it:', { [PANIC_KEY]: 0 }),
    );
  }
  const threshold = at(snapshot.clusters.get(cluster), 'common_lb_config', 'healthy_panic_threshold');
  // An empty object is 0: the value of protobuf's JSON that is left out.
  const percent = threshold === undefined ? DEFAULT_PANIC_PERCENT : (numberAt(threshold, 'value') ?? 0);
  if (percent === 0) return ok(`${cluster}: 0`);
  return wrong(
    `${cluster}: ${percent} %: with fewer hosts up Envoy sends requests to those that are down`,
    yaml(
      `in cluster ${cluster}:`,
      pick(expected.cluster(cluster) ?? expected.sidecarCluster, 'common_lb_config', 'healthy_panic_threshold'),
    ),
  );
}

/** A limit of the circuit breaker, for requests of ordinary priority; undefined: Envoy's default. */
export function limitOf(cluster: unknown, name: string): number | undefined {
  const thresholds = listAt(cluster, 'circuit_breakers', 'thresholds').find(
    (item) => (textAt(item, 'priority') ?? 'DEFAULT') === 'DEFAULT',
  );
  return numberAt(thresholds, name);
}

/** A retry beyond `max_retries` is a lost request: when a pool dies each request in flight needs one, at once. */
export function retryLimit({ snapshot, expected, config }: Facts, cluster: string): Verdict {
  const settings = snapshot.clusters.get(cluster);
  const thresholds = listAt(settings, 'circuit_breakers', 'thresholds')[0];
  const model = expected.cluster(cluster) ?? expected.cluster(config.localPool.cluster);
  const fix = yaml(`in cluster ${cluster}:`, pick(model, 'circuit_breakers'));
  const budget = at(thresholds, 'retry_budget');
  if (budget !== undefined) {
    const percent = numberAt(budget, 'budget_percent', 'value') ?? 20;
    const text = `${cluster}: a retry budget of ${percent} %`;
    return percent >= 100
      ? ok(text)
      : warn(`${text}: of the requests in flight to a pool that dies, the others are lost`, fix);
  }
  const limit = limitOf(settings, 'max_retries');
  const retries = limit ?? DEFAULT_RETRIES;
  if (retries >= ENOUGH_RETRIES) return ok(`${cluster}: ${retries} at a time`);
  const text = `${cluster}: ${retries} at a time${limit === undefined ? " (Envoy's default)" : ''}`;
  return wrong(`${text}: further requests to a pool that dies are lost`, fix);
}
