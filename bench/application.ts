import { ManagedProcess } from '../lab/managed-process.ts';
import { waitUntil } from '../lab/wait-until.ts';
import { freePorts } from '../test/support/free-ports.ts';
import { PARTS } from './paths.ts';

/** The servers behind every contestant: two of the local pool, and one that stands for the other site. */
export interface Application {
  readonly local: readonly string[];
  readonly remote: string;
  stop(pool: 'local' | 'remote'): Promise<void>;
  start(pool: 'local' | 'remote'): Promise<void>;
}

/** Starts the servers and waits until each answers. */
export async function startApplication(haproxy: string): Promise<Application> {
  const ports = await freePorts(3);
  const servers = ['app-1', 'app-2', 'west'].map((name, index) => ({ name, port: ports[index] ?? 0 }));
  const running = new Map<string, ManagedProcess>();
  const ofPool = (pool: 'local' | 'remote') => servers.filter(({ name }) => (name === 'west') === (pool === 'remote'));

  async function start(pool: 'local' | 'remote'): Promise<void> {
    for (const { name, port } of ofPool(pool)) {
      running.set(name, await startHaproxy(haproxy, name, 'application.cfg', port, { SERVER_NAME: name }));
    }
  }
  await start('local');
  await start('remote');
  return {
    local: ofPool('local').map(({ port }) => `127.0.0.1:${port}`),
    remote: ofPool('remote').map(({ port }) => `127.0.0.1:${port}`)[0] ?? '',
    start,
    async stop(pool) {
      await Promise.all(ofPool(pool).map(({ name }) => running.get(name)?.stop('SIGKILL')));
    },
  };
}

/** Starts an HAProxy with a config of bench/, whose address is its LISTEN, and waits until it answers. */
export async function startHaproxy(
  haproxy: string,
  name: string,
  file: string,
  port: number,
  env: Readonly<Record<string, string>>,
): Promise<ManagedProcess> {
  const child = new ManagedProcess({
    name,
    command: haproxy,
    args: ['-db', '-f', `${PARTS}/${file}`],
    env: { ...env, LISTEN: `127.0.0.1:${port}` },
  });
  await waitUntil(
    async () => {
      if (child.hasEnded) throw child.failure('ended at its start');
      return await fetch(`http://127.0.0.1:${port}/healthz`).then(
        (answer) => answer.ok,
        () => false,
      );
    },
    { what: `${name} to answer` },
  );
  return child;
}
