import { execFile } from 'node:child_process';
import { access, constants, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * Exactly this Node, from the cache or from npm: the tests run the sidecar under several versions. It is no dependency
 * of ours, for npm would then run every script with it; and it is not installed, so that no install script runs.
 * @param version such as `24.21.0`; a version that npm has for this machine
 */
export async function fetchNode(version: string): Promise<string> {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'site-persistence');
  const binary = join(cache, `node-${version}`);
  if (await isExecutable(binary)) return binary;

  await mkdir(cache, { recursive: true });
  const work = await mkdtemp(join(cache, 'fetch-'));
  try {
    const wanted = `node-${process.platform}-${process.arch}@${version}`;
    await run('npm', ['pack', '--silent', '--pack-destination', work, wanted]);
    const archive = (await readdir(work)).find((name) => name.endsWith('.tgz'));
    if (archive === undefined) throw new Error(`npm packed nothing of ${wanted}`);
    await run('tar', ['-xzf', join(work, archive), '-C', work, 'package/bin/node']);
    await rename(join(work, 'package', 'bin', 'node'), binary);
    return binary;
  } catch (error) {
    throw new Error(`fetching Node ${version} with npm failed`, { cause: error });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function isExecutable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
