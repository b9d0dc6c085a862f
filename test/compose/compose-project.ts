import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { waitUntil } from '../../lab/wait-until.ts';
import { freePorts } from '../support/free-ports.ts';
import { type Compose, type Engine, ROOT } from './engine.ts';

const run = promisify(execFile);

export const SERVICES = ['east', 'west'].flatMap((site) =>
  ['pod', 'envoy', 'sidecar', 'app-1', 'app-2'].map((part) => `${site}-${part}`),
);

/** What `docker inspect` says, as far as it matters here. */
export interface Container {
  readonly Id: string;
  readonly State: { readonly ExitCode: number; readonly Health?: { readonly Status: string } };
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

/** docker-compose.yml as one Compose runs it, on free ports. */
export class ComposeProject {
  readonly east: string;
  readonly west: string;
  readonly #name = `site-persistence-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
  readonly #engine: Engine;
  readonly #compose: Compose;
  readonly #env: NodeJS.ProcessEnv;

  private constructor(engine: Engine, compose: Compose, ports: readonly number[]) {
    this.#engine = engine;
    this.#compose = compose;
    this.east = `http://127.0.0.1:${ports[0]}`;
    this.west = `http://127.0.0.1:${ports[1]}`;
    this.#env = { ...engine.env, EAST_PORT: String(ports[0]), WEST_PORT: String(ports[1]) };
  }

  static async create(engine: Engine, compose: Compose): Promise<ComposeProject> {
    return new ComposeProject(engine, compose, await freePorts(2));
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
    const { stdout } = await run(program, [...first, '-p', this.#name, ...args], { cwd: ROOT, env: this.#env });
    return stdout;
  }

  async inspect(service: string): Promise<Container> {
    // -a: also one that has ended.
    const id = (await this.#engine.docker('ps', '-aq', ...this.#labels(service))).trim();
    const [container] = JSON.parse(await this.#engine.docker('inspect', id)) as Container[];
    if (container === undefined) throw new Error(`there is no container of ${service}`);
    return container;
  }

  async containers(): Promise<string[]> {
    return (await this.#engine.docker('ps', '-aq', ...this.#labels())).split('\n').filter((id) => id !== '');
  }

  #labels(service?: string): string[] {
    const labels = [`com.docker.compose.project=${this.#name}`];
    if (service !== undefined) labels.push(`com.docker.compose.service=${service}`);
    return labels.flatMap((label) => ['--filter', `label=${label}`]);
  }
}
