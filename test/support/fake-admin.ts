import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { waitUntil } from '../../lab/wait-until.ts';
import type { Address } from '../../src/config/address.ts';
import { freePorts } from './free-ports.ts';

/** How the admin interface answers: as Envoy does, or wrongly in one of the ways that happen. */
export type AdminMood =
  | 'well'
  /** As Envoy does, but only after `slowMs`. */
  | 'slow'
  /** Never. */
  | 'silent'
  /** Begins an answer and adds a byte now and then, without an end. */
  | 'dripping'
  | 'html'
  /** A complete HTTP answer whose JSON is cut short. */
  | 'truncated'
  /** JSON that is not Envoy's. */
  | 'other json'
  | 'wrong status'
  /** The connection ends in the middle of the answer. */
  | 'cut off'
  /** The connection ends without an answer. */
  | 'closing'
  /** What answers does not speak HTTP. */
  | 'not http'
  /** 12 MB of JSON of the right shape, and more cheap entries than anybody could describe. */
  | 'huge';

/** What Envoy thinks of a host. */
export type HostState =
  | 'up'
  | 'degraded'
  | 'failed health check'
  | 'ejected'
  | 'EDS unhealthy'
  | 'EDS draining'
  | 'leaving';

export interface FakeHost {
  readonly state: HostState;
  /** `host:port`, or the path of a Unix socket. */
  readonly address: string;
}

const DRIP_MS = 10;

/** As Envoy's. */
const MAX_HEADER_BYTES = 60 * 1024;

let hugeAnswer: Buffer | undefined;

function makeHugeAnswer(): Buffer {
  return Buffer.from(`{"stats":[${'1,'.repeat(3_000_000)}1],"cluster_statuses":[${'{},'.repeat(2_000_000)}{}]}`);
}

const ENDPOINTS = ['/stats', '/clusters', '/runtime', '/runtime_modify'];

/** The flags of `HostHealthStatus`, as Envoy writes them: it leaves out what is false. */
const HEALTH_STATUS: Readonly<Record<HostState, object>> = {
  up: { eds_health_status: 'HEALTHY' },
  degraded: { failed_active_degraded_check: true, eds_health_status: 'HEALTHY' },
  'failed health check': { failed_active_health_check: true, eds_health_status: 'HEALTHY' },
  ejected: { failed_outlier_check: true, eds_health_status: 'HEALTHY' },
  'EDS unhealthy': { eds_health_status: 'UNHEALTHY' },
  'EDS draining': { eds_health_status: 'DRAINING' },
  leaving: { pending_dynamic_removal: true, eds_health_status: 'HEALTHY' },
};

/** Envoy's `Host::coarseHealth()`: a host that is to leave stays in use until its health check fails. */
const COARSE_HEALTH: Readonly<Record<HostState, 'healthy' | 'degraded' | 'unhealthy'>> = {
  up: 'healthy',
  leaving: 'healthy',
  degraded: 'degraded',
  'failed health check': 'unhealthy',
  ejected: 'unhealthy',
  'EDS unhealthy': 'unhealthy',
  'EDS draining': 'unhealthy',
};

/** Stands in for the admin interface of an Envoy, for what a real one cannot be made to do when a test wants it. */
export class FakeAdmin {
  readonly address: Address;
  mood: AdminMood = 'well';
  /** How `/clusters` is answered, where it is not as `mood` says. */
  clustersMood: AdminMood | null = null;
  slowMs = 50;
  /** A `stats_matcher` that lets nothing of a cluster be seen. */
  hidesStats = false;
  /** `alt_stat_name` of clusters. */
  readonly observabilityNames = new Map<string, string>();
  /** What `POST /runtime_modify` has set. */
  readonly runtime = new Map<string, string>();
  /** Envoy's `layered_runtime` has a layer that takes what is set. */
  hasAdminLayer = true;
  /** The path and query of each request so far. */
  readonly requests: string[] = [];
  /** The most requests that were unanswered at the same time. */
  maxInFlight = 0;
  #inFlight = 0;
  readonly #pools = new Map<string, readonly FakeHost[]>();
  readonly #failedChecks = new Map<string, number>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #server: Server | null = null;

  private constructor(address: Address) {
    this.address = address;
  }

  /** Starts one with two servers in `local_pool` and one in `remote_pool`. @param address default: a free port */
  static async start(address?: Address): Promise<FakeAdmin> {
    const [port = 0] = address === undefined ? await freePorts(1) : [];
    const admin = new FakeAdmin(address ?? { kind: 'tcp', host: '127.0.0.1', port });
    admin.setPool('local_pool', ['up', 'up']);
    admin.setPool('remote_pool', ['up']);
    await admin.listen();
    return admin;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Makes a cluster of these hosts; a host without an address is `127.0.0.1:3001`, `:3002` and so on. */
  setPool(cluster: string, hosts: readonly (HostState | FakeHost)[]): void {
    const named = hosts.map((host, index) =>
      typeof host === 'string' ? { state: host, address: `127.0.0.1:${3001 + index}` } : host,
    );
    this.#pools.set(cluster, named);
  }

  removePool(cluster: string): void {
    this.#pools.delete(cluster);
  }

  /** Counts health checks of a cluster as failed, which Envoy does before it thinks worse of the host. */
  failChecks(cluster: string, count: number): void {
    this.#failedChecks.set(cluster, (this.#failedChecks.get(cluster) ?? 0) + count);
  }

  /** Begins to listen; for one that was closed, on the same address as before. */
  async listen(): Promise<void> {
    const server = createServer({ maxHeaderSize: MAX_HEADER_BYTES }, (request, response) =>
      this.#receive(request, response),
    );
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      if (this.address.kind === 'unix') server.listen(this.address.path, resolve);
      else server.listen(this.address.port, this.address.host, resolve);
    });
  }

  /** Stops listening and drops every connection. */
  async close(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    const server = this.#server;
    this.#server = null;
    await new Promise<void>((resolve) => {
      if (server === null) resolve();
      else server.close(() => resolve());
      server?.closeAllConnections();
    });
  }

  /** Waits until so many more requests have come. */
  async waitForRequests(count: number): Promise<void> {
    const wanted = this.requests.length + count;
    await waitUntil(() => this.requests.length >= wanted, { what: `${count} more requests`, intervalMs: 5 });
  }

  #receive(request: IncomingMessage, response: ServerResponse): void {
    this.requests.push(request.url ?? '');
    this.#inFlight++;
    this.maxInFlight = Math.max(this.maxInFlight, this.#inFlight);
    response.once('close', () => {
      this.#inFlight--;
    });
    const url = new URL(request.url ?? '/', 'http://envoy');
    if (this.mood === 'well' && !ENDPOINTS.includes(url.pathname)) {
      response.writeHead(404).end('invalid path. admin commands are:\n  /: Admin home page\n  /certs: print certs\n');
      return;
    }
    if (this.mood === 'well' && url.pathname === '/runtime_modify') {
      this.#modifyRuntime(request, url, response);
      return;
    }
    const mood = url.pathname === '/clusters' ? (this.clustersMood ?? this.mood) : this.mood;
    this.#answer(mood, response, () => JSON.stringify(this.#render(url)));
  }

  #modifyRuntime(request: IncomingMessage, url: URL, response: ServerResponse): void {
    if (request.method !== 'POST') response.writeHead(405).end('Method Not Allowed');
    else if (!this.hasAdminLayer) response.writeHead(503).end('No admin layer specified\n');
    else {
      for (const [key, value] of url.searchParams) this.runtime.set(key, value);
      response.end('OK\n');
    }
  }

  #answer(mood: AdminMood, response: ServerResponse, body: () => string): void {
    response.setHeader('content-type', 'application/json');
    switch (mood) {
      case 'well':
        response.end(body());
        return;
      case 'slow':
        this.#later(this.slowMs, () => response.end(body()));
        return;
      case 'silent':
        return;
      case 'dripping':
        this.#drip(response);
        return;
      case 'html':
        response.setHeader('content-type', 'text/html').end('<!doctype html><title>Log in</title>');
        return;
      case 'truncated':
        response.end(body().slice(0, -10));
        return;
      case 'other json':
        response.end('{"status":"ok"}');
        return;
      case 'wrong status':
        response.writeHead(503).end('no healthy upstream');
        return;
      case 'cut off':
        response.setHeader('content-length', 10_000);
        response.write(body(), () => response.destroy());
        return;
      case 'closing':
        response.destroy();
        return;
      case 'huge':
        hugeAnswer ??= makeHugeAnswer();
        response.end(hugeAnswer);
        return;
      case 'not http':
        response.socket?.end('SSH-2.0-OpenSSH_9.2\r\n');
        return;
    }
  }

  #drip(response: ServerResponse): void {
    if (response.destroyed) return;
    response.write(' ');
    this.#later(DRIP_MS, () => this.#drip(response));
  }

  #later(ms: number, action: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, ms);
    this.#timers.add(timer);
  }

  #render(url: URL): object {
    const filter = new RegExp(url.searchParams.get('filter') ?? '');
    switch (url.pathname) {
      case '/stats':
        return { stats: this.hidesStats ? [] : this.#stats().filter((stat) => filter.test(stat.name)) };
      case '/clusters': {
        const clusters = [...this.#pools].filter(([name]) => filter.test(name));
        // As Envoy, which leaves out what is empty.
        return clusters.length === 0
          ? {}
          : { cluster_statuses: clusters.map((cluster) => this.#renderCluster(cluster)) };
      }
      case '/runtime':
        return {
          layers: ['admin'],
          entries: Object.fromEntries(
            [...this.runtime].map(([key, value]) => [key, { layer_values: [value], final_value: value }]),
          ),
        };
      default:
        return {};
    }
  }

  #stats(): { name: string; value: number }[] {
    return [...this.#pools].flatMap(([cluster, hosts]) => {
      const prefix = `cluster.${(this.observabilityNames.get(cluster) ?? cluster).replaceAll(':', '_')}`;
      const count = (health: string) => hosts.filter((host) => COARSE_HEALTH[host.state] === health).length;
      return [
        { name: `${prefix}.health_check.failure`, value: this.#failedChecks.get(cluster) ?? 0 },
        { name: `${prefix}.membership_degraded`, value: count('degraded') },
        { name: `${prefix}.membership_excluded`, value: hosts.filter((host) => host.state === 'EDS draining').length },
        { name: `${prefix}.membership_healthy`, value: count('healthy') },
        { name: `${prefix}.membership_total`, value: hosts.length },
        { name: `${prefix}.upstream_cx_active`, value: 7 },
      ];
    });
  }

  #renderCluster([name, hosts]: readonly [string, readonly FakeHost[]]): object {
    return {
      name,
      ...(hosts.length === 0 ? {} : { host_statuses: hosts.map(renderHost) }),
      circuit_breakers: { thresholds: [{ max_connections: 1024 }, { priority: 'HIGH', max_connections: 1024 }] },
      observability_name: this.observabilityNames.get(name) ?? name,
    };
  }
}

function renderHost(host: FakeHost): object {
  return {
    address: renderAddress(host.address),
    stats: [{ name: 'cx_connect_fail' }, { type: 'GAUGE', name: 'cx_active', value: '1' }],
    health_status: HEALTH_STATUS[host.state],
    weight: 1,
    locality: {},
  };
}

function renderAddress(address: string): object {
  if (address.startsWith('/')) return { pipe: { path: address } };
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  return { socket_address: { address: host, port_value: Number(address.slice(colon + 1)) } };
}
