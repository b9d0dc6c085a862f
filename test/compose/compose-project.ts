import { execFile } from 'node:child_process';
import { chmod, cp, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { waitUntil } from '../../lab/wait-until.ts';
import { freePorts } from '../support/free-ports.ts';
import { type Compose, type Engine, ROOT } from './engine.ts';

const run = promisify(execFile);

export const SERVICES = [
  ...['east', 'west'].flatMap((site) =>
    ['pod', 'envoy', 'sidecar', 'app-1', 'app-2', 'shop', 'mail'].map((part) => `${site}-${part}`),
  ),
  'east-app-3',
];

/** What `docker inspect` says, as far as it matters here. */
export interface Container {
  readonly Id: string;
  readonly State: {
    readonly Running: boolean;
    readonly ExitCode: number;
    readonly Health?: { readonly Status: string };
  };
  readonly Config: { readonly User: string };
  readonly HostConfig: {
    readonly NetworkMode: string;
    readonly Privileged: boolean;
    readonly ReadonlyRootfs: boolean;
    readonly CapAdd: readonly string[] | null;
    readonly CapDrop: readonly string[] | null;
    readonly SecurityOpt: readonly string[] | null;
    readonly PortBindings: Readonly<Record<string, readonly { HostIp: string; HostPort: string }[]>> | null;
  };
}

/** docker-compose.yml as one Compose runs it, on free ports; east has a config file of its own, for tests to edit. */
export class ComposeProject {
  readonly east: string;
  readonly west: string;
  readonly #name = `site-persistence-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
  readonly #engine: Engine;
  readonly #compose: Compose;
  readonly #env: NodeJS.ProcessEnv;
  readonly #directory: string;

  private constructor(engine: Engine, compose: Compose, ports: readonly number[], directory: string) {
    this.#engine = engine;
    this.#compose = compose;
    this.east = `http://127.0.0.1:${ports[0]}`;
    this.west = `http://127.0.0.1:${ports[1]}`;
    this.#directory = directory;
    this.#env = { ...engine.env, EAST_PORT: String(ports[0]), WEST_PORT: String(ports[1]) };
  }

  static async create(engine: Engine, compose: Compose): Promise<ComposeProject> {
    const directory = await mkdtemp(join(tmpdir(), 'site-persistence-compose-'));
    // The sidecar runs as another user.
    await chmod(directory, 0o755);
    await cp(`${ROOT}envoy/compose/east`, `${directory}/east`, { recursive: true });
    const volumes = [`${directory}/east:/etc/site-persistence:ro`];
    await writeFile(`${directory}/edited.yml`, stringify({ services: { 'east-sidecar': { volumes } } }));
    return new ComposeProject(engine, compose, await freePorts(2), directory);
  }

  /** Replaces east's config file on the host, as an editor does. */
  async editEast(change: (text: string) => string): Promise<void> {
    const file = `${this.#directory}/east/site.yaml`;
    await writeFile(`${file}.new`, change(await readFile(file, 'utf8')));
    await rename(`${file}.new`, file);
  }

  async close(): Promise<void> {
    await this.down();
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** Builds and starts everything; returns when Compose says that it serves. */
  async up(): Promise<void> {
    if (this.#compose.canWait) {
      await this.run('up', '--build', '--wait');
      return;
    }
    await this.run('up', '--build', '-d');
    for (const service of SERVICES) {
      await waitUntil(async () => (await this.inspect(service)).State.Health?.Status !== 'starting', { what: service });
    }
  }

  async down(): Promise<void> {
    await this.run('down', '--volumes');
  }

  /** @returns what it printed */
  async run(...args: readonly string[]): Promise<string> {
    const [program = '', ...first] = this.#compose.command;
    const files = ['-f', 'docker-compose.yml', '-f', `${this.#directory}/edited.yml`];
    const all = [...first, '-p', this.#name, ...files, ...args];
    return (await run(program, all, { cwd: ROOT, env: this.#env })).stdout;
  }

  /** Without those on which it depends, which Compose 2 starts as well. */
  async startAlone(service: string): Promise<void> {
    await this.#engine.docker('start', await this.#idOf(service));
  }

  async inspect(service: string): Promise<Container> {
    const [container] = JSON.parse(await this.#engine.docker('inspect', await this.#idOf(service))) as Container[];
    if (container === undefined) throw new Error(`there is no container of ${service}`);
    return container;
  }

  async containers(): Promise<string[]> {
    return (await this.#engine.docker('ps', '-aq', ...this.#labels())).split('\n').filter((id) => id !== '');
  }

  async #idOf(service: string): Promise<string> {
    // -a: also one that has ended.
    return (await this.#engine.docker('ps', '-aq', ...this.#labels(service))).trim();
  }

  #labels(service?: string): string[] {
    const labels = [`com.docker.compose.project=${this.#name}`];
    if (service !== undefined) labels.push(`com.docker.compose.service=${service}`);
    return labels.flatMap((label) => ['--filter', `label=${label}`]);
  }
}
