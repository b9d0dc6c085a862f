import { ManagedProcess } from '../lab/managed-process.ts';
import { waitUntil } from '../lab/wait-until.ts';
import { freePorts } from '../test/support/free-ports.ts';
import { startHaproxy } from './application.ts';
import type { Bench } from './bench.ts';
import { withLua, withoutDecision } from './bootstrap.ts';
import { type Edge, type EdgeOptions, readStats, startEdge } from './edge.ts';
import { CLI, PARTS } from './paths.ts';

/** One way to do the job, running. */
export interface Contestant {
  readonly name: string;
  readonly url: string;
  readonly proxy: ManagedProcess;
  /** What the proxy asks for its decisions; nothing where it decides by itself. */
  readonly sidecars: readonly ManagedProcess[];
  /** Of its Envoy; null where there is none. */
  readonly adminUrl: string | null;
  /** False for plain Envoy, which has only a local pool. */
  readonly decides: boolean;
  /** Whether its decisions change with the health of a pool. */
  readonly seesHealth: boolean;
}

export interface ContestantKind {
  readonly name: string;
  readonly label: string;
  readonly start: (bench: Bench) => Promise<Contestant>;
}

/** In the order of the tables. */
export const CONTESTANTS: readonly ContestantKind[] = [
  { name: 'plain', label: 'plain Envoy, no decision', start: startPlain },
  { name: 'lua', label: "Envoy's Lua filter", start: startLua },
  { name: 'go', label: 'ext_proc server in Go', start: startGo },
  { name: 'haproxy', label: 'HAProxy', start: startHaproxyEdge },
  {
    name: 'asked',
    label: 'site-persistence, asked each time',
    start: (bench) => startOurs(bench, { name: 'asked' }),
  },
  {
    name: 'tls',
    label: 'site-persistence, asked over TLS',
    start: (bench) => startOurs(bench, { name: 'tls', tls: true }),
  },
  {
    name: 'fast',
    label: 'site-persistence, fast path',
    start: (bench) => startOurs(bench, { name: 'fast', fastPath: true }),
  },
  {
    name: 'named',
    label: 'asked, for one application of several hosts',
    start: (bench) => startOurs(bench, { name: 'named', applications: 1 }),
  },
  {
    name: 'hundred',
    label: 'asked, beside 99 other applications',
    start: (bench) => startOurs(bench, { name: 'hundred', applications: 100 }),
  },
];

/** Another build of ours, to compare a change with what was before it. */
export function baselineKind(cli: string): ContestantKind {
  return { name: 'baseline', label: `baseline ${cli}`, start: (bench) => startOurs(bench, { name: 'baseline', cli }) };
}

async function startPlain(bench: Bench): Promise<Contestant> {
  return await startPlainEnvoy(bench, { name: 'plain' });
}

/** An Envoy that makes no decision. */
export async function startPlainEnvoy(
  bench: Bench,
  options: Pick<EdgeOptions, 'name' | 'workers'>,
): Promise<Contestant> {
  const edge = await startEdge(bench, { ...options, cli: CLI, patch: withoutDecision });
  return { ...fromEdge(options.name, edge, []), decides: false, seesHealth: false };
}

async function startLua(bench: Bench): Promise<Contestant> {
  const patch = (bootstrap: Parameters<typeof withLua>[0]) => withLua(bootstrap, `${PARTS}/decide.lua`);
  const edge = await startEdge(bench, { name: 'lua', cli: CLI, patch });
  return { ...fromEdge('lua', edge, []), seesHealth: false };
}

async function startGo(bench: Bench): Promise<Contestant> {
  const edge = await startEdge(bench, { name: 'go', cli: CLI });
  return fromEdge('go', edge, [await startGoSidecar(bench, edge)]);
}

/** The peer in Go beside an Envoy of ours. */
export async function startGoSidecar(bench: Bench, edge: Edge): Promise<ManagedProcess> {
  if (bench.tools.goExtProc === null) throw new Error('the Go peer was not built');
  const sidecar = new ManagedProcess({
    name: 'go ext_proc',
    command: bench.tools.goExtProc,
    args: ['-listen', edge.sidecars[0] ?? '', '-admin', edge.adminUrl],
  });
  await sidecar.waitForLine(/deciding on/);
  return sidecar;
}

export interface OursOptions extends Omit<EdgeOptions, 'cli'> {
  /** Another build than this one. */
  readonly cli?: string;
  readonly nodeArgs?: readonly string[];
}

/** An Envoy with its sidecars, as the commands of site-persistence set them up. */
export async function startOurs(bench: Bench, { nodeArgs = [], ...options }: OursOptions): Promise<Contestant> {
  const { cli = CLI } = options;
  const edge = await startEdge(bench, { ...options, cli });
  return fromEdge(options.name, edge, await startSidecars(bench, edge, { cli, nodeArgs }));
}

/** A sidecar of ours on each of the edge's addresses. */
export async function startSidecars(
  bench: Bench,
  edge: Edge,
  { cli = CLI, nodeArgs = [] }: Pick<OursOptions, 'cli' | 'nodeArgs'> = {},
): Promise<ManagedProcess[]> {
  const sidecars = await Promise.all(
    edge.sidecars.map(async (address, index) => {
      const [opsPort = 0] = await freePorts(1);
      const ops = index === 0 ? [] : ['--ops-listen', `127.0.0.1:${opsPort}`];
      const sidecar = new ManagedProcess({
        name: `sidecar ${index + 1}`,
        command: bench.tools.node,
        args: [...bench.nodeArgs, ...nodeArgs, cli, 'serve', '--config', edge.configFile, '--listen', address, ...ops],
      });
      await sidecar.waitForLine(/deciding on/);
      return sidecar;
    }),
  );
  await waitUntilAsked(edge);
  return sidecars;
}

/** Until Envoy's health check has seen all its sidecars it decides without them. */
async function waitUntilAsked({ url, adminUrl, sidecars }: Edge): Promise<void> {
  const healthy = 'cluster.site_persistence.membership_healthy';
  await waitUntil(async () => (await readStats(adminUrl, [healthy]))(healthy) === sidecars.length, {
    what: `the Envoy at ${url} to see its sidecars healthy`,
  });
}

function fromEdge(name: string, edge: Edge, sidecars: readonly ManagedProcess[]): Contestant {
  const { url, adminUrl, envoy } = edge;
  return { name, url, proxy: envoy, sidecars, adminUrl, decides: true, seesHealth: true };
}

async function startHaproxyEdge(bench: Bench): Promise<Contestant> {
  const [port = 0] = await freePorts(1);
  const { local, remote } = bench.application;
  const proxy = await startHaproxy(bench.tools.haproxy, 'haproxy', 'haproxy.cfg', port, {
    WORKERS: String(bench.workers),
    APP_1: local[0] ?? '',
    APP_2: local[1] ?? '',
    WEST: remote,
  });
  return {
    name: 'haproxy',
    url: `http://127.0.0.1:${port}/`,
    proxy,
    sidecars: [],
    adminUrl: null,
    decides: true,
    seesHealth: true,
  };
}
