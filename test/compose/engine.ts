import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DEFAULT_ENVOY_VERSION, fetchEnvoy } from '../../lab/envoy-binary.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { isOnPath } from '../support/on-path.ts';

const run = promisify(execFile);

const NODE_IMAGE = 'node:24.21.0-bookworm-slim';
const ENVOY_IMAGE = 'envoyproxy/envoy:v1.40.0';

export const ROOT = new URL('../../', import.meta.url).pathname;

export interface Compose {
  /** Such as `docker compose 2.26.1`. */
  readonly name: string;
  readonly command: readonly string[];
  /** Before version 2 there was no `up --wait`. */
  readonly canWait: boolean;
}

/** A Docker engine with the base images, and every Compose that this machine has. */
export interface Engine {
  readonly env: NodeJS.ProcessEnv;
  readonly composes: readonly Compose[];
  /** Runs the docker command. @returns what it printed */
  docker(...args: readonly string[]): Promise<string>;
  close(): Promise<void>;
}

/** Why there can be no engine here. */
export class NoEngine extends Error {}

/**
 * The engine that answers, or one of our own that {@link Engine.close} stops again; both base images in it, real ones where
 * they are there or a registry can be reached, else stand-ins.
 * @throws NoEngine with the reason where there can be none
 */
export async function startEngine(): Promise<Engine> {
  if (!(await isOnPath('docker'))) throw new NoEngine('docker is not installed (Debian: apt-get install docker.io)');
  const running = { env: process.env, close: async () => {} };
  const engine = (await answers(process.env)) ? running : await startDockerd();
  try {
    const composes = await findComposes(engine.env);
    if (composes.length === 0) throw new NoEngine('Compose is not installed (Debian: apt-get install docker-compose)');
    await provideImages(engine.env);
    const docker = async (...args: readonly string[]) => (await run('docker', args, { env: engine.env })).stdout;
    return { ...engine, composes, docker };
  } catch (error) {
    await engine.close();
    throw error;
  }
}

async function answers(env: NodeJS.ProcessEnv): Promise<boolean> {
  return await succeeds('docker', ['info'], env);
}

/** With everything of its own, so that it leaves no trace in the machine's. */
async function startDockerd(): Promise<{ env: NodeJS.ProcessEnv; close(): Promise<void> }> {
  if (process.getuid?.() !== 0) throw new NoEngine('no Docker engine answers, and only root can start one');
  if (!(await isOnPath('dockerd'))) {
    throw new NoEngine(
      'no Docker engine answers, and there is no dockerd to start (Debian: apt-get install docker.io)',
    );
  }
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-docker-'));
  const host = `unix://${directory}/docker.sock`;
  const dockerd = spawn(
    'dockerd',
    [
      ...['--host', host, '--pidfile', `${directory}/pid`],
      ...['--data-root', `${directory}/data`, '--exec-root', `${directory}/exec`],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let output = '';
  dockerd.stderr.on('data', (text: Buffer) => {
    output = (output + text.toString()).slice(-4_000);
  });
  const ended = new Promise<void>((resolve) => dockerd.once('exit', () => resolve()));
  const env = { ...process.env, DOCKER_HOST: host };
  const close = async () => {
    dockerd.kill();
    await ended;
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await waitUntil(() => dockerd.exitCode !== null || answers(env), { what: 'dockerd to answer', timeoutMs: 60_000 });
    if (dockerd.exitCode !== null) throw new Error('it ended');
  } catch (error) {
    await close();
    throw new Error(`dockerd does not start: ${output}`, { cause: error });
  }
  return { env, close };
}

async function findComposes(env: NodeJS.ProcessEnv): Promise<Compose[]> {
  const composes: Compose[] = [];
  for (const command of [['docker', 'compose'], ['docker-compose']]) {
    const [program = '', ...args] = command;
    const answer = await run(program, [...args, 'version', '--short'], { env }).catch(() => null);
    const version = answer?.stdout.trim() ?? '';
    if (/^v?\d/.test(version) && !composes.some((other) => other.name.endsWith(` ${version}`))) {
      composes.push({ name: `${command.join(' ')} ${version}`, command, canWait: !version.startsWith('1.') });
    }
  }
  return composes;
}

async function provideImages(env: NodeJS.ProcessEnv): Promise<void> {
  for (const image of [NODE_IMAGE, ENVOY_IMAGE]) {
    if (await succeeds('docker', ['image', 'inspect', image], env)) continue;
    if (await succeeds('docker', ['pull', '--quiet', image], env)) continue;
    if (process.getuid?.() !== 0 || !(await isOnPath('debootstrap'))) {
      throw new NoEngine(`there is no image ${image}, none can be pulled, and a stand-in takes root and debootstrap`);
    }
    const envoy = await fetchEnvoy(DEFAULT_ENVOY_VERSION);
    await run(`${ROOT}test/compose/stand-in-images.sh`, [NODE_IMAGE, ENVOY_IMAGE, envoy], { env });
    return;
  }
}

async function succeeds(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<boolean> {
  return await run(program, args, { env }).then(
    () => true,
    () => false,
  );
}
