import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, copyFile, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { cachedBinary } from '../../lab/binary-cache.ts';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { fetchNode } from '../../lab/node-binary.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { isOnPath } from '../support/on-path.ts';

const run = promisify(execFile);

const NODE = '24.21.0';
const NPM = '11';
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin';
const TOOLS = ['debootstrap', 'systemd-nspawn', 'nsenter', 'setpriv'];

/** Why there can be no clean Debian here; null where there can. */
export async function whyNoDebian(): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'a Debian with systemd of its own takes root';
  for (const tool of TOOLS) {
    if (!(await isOnPath(tool)))
      return `${tool} is not installed (Debian: apt-get install debootstrap systemd-container)`;
  }
  return null;
}

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Debian 12 with Node and npm, systemd as its first process, in namespaces of its own but for the network: what listens on
 * loopback there does so here.
 */
export class CleanDebian {
  readonly root: string;
  readonly #npmRegistry: string;
  readonly #binds: readonly string[];
  #container: ManagedProcess;

  private constructor(root: string, npmRegistry: string, binds: readonly string[]) {
    this.root = root;
    this.#npmRegistry = npmRegistry;
    this.#binds = binds;
    this.#container = this.#start();
  }

  /** @param binaries such as Envoy, by the name that they get in `/usr/local/bin` */
  static async boot(binaries: Readonly<Record<string, string>>): Promise<CleanDebian> {
    const archive = await cachedBinary(`debian-12-node-${NODE}.tar`, makeArchive);
    const root = await mkdtemp(join(tmpdir(), 'site-persistence-debian-'));
    await chmod(root, 0o755);
    await run('tar', ['-xf', archive, '-C', root]);
    const { stdout: registry } = await run('npm', ['config', 'get', 'registry']);
    const binds = Object.entries(binaries).map(([name, file]) => `--bind-ro=${file}:/usr/local/bin/${name}`);
    const debian = new CleanDebian(root, registry.trim(), binds);
    await debian.#booted();
    return debian;
  }

  /** Kills everything in it at once, as a power cut does, and starts it again. */
  async powerCycle(): Promise<void> {
    await this.#kill();
    this.#container = this.#start();
    await this.#booted();
  }

  /** Runs a script of bash as root in `/root`, to its first command that fails. */
  async try(script: string): Promise<Outcome> {
    const env = ['-i', `PATH=${PATH}`, 'HOME=/root', 'LANG=C.UTF-8', ...this.#environment()];
    const inside = ['--target', String(await this.#init()), '--all', 'env', ...env];
    return await new Promise((resolve) => {
      const bash = ['bash', '--norc', '-euo', 'pipefail', '-c', `cd\n${script}`];
      execFile('nsenter', [...inside, ...bash], (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr }),
      );
    });
  }

  /** @returns what the script printed @throws Error with its output where it fails */
  async run(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.try(script);
    if (code !== 0) throw new Error(`exit code ${code} of\n${script}\n${stdout}${stderr}`);
    return stdout;
  }

  async write(path: string, text: string): Promise<void> {
    await writeFile(join(this.root, path), text);
  }

  async read(path: string): Promise<string> {
    return await readFile(join(this.root, path), 'utf8');
  }

  async close(): Promise<void> {
    await this.#kill();
    await rm(this.root, { recursive: true, force: true });
    if (existsSync('/run/systemd/system')) return;
    // Without systemd on the host nobody removes what control groups the container had; rmdir takes empty ones only.
    for (const name of ['unified/payload', 'unified/supervisor', 'systemd/payload', 'systemd/supervisor']) {
      await run('find', [`/sys/fs/cgroup/${name}`, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';']).catch(
        () => {},
      );
    }
  }

  #start(): ManagedProcess {
    // In a namespace of process ids, so that all in it dies with this process, however this ends.
    const namespace = ['--pdeathsig', 'KILL', 'unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
    const nspawn = ['systemd-nspawn', '--quiet', '--register=no', ...this.#binds];
    // Without systemd on the host nobody can give it a unit of its own.
    const unit = existsSync('/run/systemd/system') ? [] : ['--keep-unit'];
    return new ManagedProcess({
      name: 'the clean Debian',
      command: 'setpriv',
      args: [...namespace, ...nspawn, ...unit, '--resolv-conf=replace-host', '--directory', this.root, '--boot'],
    });
  }

  /** With its first process all others end, and then the container. */
  async #kill(): Promise<void> {
    const init = await this.#init().catch(() => null);
    if (init === null) await this.#container.stop('SIGKILL');
    else process.kill(init, 'SIGKILL');
    await this.#container.ended;
  }

  async #booted(): Promise<void> {
    await waitUntil(
      async () => {
        if (this.#container.hasEnded) throw this.#container.failure('ended at its start');
        const { stdout } = await this.try('systemctl is-system-running').catch(() => ({ stdout: '' }));
        return stdout.trim() === 'running';
      },
      { what: 'the clean Debian to be up', timeoutMs: 300_000, intervalMs: 100 },
    );
  }

  /** Its first process, as this machine counts: the child of nspawn, which is that of unshare. */
  async #init(): Promise<number> {
    return await lastChildOf(await lastChildOf(this.#container.pid ?? 0));
  }

  /** What npm needs to get to its registry. */
  #environment(): string[] {
    const proxies = Object.entries(process.env).filter(([name]) => /^(https?|no)_proxy$/i.test(name));
    return [
      ...proxies.map(([name, value]) => `${name}=${value}`),
      `NPM_CONFIG_REGISTRY=${this.#npmRegistry}`,
      `NODE_EXTRA_CA_CERTS=${CERTIFICATES}`,
    ];
  }
}

async function lastChildOf(pid: number): Promise<number> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  const child = children.trim().split(' ').at(-1) ?? '';
  if (child === '') throw new Error(`process ${pid} has no child`);
  return Number(child);
}

async function makeArchive(work: string): Promise<string> {
  const root = join(work, 'root');
  const packages = 'systemd,systemd-sysv,bash-completion';
  await run('debootstrap', ['--variant=minbase', `--include=${packages}`, 'bookworm', root]);
  await run('find', [`${root}/var/cache/apt/archives`, `${root}/var/lib/apt/lists`, '-type', 'f', '-delete']);
  await copyFile(await fetchNode(NODE), join(root, 'usr/local/bin/node'));
  await run('npm', ['install', '--silent', '--no-audit', '--no-fund', '--prefix', join(work, 'npm'), `npm@${NPM}`]);
  await mkdir(join(root, 'usr/local/lib/node_modules'));
  await cp(join(work, 'npm/node_modules/npm'), join(root, 'usr/local/lib/node_modules/npm'), { recursive: true });
  await symlink('../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/local/bin/npm'));
  // The host may be behind a proxy of its own.
  if (existsSync(CERTIFICATES)) {
    await mkdir(dirname(join(root, CERTIFICATES)), { recursive: true });
    await copyFile(CERTIFICATES, join(root, CERTIFICATES));
  }
  const archive = join(work, 'debian.tar');
  await run('tar', ['-cf', archive, '-C', root, '--one-file-system', '.']);
  // As everything in the cache is.
  await chmod(archive, 0o755);
  return archive;
}
