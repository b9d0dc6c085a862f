import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse, stringify } from 'yaml';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';
import type { ManagedProcess } from '../../lab/managed-process.ts';
import {
  type AppProtocol,
  CLI,
  startAppServer,
  startEnvoyProcess,
  startSidecarProcess,
} from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { parseAdminAddress } from '../../src/config/address.ts';
import { DEFAULT_APPLICATION } from '../../src/config/config.ts';
import { siteKey } from '../../src/contract.ts';
import { httpRequest } from '../../src/envoy-admin/http-request.ts';
import { type SiteStateReport, siteStateSchema } from '../../src/ops/state.ts';
import { Client } from './client.ts';
import { freePorts } from './free-ports.ts';

/** Whether the sites have a second application beside the one that is tested; by the environment, for whole suites. */
const HAS_TWO = process.env.APPLICATIONS === 'two';

const run = promisify(execFile);

export const EAST_COOKIE = 'KVAAVROI';
export const WEST_COOKIE = 'DDVHSLLQ';

/** Of each minor version that is supported the newest that PyPI has. */
export const ENVOY_RELEASES = ['1.36.4', '1.37.0', '1.38.3', '1.39.3', '1.40.0'] as const;
export type EnvoyRelease = (typeof ENVOY_RELEASES)[number];

/** A site's config file as a test may change it before it is written. */
export interface ConfigFile {
  [key: string]: unknown;
  local_pool: Record<string, unknown>;
  remote_pools: Record<string, unknown>[];
  envoy: Record<string, unknown>;
  health: Record<string, unknown>;
}

export interface LabOptions {
  readonly envoyVersion?: EnvoyRelease;
  /** The Node that runs the sidecars and `envoy`; by default the one that runs this. */
  readonly node?: string;
  /** Sidecars for each site, on Unix sockets when there are several. */
  readonly sidecars?: number;
  /** What the application's servers speak. */
  readonly appsSpeak?: AppProtocol;
  readonly configure?: (file: ConfigFile, site: 'east' | 'west') => void;
  /** Changes a site's rendered Envoy bootstrap. */
  readonly patchBootstrap?: (bootstrap: string, site: 'east' | 'west') => string;
  readonly concurrency?: number;
  /** By default on, or as the environment has it, so that a whole suite can run with either. */
  readonly fastPath?: boolean;
  /** Whether the Envoys follow the config files; by default as the environment has it. */
  readonly configDir?: boolean;
  /** The Host by which the status URI is asked; by default the address. */
  readonly host?: string;
}

const READYZ = { method: 'GET', path: '/readyz', timeoutMs: 5_000 } as const;

const FAST_PATH = process.env.FAST_PATH !== 'false';

const CONFIG_DIR = process.env.CONFIG_DIR === 'true';

interface SitePorts {
  readonly edge: number;
  readonly admin: number;
  readonly sidecar: number;
  readonly ops: number;
  readonly apps: readonly number[];
}

/** One site of real processes: application servers, sidecars and an Envoy with the config that `envoy` prints. */
export class SiteLab {
  readonly name: 'east' | 'west';
  readonly url: string;
  readonly adminUrl: string;
  readonly opsUrl: string;
  readonly configFile: string;
  readonly apps: ManagedProcess[] = [];
  readonly sidecars: ManagedProcess[] = [];
  /** The listen address of each sidecar. */
  readonly sidecarAddresses: readonly string[];
  /** The names of its applications. */
  applications: readonly string[] = [DEFAULT_APPLICATION];
  /** Those of the two that its config names. */
  knownSites: readonly ('east' | 'west')[] = ['east', 'west'];
  envoy: ManagedProcess | undefined;
  readonly #ports: SitePorts;
  readonly #binary: string;
  readonly #bootstrapFile: string;
  readonly #concurrency: number;
  readonly #node: string;
  readonly #appsSpeak: AppProtocol;
  readonly #host: string | undefined;

  constructor(options: {
    name: 'east' | 'west';
    ports: SitePorts;
    directory: string;
    binary: string;
    sidecarAddresses: readonly string[];
    concurrency: number;
    node: string;
    appsSpeak: AppProtocol;
    host: string | undefined;
  }) {
    this.name = options.name;
    this.url = `http://127.0.0.1:${options.ports.edge}`;
    this.adminUrl = `http://127.0.0.1:${options.ports.admin}`;
    this.opsUrl = `http://127.0.0.1:${options.ports.ops}`;
    this.configFile = join(options.directory, `${options.name}.yaml`);
    this.sidecarAddresses = options.sidecarAddresses;
    this.#bootstrapFile = join(options.directory, `${options.name}-envoy.yaml`);
    this.#ports = options.ports;
    this.#binary = options.binary;
    this.#concurrency = options.concurrency;
    this.#node = options.node;
    this.#appsSpeak = options.appsSpeak;
    this.#host = options.host;
  }

  async render(patch: (bootstrap: string, site: 'east' | 'west') => string): Promise<void> {
    const { stdout } = await run(this.#node, [CLI, 'envoy', '--config', this.configFile]);
    await writeFile(this.#bootstrapFile, patch(stdout, this.name));
  }

  async startPool(): Promise<void> {
    const started = this.#ports.apps.map((port, index) =>
      startAppServer({ site: this.name, server: `app-${index + 1}`, port, speaks: this.#appsSpeak }),
    );
    this.apps.splice(0, this.apps.length, ...(await Promise.all(started)));
  }

  async startApp(index: number): Promise<void> {
    const port = this.#ports.apps[index] ?? 0;
    this.apps[index] = await startAppServer({
      site: this.name,
      server: `app-${index + 1}`,
      port,
      speaks: this.#appsSpeak,
    });
  }

  async stopPool(): Promise<void> {
    await Promise.all(this.apps.map((app) => app.stop('SIGKILL')));
  }

  async startSidecar(index = 0, env: Record<string, string> = {}): Promise<void> {
    const args = this.sidecarAddresses.length > 1 ? ['--listen', this.sidecarAddresses[index] ?? ''] : [];
    if (index > 0) args.push('--ops-listen', this.opsAddress(index));
    const { name: site, configFile } = this;
    this.sidecars[index] = await startSidecarProcess({ site, configFile, args, env, node: this.#node });
  }

  /** Where a sidecar's ops listener is: the first one's as a URL, the others' as `unix:/path`. */
  opsAddress(index: number): string {
    return index === 0 ? this.opsUrl : `${this.sidecarAddresses[index]}.ops`;
  }

  /** Waits until a sidecar's `/readyz` says 200, without a pause in between. */
  async waitForReady(index: number): Promise<void> {
    const ops = parseAdminAddress(this.opsAddress(index));
    await waitUntil(async () => (await httpRequest(ops, READYZ)).status === 200, {
      what: `sidecar ${index} of ${this.name} to be ready`,
      intervalMs: 1,
    });
  }

  async startEnvoy(hotRestart?: { baseId: number; epoch: number }): Promise<void> {
    this.envoy = await startEnvoyProcess({
      ...(hotRestart === undefined ? {} : { hotRestart }),
      site: this.name,
      binary: this.#binary,
      bootstrapFile: this.#bootstrapFile,
      adminUrl: this.adminUrl,
      concurrency: this.#concurrency,
    });
  }

  sidecar(index = 0): ManagedProcess {
    const sidecar = this.sidecars[index];
    if (sidecar === undefined) throw new Error(`${this.name} has no sidecar ${index}`);
    return sidecar;
  }

  /** Waits until the status URI says so and, when it says 503, a sidecar that runs knows why. */
  async waitForStatus(status: 200 | 503): Promise<void> {
    const client = new Client();
    const headers = this.#host === undefined ? {} : { host: this.#host };
    await waitUntil(
      async () => {
        const answer = await client.request(`${this.url}/local_pool_status`, { headers }).catch(() => undefined);
        return answer?.status === status && answer.body === `LOCAL POOL STATE: ${status === 200 ? 'UP' : 'DOWN'}`;
      },
      { what: `${this.name}'s status URI to say ${status}` },
    );
    client.close();
    if (status === 503 && !this.sidecar().hasEnded) await this.#waitForSidecar();
  }

  /** In steady state Envoy itself answers the status URI, and may know a moment before the sidecar that the local pool is down. */
  async #waitForSidecar(): Promise<void> {
    await waitUntil(
      async () => {
        const state = await this.state().catch(() => undefined);
        const isDown = state?.pools[0]?.up === false && state.fast_path !== 'on';
        return state === undefined || !state.health_known || state.applications.some((of) => of.draining) || isDown;
      },
      { what: `${this.name}'s sidecar to see its pool down` },
    );
  }

  /** Waits until every sidecar sees the other site's pool up or down, as its log last said. */
  async waitForRemote(state: 'up' | 'down'): Promise<void> {
    await waitUntil(
      () =>
        this.sidecars.every(({ lines }) => {
          const said = lines.filter((line) => line.includes('pool remote_pool ('));
          return said.at(-1)?.includes(`is ${state}:`) === true;
        }),
      { what: `${this.name}'s sidecars to see the remote pool ${state}` },
    );
  }

  /** Waits until Envoy has found every sidecar that runs healthy: it asks no other. */
  async waitForSidecars(): Promise<void> {
    const healthy = () => this.stat('cluster.site_persistence.membership_healthy');
    await waitUntil(
      async () => {
        const running = this.sidecars.filter(({ hasEnded }) => !hasEnded).length;
        // An Envoy with a config of its own may call the cluster otherwise.
        return (await healthy().catch(() => running)) >= running;
      },
      { what: `${this.name}'s Envoy to find its sidecars healthy` },
    );
  }

  /** Waits until Envoy itself says whether a site is up for its steady routes. */
  async waitForFastPath(state: 'on' | 'off', site: 'east' | 'west' = this.name): Promise<void> {
    const wanted = state === 'on' ? '100' : '0';
    for (const application of this.applications) {
      await waitUntil(async () => ((await this.runtime(siteKey(application, site))) ?? '0') === wanted, {
        what: `${this.name}'s fast path of ${application} for ${site} to be ${state}`,
      });
    }
  }

  /** A runtime key's value in this site's Envoy. */
  async runtime(key: string): Promise<string | undefined> {
    const answer: unknown = await (await fetch(`${this.adminUrl}/runtime?format=json`)).json();
    return (answer as { entries?: Record<string, { final_value: string }> }).entries?.[key]?.final_value;
  }

  /** Makes the next sidecar ask for Envoy's health there, such as at something that stands in between. */
  async moveAdmin(url: string): Promise<void> {
    const file: unknown = parse(await readFile(this.configFile, 'utf8'));
    const moved = { ...(file as ConfigFile), envoy: { ...(file as ConfigFile).envoy, admin: url } };
    await writeFile(this.configFile, stringify(moved));
  }

  /** Ends every drain and hold by command. */
  async undo(): Promise<void> {
    const ops = parseAdminAddress(this.opsAddress(0));
    const others = this.knownSites.filter((site) => site !== this.name);
    for (const path of ['/undrain', ...others.map((site) => `/release?site=${site}`)]) {
      await httpRequest(ops, { method: 'POST', path, timeoutMs: 10_000 });
    }
  }

  /** What a sidecar says of itself. */
  async state(index = 0): Promise<SiteStateReport> {
    const ops = parseAdminAddress(this.opsAddress(index));
    const { body } = await httpRequest(ops, { method: 'GET', path: '/api/state', timeoutMs: 5_000 });
    return siteStateSchema.parse(JSON.parse(body));
  }

  /** A counter or gauge of this site's Envoy. */
  async stat(name: string): Promise<number> {
    const text = await (await fetch(`${this.adminUrl}/stats?filter=^${name.replaceAll('.', '\\.')}$`)).text();
    const value = /: (\d+)/.exec(text)?.[1];
    if (value === undefined) throw new Error(`${this.name}'s Envoy has no stat ${name}`);
    return Number(value);
  }

  async close(): Promise<void> {
    const processes = [...this.sidecars, ...(this.envoy === undefined ? [] : [this.envoy]), ...this.apps];
    for (const child of processes) child.signal('SIGCONT');
    await Promise.all(processes.map((child) => child.stop('SIGKILL')));
  }
}

export interface TwoSites {
  readonly east: SiteLab;
  readonly west: SiteLab;
  readonly sites: readonly SiteLab[];
  /** Waits until each sidecar sees every pool up. */
  ready(): Promise<void>;
  /** Starts again what a test has stopped, and waits until all is `ready`. */
  restore(): Promise<void>;
  close(): Promise<void>;
}

/** Starts two whole sites on free ports, and returns when both serve and see each other. */
export async function startTwoSites(options: LabOptions = {}): Promise<TwoSites> {
  const {
    envoyVersion = '1.40.0',
    sidecars = 1,
    configure,
    patchBootstrap = (text) => text,
    concurrency = 2,
    fastPath = FAST_PATH,
    configDir = CONFIG_DIR,
    node = process.execPath,
    appsSpeak = 'http1',
    host,
  } = options;
  const binary = await fetchEnvoy(envoyVersion);
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-lab-'));
  const ports = { east: await sitePorts(), west: await sitePorts() };
  const labs = (['east', 'west'] as const).map((name) => {
    const sidecarAddresses = Array.from({ length: sidecars }, (_, index) =>
      sidecars === 1 ? `127.0.0.1:${ports[name].sidecar}` : `unix:${directory}/${name}-${index}.sock`,
    );
    const own = { name, ports: ports[name], directory, sidecarAddresses };
    return new SiteLab({ ...own, binary, concurrency, node, appsSpeak, host });
  });
  const [east, west] = labs as [SiteLab, SiteLab];

  async function close(): Promise<void> {
    await Promise.all(labs.map((lab) => lab.close()));
    await rm(directory, { recursive: true, force: true });
  }
  async function ready(): Promise<void> {
    for (const lab of labs) {
      await lab.waitForStatus(200);
      await lab.waitForRemote('up');
      await lab.waitForSidecars();
      if (fastPath) for (const site of lab.knownSites) await lab.waitForFastPath('on', site);
    }
  }

  async function restore(): Promise<void> {
    for (const lab of labs) {
      for (const process of [...lab.apps, ...lab.sidecars, lab.envoy]) process?.signal('SIGCONT');
      for (const [index, sidecar] of lab.sidecars.entries()) if (sidecar.hasEnded) await lab.startSidecar(index);
      if (lab.envoy?.hasEnded === true) await lab.startEnvoy();
      await lab.undo();
      const dead = [...lab.apps.entries()].filter(([, app]) => app.hasEnded).map(([index]) => index);
      // Noticed late, the end of the old servers would be taken for that of the new ones.
      if (dead.length > 0 && dead.length === lab.apps.length) await lab.waitForStatus(503);
      for (const index of dead) await lab.startApp(index);
    }
    await ready();
  }

  let starting: readonly Promise<void>[] = [];
  try {
    for (const lab of labs) {
      const file = configFile(lab, ports, envoyVersion);
      file.envoy.fast_path = fastPath;
      if (configDir) file.envoy.config_dir = join(directory, `${lab.name}-envoy`);
      configure?.(file, lab.name);
      if ('remote_pools' in file) {
        const isKnown = (site: string) => site === lab.name || file.remote_pools.some((pool) => pool.site === site);
        lab.knownSites = (['east', 'west'] as const).filter(isKnown);
      }
      const written = HAS_TWO ? withSecondApplication(file, lab.name) : file;
      lab.applications = namesIn(written);
      await writeFile(lab.configFile, stringify(written));
      await lab.render(patchBootstrap);
    }
    starting = labs.map(async (lab) => {
      await Promise.all([lab.startPool(), ...lab.sidecarAddresses.map((_, index) => lab.startSidecar(index))]);
      await lab.startEnvoy();
    });
    await Promise.all(starting);
    await ready();
  } catch (error) {
    // What one site starts while the other has failed would not be known to close(), and outlive the tests.
    await Promise.allSettled(starting);
    await close();
    throw error;
  }
  return { east, west, sites: labs, ready, restore, close };
}

/** Changes a bootstrap as an object, of which the caller knows the shape. */
export function patchYaml<Bootstrap>(change: (bootstrap: Bootstrap) => void): (text: string) => string {
  return (text) => {
    // Without references, or a change would be made in several places.
    const bootstrap = JSON.parse(JSON.stringify(parse(text))) as Bootstrap;
    change(bootstrap);
    return stringify(bootstrap, { aliasDuplicateObjects: false });
  };
}

/** The file's own application takes every host but one, which is for a second one with the same servers. */
function withSecondApplication(file: ConfigFile, site: 'east' | 'west'): object {
  const { local_pool, remote_pools, ...shared } = file;
  const other = site === 'east' ? 'west' : 'east';
  const mail = {
    name: 'mail',
    hosts: ['mail.example.com'],
    local_pool: { servers: local_pool.servers, cookie: `MAIL${site}` },
    remote_pools: remote_pools.map(({ site: of, servers }) => ({ site: of, servers, cookie: `MAIL${of ?? other}` })),
  };
  return { ...shared, applications: [{ name: 'shop', hosts: ['*'], local_pool, remote_pools }, mail] };
}

function namesIn({ applications }: { readonly applications?: unknown }): string[] {
  if (!Array.isArray(applications)) return [DEFAULT_APPLICATION];
  return applications.map((application: { readonly name: string }) => application.name);
}

async function sitePorts(): Promise<SitePorts> {
  const [edge = 0, admin = 0, sidecar = 0, ops = 0, ...apps] = await freePorts(6);
  return { edge, admin, sidecar, ops, apps };
}

function configFile(lab: SiteLab, ports: Record<'east' | 'west', SitePorts>, envoyVersion: EnvoyRelease): ConfigFile {
  const other = lab.name === 'east' ? 'west' : 'east';
  const own = ports[lab.name];
  const cookies = { east: EAST_COOKIE, west: WEST_COOKIE };
  return {
    site: lab.name,
    listen: lab.sidecarAddresses[0],
    ops_listen: `127.0.0.1:${own.ops}`,
    health: {},
    local_pool: {
      cluster: 'local_pool',
      cookie: { name: cookies[lab.name], path: '/' },
      servers: own.apps.map((port) => `127.0.0.1:${port}`),
      health_check: { path: '/healthz', interval: '1s' },
    },
    remote_pools: [
      {
        site: other,
        cluster: 'remote_pool',
        cookie: { name: cookies[other], path: '/' },
        servers: [`127.0.0.1:${ports[other].edge}`],
      },
    ],
    envoy: {
      admin: `http://127.0.0.1:${own.admin}`,
      listen: `127.0.0.1:${own.edge}`,
      sidecars: lab.sidecarAddresses,
      version: envoyVersion.split('.').slice(0, 2).join('.'),
    },
  };
}
