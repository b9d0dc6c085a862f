import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ManagedProcess } from '../../../lab/managed-process.ts';
import { CLI, NODE_ARGS } from '../../../lab/site-processes.ts';
import { waitUntil } from '../../../lab/wait-until.ts';
import { parseAdminAddress } from '../../../src/config/address.ts';
import { httpRequest } from '../../../src/envoy-admin/http-request.ts';
import { type SiteStateReport, siteStateSchema } from '../../../src/ops/state.ts';
import type { Tree } from '../json-tree.ts';
import type { SiteNetwork } from './networks.ts';
import { ProbedServer } from './probed-server.ts';
import { GATEWAY_PORT, type SiteName, siteYaml } from './recipe.ts';

/** Of the application's servers. */
export const APP_PORTS = [8081, 8082] as const;

/** The sockets' folder in a pod. */
export const SOCKETS = '/run/site-persistence';

/** One site of real processes in a network of its own: a gateway's control plane and Envoy, a sidecar, and servers in this process. */
export abstract class GatewaySite {
  readonly name: SiteName;
  readonly url: string;
  readonly configFile: string;
  readonly apps: ProbedServer[] = [];
  protected readonly network: SiteNetwork;
  protected readonly directory: string;
  /** Where Envoy's admin interface listens, as in a pod. */
  protected abstract readonly adminPort: number;
  readonly #gateway: ManagedProcess[] = [];
  #sidecar: ManagedProcess | undefined;

  constructor(name: SiteName, network: SiteNetwork, directory: string) {
    this.name = name;
    this.network = network;
    this.directory = directory;
    this.url = `http://${network.address}:${GATEWAY_PORT}`;
    this.configFile = join(directory, 'site.yaml');
  }

  get sidecar(): ManagedProcess {
    if (this.#sidecar === undefined) throw new Error(`${this.name} has no sidecar`);
    return this.#sidecar;
  }

  /** Starts the control plane, and the Envoy that has its config from there. */
  abstract startGateway(): Promise<void>;

  /** Kills Envoy alone. */
  abstract killEnvoy(): Promise<void>;

  /** Ends what is left of the gateway, and starts it anew. */
  async restartGateway(): Promise<void> {
    await this.#stopGateway();
    await this.startGateway();
  }

  async startSidecar(): Promise<void> {
    this.#sidecar = this.start(`${this.name} sidecar`, [
      ...[process.execPath, ...NODE_ARGS, CLI, 'serve', '--config', this.configFile],
    ]);
    await this.#sidecar.waitForLine(/deciding on/);
  }

  async startApps(): Promise<void> {
    await Promise.all(this.apps.map((app) => app.kill()));
    const starting = APP_PORTS.map((port, index) =>
      ProbedServer.start({
        ...{ application: 'shop', site: this.name, server: `app-${index + 1}`, port, host: this.network.outside },
      }),
    );
    this.apps.splice(0, this.apps.length, ...(await Promise.all(starting)));
  }

  async state(): Promise<SiteStateReport> {
    const ops = parseAdminAddress(`unix:${this.directory}/ops.sock`);
    const { body } = await httpRequest(ops, { method: 'GET', path: '/api/state', timeoutMs: 5_000 });
    return siteStateSchema.parse(JSON.parse(body));
  }

  /** Waits until the sidecar sees the local pool and that of the other site so. */
  async waitForPools(local: 'up' | 'down', remote: 'up' | 'down'): Promise<void> {
    const wanted = JSON.stringify([local === 'up', remote === 'up']);
    await waitUntil(
      async () => {
        const state = await this.state().catch(() => undefined);
        return state?.health_known === true && JSON.stringify(state.pools.map(({ up }) => up)) === wanted;
      },
      { what: `${this.name} to see its pool ${local} and the other site ${remote}`, timeoutMs: 60_000 },
    );
  }

  /** Waits until Envoy's health check has seen the sidecar. */
  async waitUntilReady(): Promise<void> {
    const ops = parseAdminAddress(`unix:${this.directory}/ops.sock`);
    const isReady = async () => {
      const { status } = await httpRequest(ops, { method: 'GET', path: '/readyz', timeoutMs: 10_000 });
      return status === 200;
    };
    await waitUntil(isReady, { what: `${this.name}'s sidecar to be ready` });
  }

  /** Runs a command of ours in the site's network. @returns its exit code and what it printed */
  async cli(...args: readonly string[]): Promise<{ readonly code: number; readonly stdout: string }> {
    return await this.#run([process.execPath, CLI, ...args, '--config', this.configFile]);
  }

  /** Envoy's answer to a GET at its admin interface. */
  async admin(path: string): Promise<string> {
    const script = 'fetch(process.argv[1]).then(async (answer) => process.stdout.write(await answer.text()))';
    return (await this.#run([process.execPath, '-e', script, `http://127.0.0.1:${this.adminPort}${path}`])).stdout;
  }

  async close(): Promise<void> {
    await Promise.all(this.apps.map((app) => app.kill()));
    await this.#sidecar?.stop('SIGKILL');
    await this.#stopGateway();
  }

  failure(what: string): Error {
    return this.#gateway.at(-1)?.failure(what) ?? new Error(what);
  }

  /** The config file of the recipe, with the sockets where this process reaches them as well. */
  protected async writeSiteYaml(manifests: readonly Tree[]): Promise<void> {
    const yaml = `${siteYaml(manifests)}ops_listen: unix:${SOCKETS}/ops.sock\n`;
    await writeFile(this.configFile, yaml.replaceAll(SOCKETS, this.directory));
  }

  /** Starts a process of the gateway in the site's network. */
  protected startPart(name: string, command: readonly string[]): ManagedProcess {
    const part = this.start(`${this.name} ${name}`, command);
    this.#gateway.push(part);
    return part;
  }

  protected start(name: string, command: readonly string[]): ManagedProcess {
    const [first = '', ...args] = [...this.network.under, ...command];
    return new ManagedProcess({ name, command: first, args });
  }

  async #stopGateway(): Promise<void> {
    // The last one first: an Envoy before what it has its config from.
    for (const part of this.#gateway.splice(0).toReversed()) await part.stop();
  }

  async #run(command: readonly string[]): Promise<{ readonly code: number; readonly stdout: string }> {
    const [first = '', ...args] = [...this.network.under, ...command];
    return await new Promise((resolve) => {
      execFile(first, args, { maxBuffer: 64 * 1024 * 1024 }, (error, stdout) => {
        resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout });
      });
    });
  }
}
