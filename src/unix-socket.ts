import { rm } from 'node:fs/promises';
import { connect } from 'node:net';

/** A process that was killed leaves its socket file behind, and nobody can bind to it until it is removed. */
export async function removeDeadSocket(path: string): Promise<void> {
  const isDead = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error) => resolve('code' in error && error.code === 'ECONNREFUSED'));
  });
  if (isDead) await rm(path, { force: true });
}
