import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { z } from 'zod';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';
import { startEnvoyProcess, startSidecarProcess } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { runCli } from '../../src/cli/run.ts';
import type { Finding } from '../../src/doctor/finding.ts';
import { SIDECAR_CLUSTER } from '../../src/envoy-config/names.ts';
import { type Changes, DoctorFile, type Examined, type Ports } from './doctor-file.ts';
import { freePorts } from './free-ports.ts';

const reportShape = z.object({
  site: z.string(),
  envoy: z.object({ version: z.string().nullable() }),
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

const clustersShape = z.object({
  cluster_statuses: z.array(
    z.object({
      name: z.string(),
      host_statuses: z
        .array(z.object({ health_status: z.object({ failed_active_health_check: z.boolean().optional() }) }))
        .optional(),
    }),
  ),
});

/** What else a real Envoy can be put through. */
export interface LiveChanges extends Changes {
  /** While Envoy runs, before it is examined. */
  readonly meanwhile?: (edgeUrl: string) => Promise<void>;
  /** What is changed keeps Envoy from its sidecars. */
  readonly withoutSidecars?: boolean;
}

/** Servers of both sites and two sidecars, that stay, for Envoys that come and go with one config after another. */
export class DoctorSite {
  readonly directory: string;
  readonly file: DoctorFile;
  readonly #binary: string;
  readonly #parts: { close(): void | Promise<void> }[];

  private constructor(options: {
    directory: string;
    file: DoctorFile;
    binary: string;
    parts: { close(): void | Promise<void> }[];
  }) {
    this.directory = options.directory;
    this.file = options.file;
    this.#binary = options.binary;
    this.#parts = options.parts;
  }

  static async start(release: string): Promise<DoctorSite> {
    const binary = await fetchEnvoy(release);
    const directory = await mkdtemp(join(tmpdir(), 'site-persistence-doctor-'));
    const [edge = 0, second = 0, admin = 0, nobody = 0, ...others] = await freePorts(10);
    const [app1 = 0, app2 = 0, west = 0, sidecar1 = 0, sidecar2 = 0, ops = 0] = others;
    const ports = { edge, second, admin, nobody, app1, app2, west, sidecar1, sidecar2, ops };
    const file = new DoctorFile(release, ports);
    const servers = await Promise.all([app1, app2, west].map(serve));
    // Which keys the runtime has is the tests' business.
    const configFile = join(directory, 'sidecars.yaml');
    await writeFile(configFile, file.text({ envoy: { fast_path: false } }));
    // As processes: doctor works in this one, and holds up what would answer Envoy's health checks in it.
    const another = ['--listen', `127.0.0.1:${sidecar2}`, '--ops-listen', `unix:${join(directory, 'ops.sock')}`];
    const sidecars = await Promise.all(
      [[], another].map((args) => startSidecarProcess({ site: 'east', configFile, args })),
    );
    const parts = [
      ...sidecars.map((sidecar) => ({ close: () => sidecar.stop('SIGKILL') })),
      ...servers.map((server) => ({
        close() {
          server.close();
          server.closeAllConnections();
        },
      })),
    ];
    return new DoctorSite({ directory, file, binary, parts });
  }

  get ports(): Ports {
    return this.file.ports;
  }

  /** Runs an Envoy with these changes, and what doctor says of it to a machine. */
  async examine(changes: LiveChanges = {}): Promise<Examined> {
    return await this.#withEnvoy(changes, doctor);
  }

  /** The same, for people. */
  async print(changes: LiveChanges): Promise<string> {
    return await this.#withEnvoy(changes, async (file) => (await runDoctor(['doctor', '-c', file])).stdout);
  }

  async #withEnvoy<T>(changes: LiveChanges, action: (configFile: string) => Promise<T>): Promise<T> {
    const { meanwhile, withoutSidecars = false } = changes;
    const adminUrl = `http://127.0.0.1:${this.ports.admin}`;
    const bootstrapFile = join(this.directory, 'envoy.json');
    await writeFile(bootstrapFile, JSON.stringify(this.file.bootstrap(changes)));
    const envoy = await startEnvoyProcess({
      site: 'east',
      binary: this.#binary,
      bootstrapFile,
      adminUrl,
      concurrency: 1,
    });
    try {
      if (!withoutSidecars) await sidecarsAnswer(adminUrl);
      await meanwhile?.(`http://127.0.0.1:${this.ports.edge}`);
      const configFile = join(this.directory, 'site.yaml');
      await writeFile(configFile, this.file.examinedText(changes));
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

/** On a busy machine their first health check may be too late for its time-out, and they are down until the next one. */
async function sidecarsAnswer(adminUrl: string): Promise<void> {
  await waitUntil(
    async () => {
      const { cluster_statuses: clusters } = clustersShape.parse(
        await (await fetch(`${adminUrl}/clusters?format=json`)).json(),
      );
      const hosts = clusters.find(({ name }) => name === SIDECAR_CLUSTER)?.host_statuses ?? [];
      return hosts.every((host) => host.health_status.failed_active_health_check !== true);
    },
    { what: 'the sidecars to pass their health checks' },
  );
}

/** Runs `doctor --json`. @throws where it did not say JSON of its shape */
export async function doctor(configFile: string): Promise<Examined> {
  const { code, stdout, stderr } = await runDoctor(['doctor', '--config', configFile, '--json']);
  if (stdout === '') throw new Error(stderr);
  return { code, findings: findingsIn(stdout) };
}

/** Of what `doctor --json` printed. */
export function findingsIn(printed: string): readonly Finding[] {
  return reportShape.parse(JSON.parse(printed)).findings;
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
