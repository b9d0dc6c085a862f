import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { CLI } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { parseAdminAddress } from '../../src/config/address.ts';
import { httpRequest } from '../../src/envoy-admin/http-request.ts';
import { freePorts } from './free-ports.ts';

const run = promisify(execFile);

export interface RenderedEnvoyOptions {
  readonly release: string;
  readonly directory: string;
  /** As in the config file; by default on a free port. */
  readonly admin?: string;
  /** More of the config file. */
  readonly file?: Readonly<Record<string, unknown>>;
  /** More of its section `envoy`. */
  readonly envoy?: Readonly<Record<string, unknown>>;
  /** Changes the rendered bootstrap. */
  readonly patch?: (bootstrap: string) => string;
}

export interface RenderedEnvoy {
  readonly configFile: string;
  readonly edgePort: number;
  /** Where the only server of the local pool would listen. */
  readonly serverPort: number;
  readonly admin: string;
  /** What Envoy has said so far. */
  readonly lines: readonly string[];
}

/** An Envoy as `envoy` prints it, while the action runs, with neither a sidecar nor a server. */
export async function withRenderedEnvoy(
  { release, directory, admin: givenAdmin, file = {}, envoy = {}, patch = (text) => text }: RenderedEnvoyOptions,
  action: (envoy: RenderedEnvoy) => Promise<void>,
): Promise<void> {
  const [edgePort = 0, sidecar = 0, local = 0, remote = 0, adminPort = 0] = await freePorts(5);
  const admin = givenAdmin ?? `http://127.0.0.1:${adminPort}`;
  const configFile = join(directory, 'site.yaml');
  const config = {
    site: 'east',
    listen: `127.0.0.1:${sidecar}`,
    local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI', servers: [`127.0.0.1:${local}`] },
    remote_pools: [{ site: 'west', cluster: 'remote_pool', cookie: 'DDVHSLLQ', servers: [`127.0.0.1:${remote}`] }],
    ...file,
    envoy: {
      admin,
      listen: `127.0.0.1:${edgePort}`,
      version: release.split('.').slice(0, 2).join('.'),
      ...envoy,
    },
  };
  await writeFile(configFile, stringify(config));
  const bootstrap = join(directory, 'envoy.yaml');
  await writeFile(bootstrap, patch((await run(process.execPath, [CLI, 'envoy', '--config', configFile])).stdout));
  const child = new ManagedProcess({
    name: `Envoy ${release}`,
    command: await fetchEnvoy(release),
    args: ['-c', bootstrap, '--concurrency', '1', '-l', 'warn', '--disable-hot-restart'],
  });
  try {
    const ask = { method: 'GET', path: '/ready', timeoutMs: 5_000 } as const;
    const isReady = async () => {
      if (child.hasEnded) throw child.failure('ended at its start');
      return (await httpRequest(parseAdminAddress(admin), ask).catch(() => undefined))?.status === 200;
    };
    await waitUntil(isReady, { what: `Envoy ${release} to be ready` });
    await action({ configFile, edgePort, serverPort: local, admin, lines: child.lines });
  } finally {
    await child.stop('SIGKILL');
  }
}
