import { isIPv4 } from 'node:net';
import { formatAddress } from '../../config/address.ts';
import type { Application } from '../../config/config.ts';
import { closingCluster, overHttp1 } from '../../envoy-config/names.ts';
import { addressesOf, listedAddressesOf } from '../envoy-snapshot.ts';
import type { ApplicationFacts, SharedFacts } from '../facts.ts';
import { HEALTH_FIELDS, POOL_FIELDS } from '../fields/cluster-fields.ts';
import { fieldChecks } from '../fields/judge.ts';
import { clusterSubject } from '../fields/subjects.ts';
import { ok, type Said, unchecked, type Verdict, warn, wrong, yaml } from '../finding.ts';
import { bringInForce } from '../in-force.ts';
import { listAt, pick } from '../json.ts';
import { type Pool, poolsOf } from '../pools.ts';
import { eachApplication } from './applications.ts';
import type { CheckGroup } from './check.ts';

/** The clusters of the config's pools. */
export const POOL_CHECKS: CheckGroup = {
  name: 'Pools',
  checks: [
    { name: 'clusters', run: (facts) => eachApplication(facts, clusters) },
    { name: 'hosts', run: (facts) => eachApplication(facts, (own) => eachPool(own, hosts)) },
    { name: 'servers', run: (facts) => eachApplication(facts, (own) => eachPool(own, servers)) },
    { name: 'draining servers', run: (facts) => eachApplication(facts, drains) },
    ...fieldChecks(HEALTH_FIELDS, (facts, judge) =>
      eachApplication(facts, (own) =>
        eachPool(own, (_, pool) => judge({ ...clusterSubject(own, pool.healthCluster, pool.cluster), pool })),
      ),
    ),
    ...fieldChecks(POOL_FIELDS, (facts, judge) =>
      eachApplication(facts, (own) =>
        eachPool(own, (_, pool) => judge({ ...clusterSubject(own, pool.cluster), pool })),
      ),
    ),
    { name: 'panic threshold', run: panicOfAll },
  ],
};

function clusters({ application, snapshot, expected }: ApplicationFacts): Said {
  if (snapshot.unread.has('configDump')) return unchecked('the config cannot be read');
  const verdicts = poolsOf(application).flatMap((pool) => {
    const whose = pool.isLocal ? '' : `, for ${pool.site}`;
    return [...new Set([pool.cluster, pool.healthCluster])].map((cluster) => {
      if (snapshot.clusters.has(cluster)) return ok(`${cluster} is there${whose}`);
      return wrong(
        `Envoy has no cluster ${cluster}${whose}`,
        yaml('in clusters, with its own hosts (or name the one that you have in the config file):', [
          expected.cluster(pool.cluster),
        ]),
      );
    });
  });
  return [...verdicts, ...companions(application, snapshot.clusters)];
}

/** Clusters beside that of the local pool, without which a key of the config has no effect. */
function companions({ localPool, envoy }: Application, clusters: ReadonlyMap<string, unknown>): Verdict[] {
  if (localPool.servers.length === 0) return [];
  const wanted = [
    ...(localPool.closeWhenDown ? [{ name: closingCluster(localPool.cluster), key: 'close_when_down: true' }] : []),
    ...(localPool.protocol === 'downstream' ? [{ name: overHttp1(localPool), key: 'protocol: downstream' }] : []),
  ];
  return wanted
    .filter(({ name }) => !clusters.has(name))
    .map(({ name, key }) =>
      wrong(`Envoy has no cluster ${name}: local_pool's ${key} is not in force`, bringInForce(envoy)),
    );
}

/** Pools without a cluster are the business of one check alone. */
function eachPool(facts: ApplicationFacts, check: (facts: ApplicationFacts, pool: Pool) => Said): Said {
  const present = poolsOf(facts.application).filter(
    ({ cluster, healthCluster }) => facts.snapshot.clusters.has(cluster) && facts.snapshot.clusters.has(healthCluster),
  );
  if (present.length === 0) return unchecked('no cluster of the config is to be seen');
  return present.flatMap((pool) => check(facts, pool));
}

function hosts({ snapshot, expected }: ApplicationFacts, pool: Pool): Said {
  const { healthCluster: cluster, minUp } = pool;
  if (snapshot.hosts === null) return unchecked(`the hosts of ${cluster} cannot be read`);
  const all = snapshot.hosts.get(cluster) ?? [];
  if (all.length === 0) {
    const fix = yaml(
      `in cluster ${cluster}, with its own hosts:`,
      pick(expected.cluster(pool.cluster), 'load_assignment'),
    );
    return wrong(`${cluster} has no host`, fix);
  }
  const draining = all.filter((host) => host.draining).length;
  const down = all.filter((host) => !host.up && !host.draining).map((host) => `${host.address} ${host.why}`);
  const count = all.length - draining;
  const text = `${cluster}: ${count - down.length} of ${count} hosts up${draining > 0 ? `, ${draining} draining` : ''}`;
  if (all.length < minUp) {
    const fix = yaml("in the site's config file:", { min_up: all.length });
    return wrong(`${cluster} has ${all.length} hosts, and never the ${minUp} that min_up asks for`, fix);
  }
  return [down.length === 0 ? ok(text) : warn(`${text}; ${down.join('; ')}`)];
}

/** Whether Envoy sends to the servers that the config file lists. Names have any addresses, and IPv6 can be written in many ways. */
function servers({ snapshot, application }: ApplicationFacts, { cluster, servers: wanted }: Pool): Said {
  if (wanted.length === 0) return ok(`${cluster}: the config file lists none`);
  if (!wanted.every(({ host }) => isIPv4(host)))
    return ok(`${cluster}: not compared, since names have any addresses, and IPv6 is written in many ways`);
  const configured = listedAddressesOf(snapshot, cluster);
  // What comes by EDS is among the hosts.
  const there = configured.size > 0 ? configured : addressesOf(snapshot, cluster);
  if (there.size === 0) {
    // That a running Envoy has none is what the hosts' check says.
    return snapshot.hosts === null
      ? unchecked(`${cluster}: its servers come by EDS, which a dump has with ?include_eds only`)
      : [];
  }
  const listed = new Set(wanted.map(formatAddress));
  const missing = [...listed].filter((address) => !there.has(address));
  const others = [...there].filter((address) => !listed.has(address));
  if (missing.length === 0 && others.length === 0) return ok(`${cluster}: those of the config file`);
  const fix = bringInForce(application.envoy);
  return [
    ...(missing.length === 0
      ? []
      : [wrong(`${cluster} lacks ${missing.join(', ')}, which the config file lists`, fix)]),
    ...(others.length === 0
      ? []
      : [wrong(`${cluster} has ${others.join(', ')}, which the config file does not list`, fix)]),
  ];
}

/** Whether the same servers drain in Envoy as in the config, and keep their sessions there. */
function drains(facts: ApplicationFacts): Said {
  const { application, snapshot } = facts;
  const { cluster, servers } = application.localPool;
  const hosts = snapshot.hosts?.get(cluster) ?? [];
  const inConfig = new Map(servers.map((server) => [formatAddress(server), server.drain]));
  const different = hosts.flatMap(({ address, draining }) => {
    const drain = inConfig.get(address);
    // One of a name, which Envoy shows by its addresses, or of which only Envoy knows.
    if (drain === undefined || drain === draining) return [];
    const text = drain
      ? `${address} of ${cluster} drains in the config file and not in Envoy: it gets new sessions`
      : `${address} of ${cluster} drains in Envoy and not in the config file: it gets no new sessions`;
    return [wrong(text, bringInForce(application.envoy))];
  });
  const inEnvoy = hosts.filter(({ draining }) => draining).map(({ address }) => address);
  const draining = new Set([...servers.filter(({ drain }) => drain).map(formatAddress), ...inEnvoy]);
  if (draining.size > 0) return [...different, ...stickiness(facts, draining)];
  return snapshot.hosts === null
    ? unchecked(`the hosts of ${cluster} cannot be read`)
    : ok(`no server of ${cluster} drains`);
}

/** @param draining their addresses */
function stickiness({ application, snapshot, expected }: ApplicationFacts, draining: ReadonlySet<string>): Verdict[] {
  const { cluster } = application.localPool;
  const envoys = snapshot.clusters.get(cluster);
  if (envoys === undefined) return [unchecked(`${cluster} is not to be seen`)];
  const names = [...draining].join(', ');
  if (listAt(envoys, ...STICKY).includes('DRAINING')) return [ok(`${cluster}: the sessions of ${names} stay there`)];
  const text = `${cluster}: override_host_status lacks DRAINING: the sessions of ${names} move to other servers at once`;
  return [wrong(text, yaml(`in cluster ${cluster}:`, pick(expected.cluster(cluster), ...STICKY)))];
}

const STICKY = ['common_lb_config', 'override_host_status', 'statuses'] as const;

/** Overrides each cluster's own threshold where it is set. */
const PANIC_KEY = 'upstream.healthy_panic_threshold';

function panicOfAll({ snapshot }: SharedFacts): Said {
  const percent = snapshot.runtime?.get(PANIC_KEY);
  if (percent === undefined || Number(percent) === 0) return [];
  const text = `the runtime key ${PANIC_KEY} is ${percent}: with few hosts of any pool up Envoy sends to those that are down`;
  return wrong(text, yaml('in the layer of layered_runtime that sets it:', { [PANIC_KEY]: 0 }));
}
