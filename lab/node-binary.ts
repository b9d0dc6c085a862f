import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cachedBinary } from './binary-cache.ts';

const run = promisify(execFile);

/**
 * Exactly this Node, from the cache or from npm: the tests run the sidecar under several versions. It is no dependency
 * of ours, for npm would then run every script with it; and it is not installed, so that no install script runs.
 * @param version such as `24.21.0`; a version that npm has for this machine
 */
export async function fetchNode(version: string): Promise<string> {
  try {
    return await cachedBinary(`node-${version}`, async (work) => {
      const wanted = `node-${process.platform}-${process.arch}@${version}`;
      await run('npm', ['pack', '--silent', '--pack-destination', work, wanted]);
      const archive = (await readdir(work)).find((name) => name.endsWith('.tgz'));
      if (archive === undefined) throw new Error(`npm packed nothing of ${wanted}`);
      await run('tar', ['-xzf', join(work, archive), '-C', work, 'package/bin/node']);
      return join(work, 'package', 'bin', 'node');
    });
  } catch (error) {
    throw new Error(`fetching Node ${version} with npm failed`, { cause: error });
  }
}
