import { access, constants, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where binaries that were fetched once are kept, outside of the repository. */
export function cacheDirectory(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'site-persistence');
}

/**
 * A binary from the cache, fetched where it is not there.
 * @param fetch gets a directory to work in, and returns the path of the binary in it
 */
export async function cachedBinary(name: string, fetch: (work: string) => Promise<string>): Promise<string> {
  const cache = cacheDirectory();
  const binary = join(cache, name);
  if (await isExecutable(binary)) return binary;
  await mkdir(cache, { recursive: true });
  // In a directory of its own and moved into place at the end, so that a broken download or a second process
  // doing the same never leaves half a binary behind.
  const work = await mkdtemp(join(cache, 'fetch-'));
  try {
    await rename(await fetch(work), binary);
    return binary;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

export async function isExecutable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
