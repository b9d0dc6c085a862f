import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Tree } from '../json-tree.ts';
import { printManifests } from './recipe.ts';

const run = promisify(execFile);

/**
 * What a Kubernetes API server would have against manifests; empty where it takes them.
 * @param crds folders of custom resource definitions
 */
export async function kubectlValidate(
  binary: string,
  manifests: readonly Tree[],
  crds: readonly string[],
): Promise<string[]> {
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-validate-'));
  try {
    const file = join(directory, 'manifests.yaml');
    await writeFile(file, printManifests(manifests));
    const known = crds.flatMap((folder) => ['--local-crds', folder]);
    const { stdout, stderr } = await run(binary, [...known, file]).catch((error: Printed) => error);
    return `${stdout}\n${stderr}`.split('\n').filter((line) => line.trim() !== '' && !line.includes('OK'));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

interface Printed {
  readonly stdout: string;
  readonly stderr: string;
}
