import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { pino } from 'pino';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';
import { startEnvoyProcess } from '../../lab/site-processes.ts';
import { runCli } from '../../src/cli/run.ts';
import { parseConfig } from '../../src/config/load.ts';
import { renderBootstrap } from '../../src/envoy-config/bootstrap.ts';
import { type Sidecar, startSidecar } from '../../src/runtime/sidecar.ts';
import { freePorts } from './free-ports.ts';
import { paste, type Tree } from './json-tree.ts';

const reportShape = z.object({
  site: z.string(),
  envoy: z.object({ admin: z.string(), version: z.string().nullable() }),
  counts: z.record(z.string(), z.number()),
  findings: z.array(
    z.object({
      group: z.string(),
      check: z.string(),
      mark: z.enum(['ok', 'warn', 'wrong', 'unchecked']),
      text: z.string(),
      fix: z.object({ where: z.string(), lines: z.string() }).nullable(),
    }),
  ),
});

export type DoctorFinding = z.infer<typeof reportShape>['findings'][number];

export interface Examined {
  readonly code: number;
  readonly findings: readonly DoctorFinding[];
}

export interface Ports {
  readonly edge: number;
  readonly second: number;
  readonly admin: number;
  readonly nobody: number;
}

/** What is changed before Envoy starts: its bootstrap, and what the config file says. */
export interface Changes {
  readonly bootstrap?: (bootstrap: Tree, ports: Ports) => void;
  /** Pasted over the config file that doctor reads, and that the bootstrap is not rendered from. */
  readonly config?: Tree;
  /** Pasted over the config file from which the bootstrap is rendered. */
  readonly rendered?: Tree;
  /** While Envoy runs, before it is examined. */
  readonly meanwhile?: (edgeUrl: string) => Promise<void>;
}

/** Servers of both sites and two sidecars, that stay, for Envoys that come and go with one config after another. */
export class DoctorSite {
  readonly directory: string;
  readonly ports: Ports;
  readonly #file: Tree;
  readonly #binary: string;
  readonly #parts: { close(): void | Promise<void> }[];

  private constructor(options: {
    directory: string;
    ports: Ports;
    file: Tree;
    binary: string;
    parts: { close(): void | Promise<void> }[];
  }) {
    this.directory = options.directory;
    this.ports = options.ports;
    this.#file = options.file;
    this.#binary = options.binary;
    this.#parts = options.parts;
  }

  static async start(release: string): Promise<DoctorSite> {
    const binary = await fetchEnvoy(release);
    const directory = await mkdtemp(join(tmpdir(), 'site-persistence-doctor-'));
    const [edge = 0, second = 0, admin = 0, nobody = 0, ...others] = await freePorts(10);
    const [app1 = 0, app2 = 0, west = 0, one = 0, two = 0, ops = 0] = others;
    const file: Tree = {
      site: 'east',
      listen: `127.0.0.1:${one}`,
      ops_listen: `127.0.0.1:${ops}`,
      local_pool: {
        cluster: 'local_pool',
        // Before 1.39 a ttl is warned of.
        cookie: { name: 'KVAAVROI', path: '/', same_site: 'Lax', ...(release.startsWith('1.40') ? { ttl: '1h' } : {}) },
        servers: [`127.0.0.1:${app1}`, `127.0.0.1:${app2}`],
        health_check: { path: '/healthz', interval: '1s' },
      },
      remote_pools: [
        {
          site: 'west',
          cluster: 'remote_pool',
          cookie: { name: 'DDVHSLLQ', path: '/' },
          servers: [`127.0.0.1:${west}`],
        },
      ],
      envoy: {
        admin: `http://127.0.0.1:${admin}`,
        listen: `127.0.0.1:${edge}`,
        sidecars: [`127.0.0.1:${one}`, `127.0.0.1:${two}`],
        version: release.split('.').slice(0, 2).join('.'),
      },
    };
    const config = parseConfig(stringify(file), 'site.yaml', 'rendering');
    const servers = await Promise.all([app1, app2, west].map(serve));
    const sidecars: Sidecar[] = [];
    const logger = pino({ level: 'silent' });
    sidecars.push(await startSidecar(config, logger));
    const another = { ...config, listen: { kind: 'tcp', host: '127.0.0.1', port: two } as const };
    const opsListen = { kind: 'unix', path: join(directory, 'ops.sock') } as const;
    sidecars.push(await startSidecar({ ...another, opsListen }, logger));
    const parts = [
      ...sidecars,
      ...servers.map((server) => ({
        close() {
          server.close();
          server.closeAllConnections();
        },
      })),
    ];
    return new DoctorSite({ directory, ports: { edge, second, admin, nobody }, file, binary, parts });
  }

  /** The bootstrap that is right, as the commands would print it. */
  render(changes: Tree = {}): Tree {
    const text = this.configText(changes);
    return parse(
      stringify(renderBootstrap(parseConfig(text, 'site.yaml', 'rendering')), { aliasDuplicateObjects: false }),
    );
  }

  configText(changes: Tree = {}): string {
    const file = structuredClone(this.#file);
    paste(file, changes);
    return stringify(file);
  }

  /** Runs an Envoy with these changes, and what doctor says of it to a machine. */
  async examine(changes: Changes = {}): Promise<Examined> {
    return await this.#withEnvoy(changes, doctor);
  }

  /** The same, for people. */
  async print(changes: Changes): Promise<string> {
    return await this.#withEnvoy(changes, async (file) => (await runDoctor(['doctor', '-c', file])).stdout);
  }

  async #withEnvoy<T>(
    { bootstrap: change, config, rendered = {}, meanwhile }: Changes,
    action: (configFile: string) => Promise<T>,
  ): Promise<T> {
    const bootstrap = this.render(rendered);
    change?.(bootstrap, this.ports);
    const adminUrl = `http://127.0.0.1:${this.ports.admin}`;
    const bootstrapFile = join(this.directory, 'envoy.json');
    await writeFile(bootstrapFile, JSON.stringify(bootstrap));
    const envoy = await startEnvoyProcess({
      site: 'east',
      binary: this.#binary,
      bootstrapFile,
      adminUrl,
      concurrency: 1,
    });
    try {
      await meanwhile?.(`http://127.0.0.1:${this.ports.edge}`);
      const configFile = join(this.directory, 'site.yaml');
      await writeFile(configFile, this.configText(config ?? rendered));
      return await action(configFile);
    } finally {
      await envoy.stop('SIGKILL');
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#parts.map((part) => part.close()));
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Runs `doctor --json`. @throws where it did not say JSON of its shape */
export async function doctor(configFile: string): Promise<Examined> {
  const { code, stdout, stderr } = await runDoctor(['doctor', '--config', configFile, '--json']);
  if (stdout === '') throw new Error(stderr);
  return { code, findings: reportShape.parse(JSON.parse(stdout)).findings };
}

/** Runs the command within this process. */
export async function runDoctor(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const [hangups, { signal }] = [new EventTarget(), new AbortController()];
  const code = await runCli(args, { stdout, stderr, env: {}, signal, hangups });
  return { code, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}

/** A server of either site: it says 200 to everything. */
async function serve(port: number): Promise<Server> {
  const server = createServer((_, response) => response.end('ok'));
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return server;
}
