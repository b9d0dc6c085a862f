import { collectDefaultMetrics, Registry } from 'prom-client';
import { type Counters, STREAM_ENDS } from '../metrics/counters.ts';
import type { DurationHistogram } from '../metrics/duration-histogram.ts';
import { sessionCounts } from '../metrics/sessions.ts';
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
 * values are decisions, applications, sites and clusters, so the config bounds how many series there are.
 */
export function createMetrics({ counters, state, certificates, version }: MetricsOptions): Metrics {
  const ofProgram = processRegistry();
  const makeText = async () => {
    // One view for a whole scrape: consistent, and cheap where a pool has thousands of servers.
    const seen = state();
    const own = [
      ...trafficTexts(counters, seen.site),
      ...pollTexts(counters, seen),
      ...poolTexts(seen),
      certificatesText(certificates),
      ...programTexts(counters, seen, version),
      ...histogramTexts(counters),
    ];
    return [...own, await ofProgram.metrics()].join('\n');
  };
  let made: { readonly text: Promise<string>; readonly atMs: number } | null = null;
  return {
    contentType: ofProgram.contentType,
    async text() {
      const nowMs = performance.now();
      if (made === null || nowMs - made.atMs >= TEXT_LASTS_MS) made = { text: makeText(), atMs: nowMs };
      return await made.text;
    },
  };
}

/** @param site this one */
function trafficTexts(counters: Counters, site: string): string[] {
  return [
    seriesText('counter', {
      name: 'decisions_total',
      help: "Decisions made, by application, reason and the site whose cookie the request carried. Requests on Envoy's fast path ask for none.",
      read: (add) => {
        for (const [application, ofOne] of counters.applications) {
          for (const { reason, owner, count } of ofOne.decisions())
            add(count, { decision: reason, owner, application });
        }
      },
    }),
    seriesText('counter', {
      name: 'session_requests_total',
      help: "Requests by what became of their session, by application and the site whose session it is: known (this site's own, served here), new, server_gone (known, but their server did not take them), moved (to another site), adopted, forwarded, both_cookies (of several sites).",
      read: (add) => {
        for (const [application, ofOne] of counters.applications) {
          for (const { kind, site: of, count } of sessionCounts(ofOne, site))
            add(count, { kind, site: of, application });
        }
      },
    }),
    seriesText('counter', {
      name: 'duplicate_cookies_total',
      help: "Requests that carried this site's cookie more than once. Envoy reads the first; if it cannot, the client is not sticky.",
      read: (add) => {
        for (const [application, { duplicateCookies }] of counters.applications) add(duplicateCookies, { application });
      },
    }),
    seriesText('counter', {
      name: 'other_hosts_total',
      help: 'Requests whose host belongs to no application: the sidecar has no opinion of them.',
      read: (add) => add(counters.otherHosts, {}),
    }),
    seriesText('counter', {
      name: 'streams_total',
      help: 'ext_proc streams, by how they ended: complete (fully answered), reset (reset or closed before that, as when a client disconnects), malformed (not from Envoy).',
      read: (add) => {
        for (const end of STREAM_ENDS) add(counters.streams[end], { end });
      },
    }),
  ];
}

function pollTexts(counters: Counters, seen: SiteStateReport): string[] {
  return [
    seriesText('counter', {
      name: 'polls_total',
      help: "Polls of Envoy's admin interface, by result.",
      read: (add) => {
        for (const result of ['ok', 'error'] as const) add(counters.polls[result], { result });
      },
    }),
    seriesText('gauge', {
      name: 'last_good_poll_age_seconds',
      help: "Time since the last good poll of Envoy's admin interface; +Inf for never.",
      read: (add) => {
        const ageMs = seen.health_age_ms;
        add(ageMs === null ? Number.POSITIVE_INFINITY : ageMs / 1_000, {});
      },
    }),
  ];
}

function poolTexts(seen: SiteStateReport): string[] {
  const ofPools = (name: string, help: string, value: (pool: SiteStateReport['pools'][number]) => number) =>
    seriesText('gauge', {
      name,
      help,
      read: (add) => {
        for (const pool of seen.pools) {
          const { application, site, cluster } = pool;
          add(value(pool), { site, cluster, application });
        }
      },
    });
  return [
    ofPools('pool_servers_up', 'Servers of the pool that are up, as last seen.', (pool) => pool.servers_up),
    ofPools(
      'pool_servers',
      'Servers of the pool without those that drain, as last seen.',
      (pool) => pool.servers_total,
    ),
    ofPools('pool_servers_draining', 'Servers of the pool that drain, as last seen.', (pool) => pool.servers_draining),
    ofPools('pool_up', 'Whether the pool counts as up for decisions; 0 while its health is not known.', (pool) =>
      Number(pool.up),
    ),
    ofPools('pool_held', '1 while the pool is held: it counts as down until somebody releases it.', (pool) =>
      Number(pool.held !== null),
    ),
    ofPools(
      'pool_health_known',
      'Whether Envoy has said lately how the pool is, and has a cluster of its name.',
      (pool) => Number(pool.health_known),
    ),
  ];
}

function certificatesText(certificates: readonly ExpiringCertificates[]): string {
  return seriesText('gauge', {
    name: 'certificate_expiry_timestamp_seconds',
    help: 'When the certificates of a TLS listener expire: its own, and the CA of its clients.',
    read: (add) => {
      for (const { listener, validity } of certificates) {
        for (const [file, { validTo }] of Object.entries(validity)) add(validTo.getTime() / 1_000, { listener, file });
      }
    },
  });
}

function programTexts(counters: Counters, seen: SiteStateReport, version: string): string[] {
  return [
    seriesText('gauge', {
      name: 'draining',
      help: '1 while the application drains: its status URI answers 503 to load balancers.',
      read: (add) => {
        for (const { name, draining } of seen.applications) add(Number(draining), { application: name });
      },
    }),
    seriesText('counter', {
      name: 'config_reloads_total',
      help: 'Reloads of the config file, by result: ok, or rejected: it has errors and the old config stays.',
      read: (add) => {
        for (const result of ['ok', 'rejected'] as const) add(counters.reloads[result], { result });
      },
    }),
    seriesText('gauge', {
      name: 'config_last_reload_successful',
      help: '0 while the config file is not the config in force, for the last reload rejected it: a restart may fail.',
      read: (add) => add(Number(counters.lastReload === 'ok'), {}),
    }),
    seriesText('gauge', {
      name: 'build_info',
      help: 'Always 1; the labels say which version runs on which Node.',
      read: (add) => add(1, { version, node: process.version }),
    }),
  ];
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
  /** Gives the present value of each series, when a scrape asks. */
  readonly read: (add: (value: number, labels: Readonly<Record<string, string>>) => void) => void;
}

/** Written here: for thousands of series prom-client takes a tenth of a second, in which nothing is decided. */
function seriesText(type: 'counter' | 'gauge', { name, help, read }: CollectedMetric): string {
  const lines = [`# HELP ${PREFIX}${name} ${help}`, `# TYPE ${PREFIX}${name} ${type}`];
  read((value, labels) => lines.push(`${PREFIX}${name}${labelsText(labels)} ${valueText(value)}`));
  return [...lines, ''].join('\n');
}

function labelsText(labels: Readonly<Record<string, string>>): string {
  let text = '';
  for (const label in labels) text += `${text === '' ? '' : ','}${label}="${escapeLabel(labels[label] ?? '')}"`;
  return text === '' ? '' : `{${text}}`;
}

const NEEDS_ESCAPE = /[\\"\n]/;

function escapeLabel(value: string): string {
  if (!NEEDS_ESCAPE.test(value)) return value;
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function valueText(value: number): string {
  return value === Number.POSITIVE_INFINITY ? '+Inf' : String(value);
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
