import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse, stringify } from 'yaml';
import type { ManagedProcess } from '../lab/managed-process.ts';
import { startEnvoyProcess } from '../lab/site-processes.ts';
import { HOST_NAME, TestCa } from '../test/support/certificates.ts';
import { freePorts } from '../test/support/free-ports.ts';
import type { Bench } from './bench.ts';
import { type Bootstrap, bootstrapSchema, withoutAccessLog } from './bootstrap.ts';

const run = promisify(execFile);

export interface EdgeOptions {
  readonly name: string;
  /** The site-persistence command that renders the config. */
  readonly cli: string;
  readonly fastPath?: boolean;
  /** The sidecars are asked over TLS, with a certificate at both ends. */
  readonly tls?: boolean;
  readonly sidecarCount?: number;
  readonly workers?: number;
  readonly patch?: (bootstrap: Bootstrap) => void | Promise<void>;
}

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
  const [listenPort = 0, adminPort = 0, opsPort = 0, ...sidecarPorts] = await freePorts(3 + sidecarCount);
  const configFile = join(bench.directory, `${name}.yaml`);
  const bootstrapFile = join(bench.directory, `${name}-envoy.yaml`);
  const adminUrl = `http://127.0.0.1:${adminPort}`;
  const sidecars = sidecarPorts.map((port) => `127.0.0.1:${port}`);
  const { application } = bench;
  const ofTls = tls ? await tlsOfSidecars(bench.directory) : { listen_tls: null, sidecar_tls: null };
  const config = {
    site: 'east',
    listen: sidecars[0],
    listen_tls: ofTls.listen_tls,
    ops_listen: `127.0.0.1:${opsPort}`,
    local_pool: {
      cluster: 'local_pool',
      cookie: { name: 'KVAAVROI', path: '/', same_site: 'Lax' },
      servers: application.local,
      health_check: { path: '/healthz', interval: '1s' },
    },
    remote_pools: [{ site: 'west', cluster: 'remote_pool', cookie: 'DDVHSLLQ', servers: [application.remote] }],
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
  const { stdout } = await run(process.execPath, [cli, 'envoy', '--config', configFile]);
  const bootstrap = bootstrapSchema.parse(parse(stdout));
  withoutAccessLog(bootstrap);
  await patch?.(bootstrap);
  await writeFile(bootstrapFile, stringify(bootstrap));
  const envoy = await startEnvoyProcess({
    site: name,
    binary: bench.tools.envoy,
    bootstrapFile,
    adminUrl,
    concurrency: workers,
  });
  return { url: `http://127.0.0.1:${listenPort}/`, adminUrl, envoy, configFile, sidecars };
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
