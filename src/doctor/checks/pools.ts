import type { Config } from '../../config/config.ts';
import { HOP_HEADER } from '../../contract.ts';
import { closingCluster, overHttp1 } from '../../envoy-config/names.ts';
import type { Facts } from '../facts.ts';
import { ok, steps, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { durationMsAt, listAt, numberAt, pick, textAt } from '../json.ts';
import { type Pool, poolsOf } from '../pools.ts';
import type { CheckGroup } from './check.ts';
import { panicThreshold, retryLimit } from './cluster-limits.ts';

/** The clusters of the config's pools. */
export const POOL_CHECKS: CheckGroup = {
  name: 'Pools',
  checks: [
    { name: 'clusters', run: (facts) => clusters(facts) },
    { name: 'hosts', run: (facts) => eachPool(facts, hosts) },
    { name: 'health check', run: (facts) => eachPool(facts, healthCheck) },
    { name: 'panic threshold', run: (facts) => eachPool(facts, (f, pool) => [panicThreshold(f, pool.cluster)]) },
    { name: 'update merge', run: (facts) => eachPool(facts, updateMergeWindow) },
    { name: 'retry limit', run: (facts) => eachPool(facts, (f, pool) => [retryLimit(f, pool.cluster)]) },
  ],
};

function clusters({ config, snapshot, expected }: Facts): Verdict[] {
  if (snapshot.unread.has('configDump')) return [unchecked('the config cannot be read')];
  const verdicts = poolsOf(config).map((pool) => {
    const { cluster } = pool;
    if (snapshot.clusters.has(cluster)) return ok(`${cluster} is there${pool.isLocal ? '' : `, for ${pool.site}`}`);
    return wrong(
      `Envoy has no cluster ${cluster}${pool.isLocal ? '' : `, for ${pool.site}`}`,
      yaml('in clusters, with its own hosts (or name the one that you have in the config file):', [
        expected.cluster(cluster),
      ]),
    );
  });
  return [...verdicts, ...companions(config, snapshot.clusters)];
}

/** Clusters beside that of the local pool, without which a key of the config has no effect. */
function companions({ localPool }: Config, clusters: ReadonlyMap<string, unknown>): Verdict[] {
  if (localPool.servers.length === 0) return [];
  const wanted = [
    ...(localPool.closeWhenDown ? [{ name: closingCluster(localPool.cluster), key: 'close_when_down: true' }] : []),
    ...(localPool.protocol === 'downstream' ? [{ name: overHttp1(localPool), key: 'protocol: downstream' }] : []),
  ];
  return wanted
    .filter(({ name }) => !clusters.has(name))
    .map(({ name, key }) =>
      wrong(
        `Envoy has no cluster ${name}: local_pool's ${key} is not in force`,
        steps('print the Envoy config again, and start Envoy with it:', 'site-persistence envoy > envoy.yaml'),
      ),
    );
}

/** Pools without a cluster are the business of one check alone. */
function eachPool(facts: Facts, check: (facts: Facts, pool: Pool) => readonly Verdict[]): Verdict[] {
  const present = poolsOf(facts.config).filter(({ cluster }) => facts.snapshot.clusters.has(cluster));
  if (present.length === 0) return [unchecked('no cluster of the config is to be seen')];
  return present.flatMap((pool) => check(facts, pool));
}

function hosts({ snapshot, expected }: Facts, pool: Pool): Verdict[] {
  const { cluster, minUp } = pool;
  if (snapshot.hosts === null) return [unchecked(`the hosts of ${cluster} cannot be read`)];
  const all = snapshot.hosts.get(cluster) ?? [];
  if (all.length === 0) {
    const fix = yaml(`in cluster ${cluster}, with its own hosts:`, pick(expected.cluster(cluster), 'load_assignment'));
    return [wrong(`${cluster} has no host`, fix)];
  }
  const down = all.filter((host) => !host.up).map((host) => `${host.address} ${host.why}`);
  const up = all.length - down.length;
  const text = `${cluster}: ${up} of ${all.length} hosts up`;
  if (all.length < minUp) {
    const fix = yaml("in the site's config file:", { min_up: all.length });
    return [wrong(`${cluster} has ${all.length} hosts, and never the ${minUp} that min_up asks for`, fix)];
  }
  return [down.length === 0 ? ok(text) : warn(`${text}; ${down.join('; ')}`)];
}

/** A pool that has no traffic is asked only so often unless `no_traffic_interval` says otherwise: 60 s. */
const DEFAULT_NO_TRAFFIC_MS = 60_000;
const LATE_MS = 10_000;

function healthCheck({ config, snapshot, expected }: Facts, pool: Pool): Verdict[] {
  const { cluster } = pool;
  const settings = snapshot.clusters.get(cluster);
  const checks = listAt(settings, 'health_checks');
  const fix = yaml(`in cluster ${cluster}:`, pick(expected.cluster(cluster), 'health_checks'));
  if (checks.length === 0) {
    if (pool.isLocal && textAt(settings, 'type') === 'EDS') {
      return [warn(`${cluster} has no health check: a dead server counts as up until EDS says otherwise`, fix)];
    }
    return [wrong(`${cluster} has no health check: it counts as up whatever happens`, fix)];
  }
  const verdicts: Verdict[] = [];
  if (!pool.isLocal) verdicts.push(...remoteHealthCheck(checks, config.statusUri, pool, fix));
  const quickest = Math.min(
    ...checks.map((check) => durationMsAt(check, 'no_traffic_interval') ?? DEFAULT_NO_TRAFFIC_MS),
  );
  if (quickest > LATE_MS) {
    verdicts.push(
      warn(
        `${cluster} without traffic is checked only every ${quickest / 1000} s (no_traffic_interval)`,
        yaml(`in health_checks of cluster ${cluster}:`, { no_traffic_interval: '1s' }),
      ),
    );
  }
  return verdicts.length > 0 ? verdicts : [ok(`${cluster} ${describeCheck(checks)}`)];
}

function describeCheck(checks: readonly unknown[]): string {
  const path = textAt(checks[0], 'http_health_check', 'path');
  return path === undefined ? 'is health-checked' : `is asked for ${path}`;
}

/** What another site's virtual IP says of itself is the status URI; nothing else tells of its pool. */
function remoteHealthCheck(
  checks: readonly unknown[],
  statusUri: string,
  pool: Pool,
  fix: ReturnType<typeof yaml>,
): Verdict[] {
  const { cluster, site } = pool;
  const asking = checks.filter((check) => textAt(check, 'http_health_check', 'path')?.split('?', 1)[0] === statusUri);
  if (asking.length === 0) {
    return [
      wrong(`the health check of ${cluster} does not ask ${site} for ${statusUri}: it does not tell of its pool`, fix),
    ];
  }
  const withHop = asking.filter((check) =>
    listAt(check, 'http_health_check', 'request_headers_to_add').some(
      (item) => textAt(item, 'header', 'key')?.toLowerCase() === HOP_HEADER,
    ),
  );
  if (withHop.length === 0) {
    return [
      wrong(
        `the health check of ${cluster} has no ${HOP_HEADER}: while ${site} drains, its sessions would leave it`,
        fix,
      ),
    ];
  }
  const takesRefusal = withHop.some((check) =>
    ['expected_statuses', 'retriable_statuses'].some((key) =>
      listAt(check, 'http_health_check', key).some(
        (range) => (numberAt(range, 'start') ?? 0) <= 503 && (numberAt(range, 'end') ?? 0) > 503,
      ),
    ),
  );
  if (takesRefusal) {
    return [
      wrong(`the health check of ${cluster} takes a 503 for less than "down", and that is what it says then`, fix),
    ];
  }
  return [];
}

function updateMergeWindow({ snapshot, expected }: Facts, pool: Pool): Verdict[] {
  const { cluster } = pool;
  const windowMs = durationMsAt(snapshot.clusters.get(cluster), 'common_lb_config', 'update_merge_window') ?? 1_000;
  if (windowMs === 0) return [ok(`${cluster} tells its workers of each change at once`)];
  return [
    warn(
      `${cluster} tells its workers of a second change up to ${windowMs / 1000} s late: requests go on to a dead server`,
      yaml(`in cluster ${cluster}:`, pick(expected.cluster(cluster), 'common_lb_config', 'update_merge_window')),
    ),
  ];
}
