import { chmod, chown, lstat, rm } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { type Address, formatAddress } from '../config/address.ts';
import type { SocketConfig } from '../config/config.ts';
import type { ListenerKey } from '../config/listener-safety.ts';

/** An address that could not be listened on, said with the key of the config it comes from. */
export class ListenError extends Error {
  readonly code = 'LISTEN_FAILED';

  constructor(key: string, address: Address, why: string, options?: ErrorOptions) {
    super(`cannot listen on ${formatAddress(address)} (${key}): ${why}`, options);
    this.name = 'ListenError';
  }
}

export interface ListenOptions {
  /** The key of the config file that holds the address. */
  readonly key: ListenerKey;
  readonly address: Address;
  /** For a Unix socket. */
  readonly socket: SocketConfig;
}

/**
 * Lets a server listen. A Unix socket that a killed process left behind is taken over; one that somebody listens on,
 * or a file that is no socket, is not.
 * @throws ListenError when the address cannot be had
 */
export async function listen(server: Server, { key, address, socket }: ListenOptions): Promise<void> {
  if (address.kind === 'unix') await makeRoom(key, address, address.path);
  await bind(server, key, address);
  if (address.kind !== 'unix') return;
  try {
    await hand(address.path, socket);
  } catch (error) {
    server.close();
    throw error instanceof Error ? new ListenError(key, address, whyNotHanded(error, socket), { cause: error }) : error;
  }
}

async function bind(server: Server, key: ListenerKey, address: Address): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error) => reject(new ListenError(key, address, whyNot(error), { cause: error }));
    server.once('error', fail);
    server.once('listening', () => {
      server.off('error', fail);
      resolve();
    });
    if (address.kind === 'unix') listenClosedToAll(server, address.path);
    else server.listen(address.port, address.host);
  });
}

/** Nobody connects before the socket has its owner and mode: it is made, which Node does at once, without a permission. */
function listenClosedToAll(server: Server, path: string): void {
  const before = process.umask(0o777);
  try {
    server.listen(path);
  } finally {
    process.umask(before);
  }
}

async function hand(path: string, { mode, owner, group }: SocketConfig): Promise<void> {
  const KEEP = -1;
  if (owner !== null || group !== null) await chown(path, owner ?? KEEP, group ?? KEEP);
  await chmod(path, mode);
}

function whyNotHanded(error: Error, { owner, group }: SocketConfig): string {
  if (!('code' in error && error.code === 'EPERM')) return error.message;
  return (
    `no permission to give it to user ${owner ?? 'as it is'}, group ${group ?? 'as it is'} (socket): only root gives ` +
    'away, and others only to a group that they are in'
  );
}

const NO_DIRECTORY = 'its directory does not exist: create it first';

async function makeRoom(key: ListenerKey, address: Address, path: string): Promise<void> {
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
