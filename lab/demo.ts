import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { envoyMinorVersion, findEnvoy } from './envoy-binary.ts';
import { type ManagedProcess, stopAllProcesses } from './managed-process.ts';
import { CLI, startAppServer, startEnvoyProcess, startSidecarProcess } from './site-processes.ts';

const run = promisify(execFile);
const ROOT = CLI.replace(/\/dist\/main\.js$/, '');
const NEWEST_RENDERED = '1.40';

interface DemoSite {
  readonly name: string;
  readonly cookie: string;
  readonly edgePort: number;
  readonly adminPort: number;
  readonly sidecarPort: number;
  readonly opsPort: number;
  readonly appPorts: readonly number[];
}

/** The same ports as in envoy/*.yaml, here so that one in use is said by name. */
const SITES: readonly DemoSite[] = [
  {
    name: 'east',
    cookie: 'KVAAVROI',
    edgePort: 8081,
    adminPort: 9901,
    sidecarPort: 9002,
    opsPort: 9003,
    appPorts: [3001, 3002],
  },
  {
    name: 'west',
    cookie: 'DDVHSLLQ',
    edgePort: 8082,
    adminPort: 9911,
    sidecarPort: 9012,
    opsPort: 9013,
    appPorts: [3011, 3012],
  },
];

const GUIDE = `
Two sites are running: east on http://localhost:8081, west on http://localhost:8082.

Try, in another terminal (or open both addresses in a browser):
  curl -i http://localhost:8081/              a new client: served locally, with a cookie for its server
  curl -s -c jar http://localhost:8081/       a session of east, kept in the file "jar" …
  curl -s -b jar http://localhost:8082/       … asked for at west: its own server in east answers
  curl -i http://localhost:8081/local_pool_status
                                              what a global load balancer asks
  curl -i -b KVAAVROI=x -b DDVHSLLQ=x http://localhost:8081/
                                              both sites' cookies: one of them is expired

Type here, then Enter, and ask again:
  stop east, start east                       a site's application servers
  stop east sidecar, start east sidecar       its sidecar; likewise: envoy
  quit, or Ctrl-C                             ends everything
`;

type Part = 'pool' | 'sidecar' | 'envoy';

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());

  await refuseBusyPorts();
  const binary = await findEnvoy(say);
  const version = await envoyMinorVersion(binary);
  const work = await mkdtemp(join(tmpdir(), 'site-persistence-demo-'));
  const parts = new Map<string, ManagedProcess[]>();

  const start = async (site: DemoSite, part: Part): Promise<void> => {
    parts.set(`${site.name} ${part}`, await startPart(site, part, { binary, version, work }));
    if (stop.signal.aborted) return;
    for (const child of parts.get(`${site.name} ${part}`) ?? []) {
      void child.ended.then(({ code, signal }) => {
        if (!stop.signal.aborted) say(`${child.name}: ended (${signal ?? `exit code ${code}`})`);
      });
    }
  };
  try {
    say(`starting two sites with Envoy ${version} (${binary})`);
    for (const site of SITES) await start(site, 'pool');
    await Promise.all(SITES.flatMap((site) => [start(site, 'envoy'), start(site, 'sidecar')]));
    if (!stop.signal.aborted) process.stdout.write(`${GUIDE}\n`);
    readCommands(parts, start, stop);
    if (!stop.signal.aborted) await new Promise((resolve) => stop.signal.addEventListener('abort', resolve));
    return 0;
  } finally {
    stop.abort();
    say('ending everything');
    await stopAllProcesses();
    await rm(work, { recursive: true, force: true });
    say('nothing is left running');
  }
}

interface DemoContext {
  readonly binary: string;
  readonly version: string;
  readonly work: string;
}

async function startPart(site: DemoSite, part: Part, context: DemoContext): Promise<ManagedProcess[]> {
  const configFile = await siteConfig(site, context);
  switch (part) {
    case 'pool':
      return await Promise.all(
        site.appPorts.map((port, index) => startAppServer({ site: site.name, server: `app-${index + 1}`, port })),
      );
    case 'sidecar':
      return [await startSidecarProcess({ site: site.name, configFile, onLine: (line) => showLog(site.name, line) })];
    case 'envoy': {
      const bootstrapFile = join(context.work, `${site.name}-envoy.yaml`);
      const { stdout } = await run(process.execPath, [CLI, 'envoy', '--config', configFile]);
      await writeFile(bootstrapFile, stdout);
      return [
        await startEnvoyProcess({
          site: site.name,
          binary: context.binary,
          bootstrapFile,
          adminUrl: `http://127.0.0.1:${site.adminPort}`,
          onLine: (line) => showRequest(site.name, line),
        }),
      ];
    }
  }
}

/** The demo's config file, rendered for the Envoy that is there if that is an older one. */
async function siteConfig(site: DemoSite, { version, work }: DemoContext): Promise<string> {
  const original = join(ROOT, 'envoy', `${site.name}.yaml`);
  if (Number(version.split('.')[1]) >= Number(NEWEST_RENDERED.split('.')[1])) return original;
  const file = join(work, `${site.name}.yaml`);
  const text = await readFile(original, 'utf8');
  await writeFile(file, text.replace(`version: "${NEWEST_RENDERED}"`, `version: "${version}"`));
  return file;
}

function readCommands(
  parts: ReadonlyMap<string, readonly ManagedProcess[]>,
  start: (site: DemoSite, part: Part) => Promise<void>,
  stop: AbortController,
): void {
  const input = createInterface({ input: process.stdin });
  stop.signal.addEventListener('abort', () => input.close());
  input.on('line', (line) => {
    const [verb = '', siteName = '', partName = 'pool'] = line.trim().split(/\s+/);
    if (verb === '') return;
    if (verb === 'quit') {
      stop.abort();
      return;
    }
    const site = SITES.find(({ name }) => name === siteName);
    const part = (['pool', 'sidecar', 'envoy'] as const).find((name) => name === partName);
    if ((verb !== 'stop' && verb !== 'start') || site === undefined || part === undefined) {
      say(`not understood: ${line.trim()}. Write stop or start, east or west, and nothing, sidecar or envoy`);
      return;
    }
    const processes = parts.get(`${site.name} ${part}`) ?? [];
    if (verb === 'stop') for (const child of processes) child.signal('SIGKILL');
    else if (processes.every((child) => child.hasEnded)) {
      start(site, part).catch((error: unknown) => {
        if (!stop.signal.aborted) say(messageOf(error));
      });
    } else say(`${site.name}'s ${part} is running`);
  });
}

/** The sidecar's log lines: each change of a pool as it happens. */
function showLog(site: string, line: string): void {
  const entry = parseJson(line);
  if (entry !== undefined && typeof entry.msg === 'string') say(`${site}: ${entry.msg}`);
}

/** Envoy's access log: each request with its decision. */
function showRequest(site: string, line: string): void {
  const entry = parseJson(line);
  if (entry?.path === undefined) return;
  const decision = entry.decision === null ? 'no decision' : `${entry.decision}, owner ${entry.owner}`;
  say(
    `${site}: ${entry.method} ${entry.path} → ${entry.status} (${decision}; ${entry.upstream_host ?? 'answered here'})`,
  );
}

function parseJson(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

async function refuseBusyPorts(): Promise<void> {
  for (const site of SITES) {
    const ports: readonly (readonly [number, string])[] = [
      [site.edgePort, 'Envoy'],
      [site.adminPort, "Envoy's admin interface"],
      [site.sidecarPort, 'the sidecar'],
      [site.opsPort, "the sidecar's ops listener"],
      ...site.appPorts.map((port, index) => [port, `app-${index + 1}`] as const),
    ];
    for (const [port, what] of ports) {
      if (await isBusy(port)) {
        throw new Error(
          `port ${port} is in use; the demo needs it for ${what} of ${site.name}: stop what listens there`,
        );
      }
    }
  }
}

async function isBusy(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(true));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(false)));
  });
}

function say(line: string): void {
  process.stdout.write(`${new Date().toTimeString().slice(0, 8)} ${line}\n`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

main()
  .catch((error: unknown) => {
    process.stderr.write(`demo: ${messageOf(error)}\n`);
    return 1;
  })
  .then((code) => process.exit(code));
