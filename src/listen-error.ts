import { type Address, formatAddress } from './config/address.ts';

/** An address that could not be listened on, said with the key of the config it comes from. */
export class ListenError extends Error {
  readonly code = 'LISTEN_FAILED';

  /** @param key the key of the config file that holds the address, such as `listen` */
  constructor(key: string, address: Address, cause: Error) {
    super(`cannot listen on ${formatAddress(address)} (${key}): ${whyNot(cause.message)}`, { cause });
    this.name = 'ListenError';
  }
}

function whyNot(message: string): string {
  if (message.includes('EADDRINUSE')) return 'it is in use: stop the process that has it, or choose another address';
  if (message.includes('EACCES'))
    return 'no permission: choose a port above 1023, or a directory this user can write to';
  if (message.includes('EADDRNOTAVAIL')) return 'this machine has no such address';
  if (message.includes('ENOENT') || message.includes('ENOTDIR')) return 'its directory does not exist: create it first';
  if (message.includes('ENOTFOUND') || message.includes('EAI_AGAIN')) return 'the host name is not known';
  return message.split('\n', 1)[0] ?? message;
}
