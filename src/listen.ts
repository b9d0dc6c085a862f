import { lstat, rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { type Address, formatAddress } from './config/address.ts';

/** An address that could not be listened on, said with the key of the config it comes from. */
export class ListenError extends Error {
  readonly code = 'LISTEN_FAILED';

  constructor(key: string, address: Address, why: string, options?: ErrorOptions) {
    super(`cannot listen on ${formatAddress(address)} (${key}): ${why}`, options);
    this.name = 'ListenError';
  }
}

/**
 * Lets a server listen. A Unix socket that a killed process left behind is taken over; one that somebody listens on,
 * or a file that is no socket, is not.
 * @param key the key of the config file that holds the address, such as `listen`
 * @throws ListenError when the address cannot be had
 */
export async function listen(server: Server, key: string, address: Address): Promise<void> {
  if (address.kind === 'unix') await makeRoom(key, address, address.path);
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error) => reject(new ListenError(key, address, whyNot(error), { cause: error }));
    server.once('error', fail);
    server.once('listening', () => {
      server.off('error', fail);
      resolve();
    });
    if (address.kind === 'unix') server.listen(address.path);
    else server.listen(address.port, address.host);
  });
}

const NO_DIRECTORY = 'its directory does not exist: create it first';

async function makeRoom(key: string, address: Address, path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null) {
    // Node would say that there is no permission.
    const directory = await lstat(dirname(path)).catch(() => null);
    if (directory === null) throw new ListenError(key, address, NO_DIRECTORY);
    return;
  }
  if (!found.isSocket()) {
    throw new ListenError(key, address, 'there is something that is no socket: remove it, or choose another path');
  }
  if (await isDead(path)) await rm(path, { force: true });
}

async function isDead(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error) => resolve('code' in error && error.code === 'ECONNREFUSED'));
  });
}

function whyNot(error: Error): string {
  switch ('code' in error ? error.code : undefined) {
    case 'EADDRINUSE':
      return 'it is in use: stop the process that has it, or choose another address';
    case 'EACCES':
    case 'EPERM':
      return 'no permission: choose a port above 1023, or a directory that this user can write to';
    case 'EADDRNOTAVAIL':
      return 'this machine has no such address';
    case 'ENOENT':
    case 'ENOTDIR':
      return NO_DIRECTORY;
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'the host name is not known';
    default:
      return error.message;
  }
}
