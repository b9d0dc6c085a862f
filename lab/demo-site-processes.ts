import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { DemoConfig } from './demo-config.ts';
import { say, showLog, showRequest } from './demo-output.ts';
import { APPLICATIONS, type Application, type DemoServer, type DemoSite, freePort } from './demo-sites.ts';
import type { ManagedProcess } from './managed-process.ts';
import { CLI, startAppServer, startEnvoyProcess, startSidecarProcess } from './site-processes.ts';
import { waitUntil } from './wait-until.ts';

const run = promisify(execFile);

export const PARTS = [...APPLICATIONS, 'sidecar', 'envoy'] as const;
export type Part = (typeof PARTS)[number];

const stateSchema = z.object({
  applications: z.array(z.object({ verdict_level: z.string() })),
  pools: z.array(z.object({ hosts: z.array(z.object({ address: z.string(), up: z.boolean() })) })),
});
type State = z.infer<typeof stateSchema>;

export interface DemoContext {
  readonly binary: string;
  readonly version: string;
  readonly work: string;
  readonly stop: AbortSignal;
}

/** The processes of one site of the demo. */
export class DemoSiteProcesses {
  readonly #site: DemoSite;
  readonly #config: DemoConfig;
  readonly #bootstrapFile: string;
  readonly #context: DemoContext;
  readonly #parts = new Map<Part, readonly ManagedProcess[]>();
  readonly #added: DemoServer[] = [];
  /** One edit of the config file after the other. */
  #editing: Promise<void> = Promise.resolve();

  private constructor(site: DemoSite, config: DemoConfig, bootstrapFile: string, context: DemoContext) {
    this.#site = site;
    this.#config = config;
    this.#bootstrapFile = bootstrapFile;
    this.#context = context;
  }

  static async create(site: DemoSite, context: DemoContext): Promise<DemoSiteProcesses> {
    const config = await DemoConfig.create(site.name, context.version, context.work);
    const bootstrapFile = join(context.work, `${site.name}-envoy.yaml`);
    // Once: what comes later is in the files to which it leads.
    const { stdout } = await run(process.execPath, [CLI, 'envoy', '--config', config.file]);
    await writeFile(bootstrapFile, stdout);
    return new DemoSiteProcesses(site, config, bootstrapFile, context);
  }

  get name(): string {
    return this.#site.name;
  }

  hasEnded(part: Part): boolean {
    return this.#of(part).every((child) => child.hasEnded);
  }

  kill(parts: readonly Part[]): void {
    for (const child of parts.flatMap((part) => this.#of(part))) child.signal('SIGKILL');
  }

  async start(part: Part): Promise<void> {
    const children = await this.#startPart(part);
    this.#parts.set(part, children);
    this.#sayWhenEnded(children);
  }

  /** Waits until all applications are well, as the sidecar sees them. */
  async untilWell(): Promise<void> {
    await this.#untilState(
      ({ applications }) => applications.every(({ verdict_level }) => verdict_level === 'ok'),
      `the applications of ${this.name} to be well`,
    );
  }

  async addServer(application: Application): Promise<void> {
    await this.#edit(application, async () => {
      const count = this.#serversOf(application).length;
      const server = `${application === 'default' ? 'app' : application}-${count + 1}`;
      const added: DemoServer = { application, server, port: await freePort() };
      const child = await startAppServer({ site: this.name, ...added });
      this.#added.push(added);
      this.#parts.set(application, [...this.#of(application), child]);
      this.#sayWhenEnded([child]);
      const address = addressOf(added);
      await this.#config.addServer(application, address);
      await this.#reload(`${server} runs on ${address}, and is in the servers of ${this.#config.file}`);
      await this.#untilState(
        ({ pools }) => pools.some(({ hosts }) => hosts.some((host) => host.address === address && host.up)),
        `${server} of ${this.name} to be up`,
      );
      say(`${this.name}: ${server} takes requests`);
    });
  }

  /** The last one that was added: the sites' own stay. */
  async removeServer(application: Application): Promise<void> {
    await this.#edit(application, async () => {
      const removed = this.#added.findLast((added) => added.application === application);
      if (removed === undefined) {
        say(`${this.name}'s ${application} has no server that was added`);
        return;
      }
      const { server } = removed;
      const address = addressOf(removed);
      await this.#config.removeServer(application, address);
      await this.#reload(`${server} is no longer in the servers of ${this.#config.file}`);
      await this.#untilState(
        ({ pools }) => !pools.some(({ hosts }) => hosts.some((host) => host.address === address)),
        `${server} of ${this.name} to be gone`,
      );
      const child = this.#of(application).at(-1);
      this.#added.splice(this.#added.indexOf(removed), 1);
      this.#parts.set(application, this.#of(application).slice(0, -1));
      await child?.stop();
      say(`${this.name}: ${server} is out: its sessions get another server with their next request`);
    });
  }

  async #edit(application: Application, change: () => Promise<void>): Promise<void> {
    const edit = async () => {
      const missing = ([application, 'sidecar', 'envoy'] as const).find((part) => this.hasEnded(part));
      if (missing === undefined) await change();
      else say(`${this.name}'s ${missing} is stopped: type start ${this.name} ${missing} first`);
    };
    const done = this.#editing.then(edit);
    this.#editing = done.catch(() => {});
    await done;
  }

  async #reload(why: string): Promise<void> {
    say(`${this.name}: ${why}: the sidecar reloads`);
    for (const sidecar of this.#of('sidecar')) {
      const end = sidecar.nextLine(/config reloaded|rejected|could not be reloaded/);
      sidecar.signal('SIGHUP');
      if (!/config reloaded/.test(await end)) throw new Error(`${this.name}: the edit is not in force`);
    }
  }

  #serversOf(application: Application): DemoServer[] {
    return [...this.#site.servers, ...this.#added].filter((server) => server.application === application);
  }

  #of(part: Part): readonly ManagedProcess[] {
    return this.#parts.get(part) ?? [];
  }

  #sayWhenEnded(children: readonly ManagedProcess[]): void {
    for (const child of children) {
      void child.ended.then(({ code, signal }) => {
        if (!this.#context.stop.aborted) say(`${child.name}: ended (${signal ?? `exit code ${code}`})`);
      });
    }
  }

  async #startPart(part: Part): Promise<ManagedProcess[]> {
    const site = this.name;
    const configFile = this.#config.file;
    switch (part) {
      case 'default':
      case 'shop':
      case 'mail':
        return await Promise.all(this.#serversOf(part).map((server) => startAppServer({ site, ...server })));
      case 'sidecar':
        return [await startSidecarProcess({ site, configFile, onLine: (line) => showLog(site, line) })];
      case 'envoy':
        return [
          await startEnvoyProcess({
            site,
            binary: this.#context.binary,
            bootstrapFile: this.#bootstrapFile,
            adminUrl: `http://127.0.0.1:${this.#site.adminPort}`,
            onLine: (line) => showRequest(site, line),
          }),
        ];
    }
  }

  async #untilState(condition: (state: State) => boolean, what: string): Promise<void> {
    await waitUntil(
      async () => {
        if (this.#context.stop.aborted) return true;
        const answer = await fetch(`http://127.0.0.1:${this.#site.opsPort}/api/state`).catch(() => null);
        const state = stateSchema.safeParse(await answer?.json());
        return state.success && condition(state.data);
      },
      { what },
    );
  }
}

function addressOf({ port }: DemoServer): string {
  return `127.0.0.1:${port}`;
}
