import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatTable } from '../bench/table.ts';
import type { ManagedProcess } from '../lab/managed-process.ts';
import { startAppServer } from '../lab/site-processes.ts';
import { waitUntil } from '../lab/wait-until.ts';
import { freePorts } from '../test/support/free-ports.ts';
import { HopCertificates } from '../test/support/hop-certificates.ts';
import { Load } from '../test/support/load.ts';
import { reload, writeConfig } from '../test/support/reload.ts';
import { type ConfigFile, type SiteLab, startTwoSites, type TwoSites } from '../test/support/two-sites.ts';
import { createRandom } from './schedule.ts';
import type { SoakOptions } from './soak.ts';

const CLIENTS = 16;
/** As in the other soak: a steady load, and time for the rest on two cores. */
const PAUSE_MS = 30;
/** Between two edits. */
const REST_MS = 500;
/** Servers of a site that stand ready to be listed. */
const SPARE_SERVERS = 2;

/** What becomes of an edit. */
type Outcome = 'taken' | 'not taken' | 'refused by Envoy' | 'refused by the sidecar';

interface EditKind {
  readonly what: string;
  readonly outcome?: Outcome;
  /** The stickiness cookie of one is nothing to the other: sessions get another server of their site. */
  readonly movesServers?: true;
  /** @param pick one of these, by the seed */
  readonly edit: (site: EditedSite, pick: <T>(choices: readonly T[]) => T) => Promise<void>;
}

export interface EditsReport {
  readonly minutes: number;
  readonly seed: number;
  readonly requests: number;
  readonly edits: readonly {
    readonly what: string;
    readonly times: number;
    readonly lost: number;
    readonly moved: number;
  }[];
  /** Empty where all is well. */
  readonly problems: readonly string[];
}

/** A site with servers beside those that its file lists. */
class EditedSite {
  readonly lab: SiteLab;
  /** `127.0.0.1:port` of each spare server, by `site/server`. */
  readonly spare: ReadonlyMap<string, string>;
  /** `site/server` of those that were taken out of the file; their sessions may move. */
  readonly removed = new Set<string>();
  readonly overlayFile: string;

  constructor(lab: SiteLab, spare: ReadonlyMap<string, string>) {
    this.lab = lab;
    this.spare = spare;
    this.overlayFile = lab.configFile.replace('.yaml', '-overlay.yaml');
  }

  async change(change: (file: ConfigFile) => void): Promise<void> {
    await writeConfig(this.lab, change);
    await reload(this.lab);
  }

  async overlay(text: string): Promise<void> {
    await writeFile(this.overlayFile, text);
    await this.change(({ envoy }) => (envoy.overlay = this.overlayFile));
  }
}

type Server = string | { address: string; drain: boolean };
const addressOf = (server: Server) => (typeof server === 'string' ? server : server.address);
const serversIn = ({ local_pool }: ConfigFile) => local_pool.servers as Server[];

const set = (what: string, change: (file: ConfigFile, value: string) => void, values: readonly string[]): EditKind => ({
  what,
  edit: async (site, pick) => {
    const value = pick(values);
    await site.change((file) => change(file, value));
  },
});

const toggle = (key: string): EditKind => ({
  what: `envoy.${key}`,
  edit: async (site) => {
    await site.change(({ envoy }) => (envoy[key] = envoy[key] !== true));
  },
});

const HCM = 'envoy.filters.network.http_connection_manager';
const managerOverlay = (settings: string) =>
  `static_resources: { listeners: [{ name: edge, filter_chains: [{ filters: [{ name: ${HCM}, typed_config: { ${settings} } }] }] }] }\n`;
const application = (name: string) => ({
  ...{ name, hosts: [`${name}.example.com`] },
  local_pool: { cookie: `${name.toUpperCase()}HERE`, servers: ['127.0.0.1:1'] },
  remote_pools: [{ site: 'elsewhere', cookie: `${name.toUpperCase()}THERE`, servers: ['127.0.0.1:1'] }],
});

interface WithApplications {
  applications?: ConfigFile[];
}

/** The keys of the application that the load is for. */
const own = (file: ConfigFile & WithApplications): ConfigFile => file.applications?.[0] ?? file;
const [remote] = [(file: ConfigFile) => own(file).remote_pools[0] ?? {}];

const KINDS: readonly EditKind[] = [
  {
    what: 'a server more, or one less',
    edit: async (site, pick) => {
      const [name = '', address = ''] = pick([...site.spare]);
      await site.change((file) => {
        const servers = serversIn(own(file));
        const at = servers.findIndex((server) => addressOf(server) === address);
        if (at < 0) {
          site.removed.delete(name);
          servers.push(address);
        } else {
          site.removed.add(name);
          servers.splice(at, 1);
          // A pool of which all servers drain is refused.
          const [first] = servers;
          if (first !== undefined && !servers.some((server) => typeof server === 'string'))
            servers[0] = addressOf(first);
        }
      });
    },
  },
  {
    what: 'a server drains, or does no longer',
    edit: async (site, pick) => {
      await site.change((file) => {
        const servers = serversIn(own(file));
        const at = servers.indexOf(pick(servers));
        const others = servers.filter((server, index) => index !== at && typeof server === 'string');
        const server = servers[at] ?? '';
        if (typeof server !== 'string') servers[at] = server.address;
        else if (others.length > 0) servers[at] = { address: server, drain: true };
      });
    },
  },
  set(
    "the cookie's attributes",
    (file, value) => Object.assign(own(file).local_pool.cookie as object, { same_site: value }),
    [...['Lax', 'Strict']],
  ),
  set('the connect time-out of the local pool', (file, value) => (own(file).local_pool.connect_timeout = value), [
    ...['1s', '2s', '3s'],
  ]),
  set('its idle time-out', (file, value) => (own(file).local_pool.idle_timeout = value), ['3s', '4s']),
  set(
    'its health check',
    (file, value) => Object.assign(own(file).local_pool.health_check as object, { interval: value }),
    ['500ms', '1s', '2s'],
  ),
  set(
    'its outlier detection',
    (file, value) => (own(file).local_pool.eject = value === '' ? null : { errors: 5, for: value }),
    [...['', '10s', '30s']],
  ),
  {
    what: 'close_when_down',
    movesServers: true,
    edit: async (site) => {
      await site.change((file) => {
        own(file).local_pool.close_when_down = own(file).local_pool.close_when_down !== true;
      });
    },
  },
  set('the idle time-out to the other site', (file, value) => Object.assign(remote(file), { idle_timeout: value }), [
    ...['20s', '25s'],
  ]),
  set(
    'how the other site is checked',
    (file, value) => Object.assign(remote(file), { health_check: { interval: value } }),
    [...['500ms', '1s']],
  ),
  set('the protocol to the other site', (file, value) => Object.assign(remote(file), { protocol: value }), [
    ...['auto', 'http1', 'http2'],
  ]),
  {
    what: 'a third site more, or less',
    edit: async (site) => {
      await site.change((file) => {
        const pools = own(file).remote_pools;
        if (pools.length > 1) pools.pop();
        else pools.push({ site: 'north', cluster: 'north', cookie: 'NORTH', servers: ['127.0.0.1:1'] });
      });
    },
  },
  {
    what: 'an application more, or less',
    edit: async (site) => {
      await site.change((file: ConfigFile & WithApplications) => {
        const applications: unknown[] = file.applications ?? [];
        if (applications.length > 1) applications.pop();
        else applications.push(application('mail'));
      });
    },
  },
  set('both_cookies', (file, value) => (file.both_cookies = value), ['remote', 'local']),
  set('on_owner_down', (file, value) => (file.on_owner_down = value), ['adopt', 'keep']),
  ...['fast_path', 'retry_on_reset', 'merge_slashes', 'normalize_path'].map(toggle),
  set('envoy.stream_idle_timeout', ({ envoy }, value) => (envoy.stream_idle_timeout = value), ['5m', '10m']),
  set('envoy.headers_with_underscores', ({ envoy }, value) => (envoy.headers_with_underscores = value), [
    'allow',
    'drop',
  ]),
  {
    what: 'an overlay',
    edit: async (site, pick) => {
      await site.overlay(managerOverlay(`request_timeout: ${pick(['100s', '200s', '300s'])}`));
    },
  },
  {
    what: 'no overlay',
    edit: async (site) => {
      await site.change(({ envoy }) => delete envoy.overlay);
    },
  },
  {
    what: 'an overlay that Envoy does not take',
    outcome: 'refused by Envoy',
    edit: async (site, pick) => {
      const wrong = pick([
        managerOverlay(
          'http_filters: [{ name: more, typed_config: { "@type": type.googleapis.com/google.protobuf.Struct } }]',
        ),
        'static_resources: { clusters: [{ name: more, lb_policy: CLUSTER_PROVIDED }] }\n',
      ]);
      await site.overlay(wrong);
    },
  },
  {
    what: 'a key that is none',
    outcome: 'refused by the sidecar',
    edit: async (site) => {
      await site.change(({ envoy }) => (envoy.no_such_key = true));
    },
  },
];

/** Two sites that follow their files, under load, while these are edited at random. */
export async function soakEdits({ minutes, seed, node, fastPath, say }: SoakOptions): Promise<EditsReport> {
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-edits-'));
  const servers: ManagedProcess[] = [];
  let lab: TwoSites | undefined;
  try {
    const certificates = await HopCertificates.create(directory);
    lab = await startTwoSites({
      ...{ sidecars: 2, node, fastPath, configDir: true },
      configure(file, site) {
        certificates.configure(file, site);
        const { local_pool, remote_pools } = file;
        Object.assign(file, { applications: [{ name: 'shop', hosts: ['*'], local_pool, remote_pools }] });
        Reflect.deleteProperty(file, 'local_pool');
        Reflect.deleteProperty(file, 'remote_pools');
      },
    });
    const sites = await Promise.all(lab.sites.map((site) => withSpares(site, servers)));
    return await editUnderLoad({ sites, minutes, seed, say });
  } finally {
    await lab?.close();
    await Promise.all(servers.map((server) => server.stop('SIGKILL')));
    await rm(directory, { recursive: true, force: true });
  }
}

async function withSpares(lab: SiteLab, servers: ManagedProcess[]): Promise<EditedSite> {
  const ports = await freePorts(SPARE_SERVERS);
  const spare = new Map(ports.map((port, index) => [`${lab.name}/spare-${index + 1}`, `127.0.0.1:${port}`]));
  const starting = ports.map((port, index) =>
    startAppServer({ site: lab.name, server: `spare-${index + 1}`, port, speaks: 'http1' }),
  );
  servers.push(...(await Promise.all(starting)));
  return new EditedSite(lab, spare);
}

interface EditsOptions extends Pick<SoakOptions, 'minutes' | 'seed' | 'say'> {
  readonly sites: readonly EditedSite[];
}

async function editUnderLoad({ sites, minutes, seed, say }: EditsOptions): Promise<EditsReport> {
  const random = createRandom(seed);
  const pick = <T>(choices: readonly T[]): T => {
    const chosen = choices[Math.floor(random() * choices.length)];
    if (chosen === undefined) throw new Error('nothing to choose from');
    return chosen;
  };
  const urls = sites.map(({ lab }) => lab.url);
  const problems: string[] = [];
  const removed = () => sites.flatMap((site) => [...site.removed]);
  let [moved, last, movesServers] = [0, 'before the first edit', false];
  const load = await Load.start({
    ...{ clients: CLIENTS, homes: urls, edges: urls, pauseMs: PAUSE_MS },
    onLoss: (client, reason) => problems.push(`client ${client} lost a request, ${last}: ${reason}`),
    onMove: (client, from, to) => {
      moved++;
      const isSameSite = from.split('/')[0] === to.split('/')[0];
      const isAllowed = isSameSite && (movesServers || removed().includes(from));
      if (!isAllowed) problems.push(`client ${client} moved from ${from} to ${to}, ${last}`);
    },
  });
  const tally = new Map(KINDS.map(({ what }) => [what, { times: 0, lost: 0, moved: 0 }]));
  const endsAtMs = performance.now() + minutes * 60_000;
  while (performance.now() < endsAtMs) {
    const [site, kind] = [pick(sites), pick(KINDS)];
    const of = tally.get(kind.what) ?? { times: 0, lost: 0, moved: 0 };
    const [lostBefore, movedBefore] = [load.lost, moved];
    last = `${site.lab.name}: ${kind.what}`;
    movesServers = kind.movesServers === true;
    const wanted = kind.outcome ?? 'taken';
    const outcomes = await outcomesOf(site.lab, async () => await kind.edit(site, pick));
    if (outcomes.some((outcome) => outcome !== wanted)) problems.push(`${last}: ${outcomes.join(', ')}, not ${wanted}`);
    if (wanted !== 'taken') await putRight(site);
    await sleep(REST_MS);
    of.times++;
    of.lost += load.lost - lostBefore;
    of.moved += moved - movedBefore;
    say(`${last}: ${outcomes.join(', ')}; ${load.lost} lost of ${load.requests} so far, ${problems.length} problems`);
  }
  const { requests } = await load.stop();
  const edits = [...tally].map(([what, counts]) => ({ what, ...counts }));
  const times = edits.reduce((sum, edit) => sum + edit.times, 0);
  if (minutes >= 60 && times < 200) problems.push(`there were ${times} edits only`);
  return { minutes, seed, requests, edits, problems };
}

/** What each sidecar's log says of an edit. */
async function outcomesOf({ sidecars }: SiteLab, edit: () => Promise<void>): Promise<Outcome[]> {
  const before = sidecars.map(({ lines }) => lines.length);
  await edit();
  return sidecars.map(({ lines }, index) => {
    const since = lines.slice(before[index]);
    if (since.some((line) => line.includes('Envoy does not take'))) return 'refused by Envoy';
    if (since.some((line) => line.includes('config file rejected'))) return 'refused by the sidecar';
    const isTaken =
      since.some((line) => line.includes('config reloaded')) && !since.some((line) => line.includes('is written'));
    return isTaken ? 'taken' : 'not taken';
  });
}

async function putRight(site: EditedSite): Promise<void> {
  await site.change(({ envoy }) => {
    delete envoy.overlay;
    delete envoy.no_such_key;
  });
  await waitUntil(async () => (await site.lab.state()).health_known, { what: 'health to be known' });
}

export function formatEdits({ minutes, seed, requests, edits, problems }: EditsReport): string {
  const rows = edits.map(({ what, times, lost, moved }) => [what, ...[times, lost, moved].map(String)]);
  const times = edits.reduce((sum, edit) => sum + edit.times, 0);
  return [
    `${requests} requests in ${minutes} min while the files were edited ${times} times (seed ${seed})`,
    '',
    formatTable(['what', 'times', 'lost', 'sessions moved'], rows),
    '',
    problems.length === 0
      ? 'nothing was lost, no session moved but those of removed servers, and what was refused was said'
      : problems.join('\n'),
    '',
  ].join('\n');
}
