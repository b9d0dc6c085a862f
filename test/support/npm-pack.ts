import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Packs what is built, without prepack, which would build it under the tests that run beside. @returns the tarball's path */
export async function npmPack(directory: string): Promise<string> {
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', directory]);
  return join(directory, /"filename": "([^"]+)"/.exec(stdout)?.[1] ?? '');
}
