import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { cacheDirectory } from '../../lab/binary-cache.ts';
import { DEFAULT_ENVOY_VERSION, fetchEnvoy } from '../../lab/envoy-binary.ts';
import { isOnPath } from '../support/on-path.ts';

const run = promisify(execFile);

export const ROOT = new URL('../../', import.meta.url).pathname;

export const NODE_IMAGE = 'docker.io/library/node:24.21.0-bookworm-slim';
export const ENVOY_IMAGE = `docker.io/envoyproxy/envoy:v${DEFAULT_ENVOY_VERSION}`;
export const IMAGE = 'docker.io/library/site-persistence:0.1.0';

const NEEDED = ['podman', 'runc', 'catatonit', 'debootstrap', 'iptables'];

/** Why there can be no Podman here. */
export class NoPodman extends Error {}

/** Podman with a storage of its own, in which the images are; nothing of it is left after {@link close}. */
export class Podman {
  readonly #directory: string;
  readonly #env: NodeJS.ProcessEnv;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#env = {
      ...process.env,
      CONTAINERS_STORAGE_CONF: `${directory}/storage.conf`,
      CONTAINERS_CONF: `${directory}/containers.conf`,
    };
  }

  /** @throws NoPodman with the reason where there can be none */
  static async start(): Promise<Podman> {
    if (process.getuid?.() !== 0) throw new NoPodman('only root can make networks and stand-in images');
    const missing = (await Promise.all(NEEDED.map(async (name) => ((await isOnPath(name)) ? [] : [name])))).flat();
    if (missing.length > 0) {
      throw new NoPodman(`apt-get install ${missing.join(' ')} netavark aardvark-dns: not installed`);
    }
    const directory = await mkdtemp(join(tmpdir(), 'site-persistence-podman-'));
    // Containers run as another user.
    await chmod(directory, 0o755);
    const podman = new Podman(directory);
    try {
      await podman.#configure();
      await podman.#provideBaseImages();
      await podman.#buildImage();
      return podman;
    } catch (error) {
      await podman.close();
      throw error;
    }
  }

  /** @returns what it printed */
  async run(...args: readonly string[]): Promise<string> {
    return (await run('podman', args, { env: this.#env, maxBuffer: 64 * 1024 * 1024 })).stdout;
  }

  /** Writes a file for Podman to read. @returns its path */
  async file(name: string, text: string): Promise<string> {
    await writeFile(`${this.#directory}/${name}`, text);
    return `${this.#directory}/${name}`;
  }

  async close(): Promise<void> {
    for (const command of [['pod', 'rm'], ['rm'], ['volume', 'rm'], ['network', 'prune'], ['rmi']]) {
      const which = command[0] === 'network' ? [] : ['--all'];
      await this.run(...command, ...which, '--force').catch(() => '');
    }
    // Of the storage itself: it is not in use any more.
    await run('umount', [`${this.#directory}/graph/overlay`]).catch(() => {});
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #configure(): Promise<void> {
    const own = this.#directory;
    const storage = { driver: 'overlay', graphroot: `${own}/graph`, runroot: `${own}/run` };
    await writeFile(`${own}/storage.conf`, `[storage]\n${toml(storage)}`);
    const engine = { runtime: 'runc', cgroup_manager: 'cgroupfs', events_logger: 'file', tmp_dir: `${own}/tmp` };
    const network = { network_backend: 'netavark', network_config_dir: `${own}/networks` };
    const limits = 'default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]';
    const text = `[containers]\n${limits}\n[engine]\n${toml(engine)}[network]\n${toml(network)}`;
    await writeFile(`${own}/containers.conf`, text);
  }

  /** Stand-ins, from the cache or made: no registry is asked. */
  async #provideBaseImages(): Promise<void> {
    const archive = join(
      cacheDirectory(),
      `podman-images-${[NODE_IMAGE, ENVOY_IMAGE].map((image) => image.replace(/^.*\//, '').replace(':', '-')).join('-')}.tar`,
    );
    if (existsSync(archive)) {
      await this.run('load', '--quiet', '--input', archive);
      return;
    }
    const envoy = await fetchEnvoy(DEFAULT_ENVOY_VERSION);
    await run(`${ROOT}test/compose/stand-in-images.sh`, [NODE_IMAGE, ENVOY_IMAGE, envoy, 'podman'], { env: this.#env });
    await mkdir(cacheDirectory(), { recursive: true });
    const half = `${archive}.${process.pid}`;
    await this.run('save', '--quiet', '--multi-image-archive', '--output', half, NODE_IMAGE, ENVOY_IMAGE);
    await rename(half, archive);
  }

  /** The last stage of the Dockerfile, of what is built here; the first stage would install and build it all once more. */
  async #buildImage(): Promise<void> {
    const context = `${this.#directory}/image`;
    const list = await run('npm', ['ls', '--omit=dev', '--all', '--parseable'], { cwd: ROOT });
    const packages = list.stdout
      .trim()
      .split('\n')
      .slice(1)
      .map((path) => relative(ROOT, path));
    for (const path of ['package.json', 'dist', 'page', 'proto', ...packages]) {
      await cp(`${ROOT}${path}`, `${context}/app/${path}`, { recursive: true });
    }
    const stages = (await readFile(`${ROOT}Dockerfile`, 'utf8')).split(/^(?=FROM )/m);
    const last = (stages.at(-1) ?? '').replace('--from=build /app', 'app').replace(/^FROM .*/, `FROM ${NODE_IMAGE}`);
    await writeFile(`${context}/Dockerfile`, last);
    await this.run('build', '--quiet', '--pull=never', '--network=host', '--isolation=chroot', '--tag', IMAGE, context);
  }
}

function toml(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
    .join('');
}
