import { execFile, spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** `ip netns exec` shows what lies in NAME's folder here as /etc to what runs in NAME. */
const ETC = '/etc/netns';

/** Two sites' networks: each with loopback and ports of its own, a link to this process and one to the other site. */
export interface SiteNetworks {
  readonly east: SiteNetwork;
  readonly west: SiteNetwork;
  /** Takes both away, with the links and what still runs there. */
  close(): void;
}

export interface SiteNetwork {
  /** Where this process reaches the site. */
  readonly address: string;
  /** Where the site reaches this process. */
  readonly outside: string;
  /** The words before a command that is to run there. */
  readonly under: readonly string[];
}

/** Why no gateway can be run in a network namespace here; null where it can. */
export async function whyNoNamespace(): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'a network namespace takes root';
  try {
    await run('ip', ['netns', 'add', `sp-probe-${process.pid}`]);
    await run('ip', ['netns', 'del', `sp-probe-${process.pid}`]);
    return null;
  } catch (error) {
    return `no network namespace can be made: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** @param hosts the names by which a site knows the other one */
export async function createSiteNetworks(hosts: {
  readonly east: string;
  readonly west: string;
}): Promise<SiteNetworks> {
  removeForgotten();
  const id = process.pid;
  const names = { east: `sp-${id}-east`, west: `sp-${id}-west` };
  // For tests of networks (RFC 2544), and one of many of them, so that two runs do not meet.
  const net = `198.18.${id % 256}`;
  const links = [
    { ends: [`spe${id}`, 'outside'], at: [null, names.east], addresses: [1, 2] },
    { ends: [`spw${id}`, 'outside'], at: [null, names.west], addresses: [5, 6] },
    { ends: ['sites', 'sites'], at: [names.east, names.west], addresses: [9, 10] },
  ] as const;

  function remove(): void {
    process.off('exit', remove);
    for (const name of Object.values(names)) removeNamespace(name);
  }
  // Also where the tests are interrupted: an Envoy would outlive what has started it.
  process.on('exit', remove);

  try {
    for (const [site, name] of Object.entries(names)) {
      await run('ip', ['netns', 'add', name]);
      await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
      const other = site === 'east' ? `${net}.10 ${hosts.west}` : `${net}.9 ${hosts.east}`;
      await mkdir(join(ETC, name), { recursive: true });
      await writeFile(join(ETC, name, 'hosts'), `127.0.0.1 localhost\n${other}\n`);
    }
    for (const { ends, at, addresses } of links) {
      const places = at.map((name) => (name === null ? [] : ['netns', name]));
      await run('ip', [
        ...['link', 'add', ends[0], ...(places[0] ?? []), 'type', 'veth'],
        ...['peer', 'name', ends[1], ...(places[1] ?? [])],
      ]);
      for (const [index, end] of ends.entries()) {
        const name = at[index];
        const place = name === null || name === undefined ? [] : ['-n', name];
        await run('ip', [...place, 'addr', 'add', `${net}.${addresses[index]}/30`, 'dev', end]);
        await run('ip', [...place, 'link', 'set', end, 'up']);
      }
    }
  } catch (error) {
    remove();
    throw error;
  }
  const network = (name: string, outside: number, own: number): SiteNetwork => ({
    ...{ address: `${net}.${own}`, outside: `${net}.${outside}` },
    under: ['ip', 'netns', 'exec', name],
  });
  return { east: network(names.east, 1, 2), west: network(names.west, 5, 6), close: remove };
}

/** Those of tests that were killed. */
function removeForgotten(): void {
  const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' });
  for (const [name, pid] of stdout.matchAll(/^sp-(\d+)-(?:east|west)\b/gm)) {
    if (!existsSync(`/proc/${pid}`)) removeNamespace(name);
  }
}

/** Its links go with it. */
function removeNamespace(name: string): void {
  const { stdout } = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' });
  for (const pid of stdout.split('\n').filter((line) => line !== '')) spawnSync('kill', ['-KILL', pid]);
  spawnSync('ip', ['netns', 'del', name]);
  rmSync(join(ETC, name), { recursive: true, force: true });
}
