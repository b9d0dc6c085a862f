import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What goes to this address of loopback, and comes from it, can be made to vanish. */
export const LINK_ADDRESS = '127.0.0.9';

const TABLE = ['inet', 'site_persistence_test'];

/** Has the kernel drop every packet of the link from now on. @returns ends that */
export async function silenceLink(): Promise<() => Promise<void>> {
  await run('nft', ['add', 'table', ...TABLE]);
  await run('nft', ['add', 'chain', ...TABLE, 'input', '{ type filter hook input priority 0; }']);
  for (const end of ['saddr', 'daddr']) {
    await run('nft', ['add', 'rule', ...TABLE, 'input', 'ip', end, LINK_ADDRESS, 'drop']);
  }
  return async () => void (await run('nft', ['delete', 'table', ...TABLE]));
}

/** Whether this machine lets packets be dropped. */
export async function canSilenceLink(): Promise<boolean> {
  try {
    await (await silenceLink())();
    return true;
  } catch (error) {
    if (process.env.CI === 'true') throw error;
    return false;
  }
}
