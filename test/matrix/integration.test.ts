import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { fetchNode } from '../../lab/node-binary.ts';
import { NODE_RELEASES } from './node-releases.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** What leans on node:http2 and on signals, of which each Node has its own; all of test/integration takes minutes. */
const FILES = ['ext-proc-server', 'hostile-grpc', 'http2-call', 'serve-process', 'tls'].map(
  (name) => `test/integration/${name}.test.ts`,
);

/** `npm test` has the one that runs this. */
const OTHERS = NODE_RELEASES.filter((release) => release.split('.')[0] !== process.versions.node.split('.')[0]);

test.each(OTHERS)('the gRPC port and the process pass their own tests on Node %s', async (release) => {
  const node = await fetchNode(release);
  const args = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'integration', ...FILES];
  const run = await promisify(execFile)(node, args, { cwd: ROOT }).catch((error: unknown) => error);
  expect(run, run instanceof Error && 'stdout' in run ? String(run.stdout) : '').not.toBeInstanceOf(Error);
});
