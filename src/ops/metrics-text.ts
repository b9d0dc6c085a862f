import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { type Counters, STREAM_ENDS } from '../metrics/counters.ts';
import type { DurationHistogram } from '../metrics/duration-histogram.ts';
import type { SiteStateReport } from './state.ts';

const PREFIX = 'site_persistence_';

/** To make the text takes a millisecond and more, in which nothing is decided; nobody scrapes more often. */
const TEXT_LASTS_MS = 1_000;

export interface MetricsOptions {
  readonly counters: Counters;
  readonly state: () => SiteStateReport;
  /** Those of the listeners with TLS. */
  readonly certificates: readonly ExpiringCertificates[];
  readonly version: string;
}

export interface ExpiringCertificates {
  readonly listener: string;
  /** By the key of their file. */
  readonly validity: Readonly<Record<string, { readonly validTo: Date }>>;
}

export interface Metrics {
  readonly contentType: string;
  /** What `/metrics` answers, in the text format of Prometheus: as it is, or as it was up to a second ago. */
  text(): Promise<string>;
}

/**
 * The metrics. Nothing is kept here: each scrape reads the counters and the site's state as they are. The labels'
 * values are decisions, sites and clusters, so the config bounds how many series there are.
 */
export function createMetrics({ counters, state, certificates, version }: MetricsOptions): Metrics {
  const own = new Registry();
  // One view for a whole scrape: consistent, and cheap where a pool has thousands of servers.
  const seen = { state: state() };
  addTraffic(own, counters);
  addPolls(own, counters, seen);
  addPools(own, seen);
  addCertificates(own, certificates);
  addProgram(own, counters, seen, version);
  const all = Registry.merge([own, processRegistry()]);
  const makeText = async () => {
    seen.state = state();
    return [await all.metrics(), ...histogramTexts(counters)].join('\n');
  };
  let made: { readonly text: Promise<string>; readonly atMs: number } | null = null;
  return {
    contentType: all.contentType,
    async text() {
      const nowMs = performance.now();
      if (made === null || nowMs - made.atMs >= TEXT_LASTS_MS) made = { text: makeText(), atMs: nowMs };
      return await made.text;
    },
  };
}

interface Seen {
  state: SiteStateReport;
}

function addTraffic(registry: Registry, counters: Counters): void {
  addCounter(registry, {
    name: 'decisions_total',
    help: "Decisions made, by reason and by the site whose cookie the request carried. Requests on Envoy's fast path ask for none.",
    labels: ['decision', 'owner'],
    read: (add) => {
      for (const { reason, owner, count } of counters.decisions()) add(count, { decision: reason, owner });
    },
  });
  addCounter(registry, {
    name: 'duplicate_cookies_total',
    help: "Requests that carried this site's cookie more than once. Envoy reads the first; if it cannot, the client is not sticky.",
    labels: [],
    read: (add) => add(counters.duplicateCookies, {}),
  });
  addCounter(registry, {
    name: 'streams_total',
    help: 'ext_proc streams, by how they ended: complete (fully answered), reset (reset or closed before that, as when a client disconnects), malformed (not from Envoy).',
    labels: ['end'],
    read: (add) => {
      for (const end of STREAM_ENDS) add(counters.streams[end], { end });
    },
  });
}

function addPolls(registry: Registry, counters: Counters, seen: Seen): void {
  addCounter(registry, {
    name: 'polls_total',
    help: "Polls of Envoy's admin interface, by result.",
    labels: ['result'],
    read: (add) => {
      for (const result of ['ok', 'error'] as const) add(counters.polls[result], { result });
    },
  });
  addGauge(registry, {
    name: 'last_good_poll_age_seconds',
    help: "Time since the last good poll of Envoy's admin interface; +Inf for never.",
    labels: [],
    read: (add) => {
      const ageMs = seen.state.health_age_ms;
      add(ageMs === null ? Number.POSITIVE_INFINITY : ageMs / 1_000, {});
    },
  });
}

function addPools(registry: Registry, seen: Seen): void {
  const ofPools = (name: string, help: string, value: (pool: SiteStateReport['pools'][number]) => number) =>
    addGauge(registry, {
      name,
      help,
      labels: ['site', 'cluster'],
      read: (add) => {
        for (const pool of seen.state.pools) add(value(pool), { site: pool.site, cluster: pool.cluster });
      },
    });
  ofPools('pool_servers_up', 'Servers of the pool that are up, as last seen.', (pool) => pool.servers_up);
  ofPools('pool_servers', 'Servers of the pool, as last seen.', (pool) => pool.servers_total);
  ofPools('pool_up', 'Whether the pool counts as up for decisions; 0 while its health is not known.', (pool) =>
    Number(pool.up),
  );
  ofPools(
    'pool_health_known',
    'Whether Envoy has said lately how the pool is, and has a cluster of its name.',
    (pool) => Number(pool.health_known),
  );
}

function addCertificates(registry: Registry, certificates: readonly ExpiringCertificates[]): void {
  addGauge(registry, {
    name: 'certificate_expiry_timestamp_seconds',
    help: 'When the certificates of a TLS listener expire: its own, and the CA of its clients.',
    labels: ['listener', 'file'],
    read: (add) => {
      for (const { listener, validity } of certificates) {
        for (const [file, { validTo }] of Object.entries(validity)) add(validTo.getTime() / 1_000, { listener, file });
      }
    },
  });
}

function addProgram(registry: Registry, counters: Counters, seen: Seen, version: string): void {
  addGauge(registry, {
    name: 'draining',
    help: '1 while the site drains: its status URI answers 503 to load balancers.',
    labels: [],
    read: (add) => add(Number(seen.state.draining), {}),
  });
  addCounter(registry, {
    name: 'config_reloads_total',
    help: 'Reloads of the config file, by result: ok, or refused: it has errors and the old config stays.',
    labels: ['result'],
    read: (add) => {
      for (const result of ['ok', 'refused'] as const) add(counters.reloads[result], { result });
    },
  });
  addGauge(registry, {
    name: 'build_info',
    help: 'Always 1; the labels say which version runs on which Node.',
    labels: ['version', 'node'],
    read: (add) => add(1, { version, node: process.version }),
  });
}

function histogramTexts({ decisionTime, pollTime }: Counters): string[] {
  return [
    histogramText(
      'decision_duration_seconds',
      'From the opening of an ext_proc stream to its decision handed over to gRPC.',
      decisionTime,
    ),
    histogramText(
      'poll_duration_seconds',
      "From asking Envoy's admin interface for health to its answer, or to giving up.",
      pollTime,
    ),
  ];
}

interface CollectedMetric {
  /** Without the prefix. */
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  /** Gives the present value of each series, when a scrape asks. */
  readonly read: (add: (value: number, labels: Readonly<Record<string, string>>) => void) => void;
}

function addCounter(registry: Registry, { name, help, labels, read }: CollectedMetric): void {
  new Counter({
    name: `${PREFIX}${name}`,
    help,
    labelNames: labels,
    registers: [registry],
    collect() {
      this.reset();
      read((value, of) => this.inc(of, value));
    },
  });
}

function addGauge(registry: Registry, { name, help, labels, read }: CollectedMetric): void {
  new Gauge({
    name: `${PREFIX}${name}`,
    help,
    labelNames: labels,
    registers: [registry],
    collect() {
      this.reset();
      read((value, of) => this.set(of, value));
    },
  });
}

/** Written here, for prom-client's own histogram takes one value at a time and none that were counted already. */
function histogramText(name: string, help: string, source: DurationHistogram): string {
  const { buckets, sumSeconds, count } = source.values();
  return [
    `# HELP ${PREFIX}${name} ${help}`,
    `# TYPE ${PREFIX}${name} histogram`,
    ...buckets.map(({ upToSeconds, count: upTo }) => {
      const le = Number.isFinite(upToSeconds) ? upToSeconds : '+Inf';
      return `${PREFIX}${name}_bucket{le="${le}"} ${upTo}`;
    }),
    `${PREFIX}${name}_sum ${sumSeconds}`,
    `${PREFIX}${name}_count ${count}`,
    '',
  ].join('\n');
}

let ofProcess: Registry | undefined;

/** prom-client's metrics of the process, of which there is one, and which it begins to observe only once. */
function processRegistry(): Registry {
  if (ofProcess === undefined) {
    ofProcess = new Registry();
    collectDefaultMetrics({ register: ofProcess });
    // Gauges named as counters, which Prometheus's linter complains of; the ones by type say the same.
    for (const kind of ['handles', 'requests', 'resources']) {
      ofProcess.removeSingleMetric(`nodejs_active_${kind}_total`);
    }
  }
  return ofProcess;
}
