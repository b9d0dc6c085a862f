import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse, stringify } from 'yaml';
import type { ManagedProcess } from '../lab/managed-process.ts';
import { startEnvoyProcess } from '../lab/site-processes.ts';
import { HOST_NAME, TestCa } from '../test/support/certificates.ts';
import { freePorts } from '../test/support/free-ports.ts';
import type { Application } from './application.ts';
import type { Bench } from './bench.ts';
import { type Bootstrap, bootstrapSchema, logToNowhere, withoutAccessLog } from './bootstrap.ts';

const run = promisify(execFile);

export interface EdgeOptions {
  readonly name: string;
  /** The site-persistence command that renders the config. */
  readonly cli: string;
  readonly fastPath?: boolean;
  /** The sidecars are asked over TLS, with a certificate at both ends. */
  readonly tls?: boolean;
  readonly sidecarCount?: number;
  /** So many, told apart by their hosts; by default one for every host. */
  readonly applications?: number;
  readonly workers?: number;
  readonly timing?: Timing;
  /** The cookie's value is a hash of the server; by default it is as Envoy writes it. */
  readonly opaqueCookie?: boolean;
  /** A command that runs Envoy. */
  readonly under?: readonly string[];
  readonly patch?: (bootstrap: Bootstrap) => void | Promise<void>;
}

/** How often pools are checked and Envoy is asked for their health, as the config file has it. */
export interface Timing {
  readonly health: { readonly poll_interval?: string; readonly stale_after?: string };
  /** Of both pools. */
  readonly healthCheck: { readonly interval: string; readonly timeout?: string };
}

const USUAL_TIMING: Timing = { health: {}, healthCheck: { interval: '1s' } };

/** The Envoy of site east, and the config file that its sidecar reads. */
export interface Edge {
  readonly url: string;
  readonly adminUrl: string;
  readonly envoy: ManagedProcess;
  readonly configFile: string;
  /** The listen address of each sidecar. */
  readonly sidecars: readonly string[];
}

/** Starts an Envoy with the config that `site-persistence envoy` prints, patched. */
export async function startEdge(bench: Bench, options: EdgeOptions): Promise<Edge> {
  const { name, cli, fastPath = false, tls = false, sidecarCount = 1, workers = bench.workers, patch } = options;
  const { applications = 0, timing = USUAL_TIMING, opaqueCookie = false, under = [] } = options;
  const [listenPort = 0, adminPort = 0, opsPort = 0, ...sidecarPorts] = await freePorts(3 + sidecarCount);
  const configFile = join(bench.directory, `${name}.yaml`);
  const bootstrapFile = join(bench.directory, `${name}-envoy.yaml`);
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  const sidecars = sidecarPorts.map((port) => `127.0.0.1:${port}`);
  const { application } = bench;
  const ofTls = tls ? await tlsOfSidecars(bench.directory) : { listen_tls: null, sidecar_tls: null };
  if (opaqueCookie) await writeFile(join(bench.directory, KEY_FILE), `${'0123456789abcdef'.repeat(4)}\n`);
  const config = {
    site: 'east',
    listen: sidecars[0],
    listen_tls: ofTls.listen_tls,
    ops_listen: `127.0.0.1:${opsPort}`,
    health: timing.health,
    ...(applications === 0
      ? pools(application, timing, opaqueCookie ? { opaque: { key_file: KEY_FILE } } : {})
      : { applications: manyApplications(application, applications, timing) }),
    envoy: {
      admin: adminUrl,
      listen: `127.0.0.1:${listenPort}`,
      sidecars,
      sidecar_tls: ofTls.sidecar_tls,
      version: '1.40',
      fast_path: fastPath,
    },
  };
  await writeFile(configFile, stringify(config));
  // A hundred applications are two megabytes.
  const maxBuffer = 64 * 1024 * 1024;
  const { stdout } = await run(process.execPath, [cli, 'envoy', '--config', configFile], { maxBuffer });
  const bootstrap = bootstrapSchema.parse(parse(stdout));
  if (bench.accessLog) logToNowhere(bootstrap);
  else withoutAccessLog(bootstrap);
  await patch?.(bootstrap);
  await writeFile(bootstrapFile, stringify(bootstrap));
  const envoy = await startEnvoyProcess({
    site: name,
    binary: bench.tools.envoy,
    bootstrapFile,
    adminUrl,
    concurrency: workers,
    under,
  });
  return { url: `http://127.0.0.1:${listenPort}/`, adminUrl, envoy, configFile, sidecars };
}

/** Beside the config file. */
const KEY_FILE = 'cookie.key';

/** @param cookie more of this site's cookie */
function pools(application: Application, { healthCheck }: Timing, cookie: object = {}) {
  return {
    local_pool: {
      cluster: 'local_pool',
      cookie: { name: 'KVAAVROI', path: '/', same_site: 'Lax', ...cookie },
      servers: application.local,
      health_check: { path: '/healthz', ...healthCheck },
    },
    remote_pools: [
      {
        ...{ site: 'west', cluster: 'remote_pool', cookie: 'DDVHSLLQ', servers: [application.remote] },
        health_check: healthCheck,
      },
    ],
  };
}

/** The one that is asked for, by the address of the load's requests, and others with the same servers. */
function manyApplications(application: Application, count: number, timing: Timing): object[] {
  const { local, remote } = application;
  const others = Array.from({ length: count - 1 }, (_, index) => ({
    name: `other-${index}`,
    hosts: [`other-${index}.example.com`, `*.other-${index}.example.com`],
    local_pool: { cookie: `EAST${index}`, servers: local, health_check: { path: '/healthz', interval: '10s' } },
    remote_pools: [{ site: 'west', cookie: `WEST${index}`, servers: [remote], health_check: { interval: '10s' } }],
  }));
  return [...others, { name: 'shop', hosts: ['127.0.0.1', 'shop.example.com'], ...pools(application, timing) }];
}

/** Some of an Envoy's counters and gauges by name; one that it does not have yet is 0. */
export async function readStats(adminUrl: string, names: readonly string[]): Promise<(name: string) => number> {
  const filter = `^(${names.map((name) => name.replaceAll('.', '\\.')).join('|')})$`;
  const text = await (await fetch(`${adminUrl}/stats?filter=${encodeURIComponent(filter)}`)).text();
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const [name = '', value] = line.split(': ', 2);
    values.set(name, Number(value));
  }
  return (name) => values.get(name) ?? 0;
}

async function tlsOfSidecars(directory: string) {
  const ca = await TestCa.create(directory);
  const { certFile, keyFile } = await ca.issue('sidecar');
  const own = { cert_file: certFile, key_file: keyFile };
  return {
    listen_tls: { ...own, client_ca_file: ca.certFile },
    sidecar_tls: { ...own, sni: HOST_NAME, ca_file: ca.certFile },
  };
}
