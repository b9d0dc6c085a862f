import { execFile } from 'node:child_process';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { readWatchedFiles, withLock } from '../../src/envoy-files/directory.ts';
import { CertificateError, readCertificates } from '../../src/listener/certificates.ts';
import { whyFileIsRefused } from '../../src/listener/key-usage.ts';
import { linesOf, runCli } from './cli-process.ts';
import { temporaryDirectory } from './site.ts';

async function pipeAt(path: string): Promise<string> {
  await promisify(execFile)('mkfifo', [path]);
  return path;
}

test('a pipe in place of a watched file does not hold up envoy, which replaces it', async () => {
  const home = await temporaryDirectory();
  const directory = join(home, 'watched');
  const site = join(home, 'site.yaml');
  await writeFile(
    site,
    `
site: east
local_pool: { cluster: east, cookie: EAST, servers: ["127.0.0.1:3001"] }
remote_pools: [{ site: west, cluster: west, cookie: WEST, servers: ["127.0.0.1:81"] }]
envoy: { listen: "127.0.0.1:80", config_dir: ${directory} }
`,
  );
  const first = await runCli(['envoy', '--config', site]);
  expect(linesOf(first.stderr)).toEqual(['']);
  const names = await readdir(directory);
  const replaced = names.find((name) => name.startsWith('routes_')) ?? '';
  await promisify(execFile)('rm', [join(directory, replaced)]);
  await pipeAt(join(directory, replaced));

  const again = await runCli(['envoy', '--config', site]);
  expect(again).toEqual({ ...first, stdout: again.stdout });
  expect(parse((await readWatchedFiles(directory)).get(replaced) ?? '')).toMatchObject({ resources: [{}] });
});

test('a pipe in place of the lock is refused at once', async () => {
  const directory = await temporaryDirectory();
  await pipeAt(join(directory, '.lock'));
  // Which ends each wait.
  const writing = withLock(directory, async () => 'written', AbortSignal.abort());
  await expect(writing).rejects.toThrow(`${directory}/.lock is not a regular file`);
});

test('a pipe in place of a certificate is an error that says so', async () => {
  const certFile = await pipeAt(join(await temporaryDirectory(), 'cert.pem'));
  const [keyFile, clientCaFile] = ['/dev/null', '/dev/null'];
  const error = await readCertificates('listen', { certFile, keyFile, clientCaFile }).catch(
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(CertificateError);
  expect(String(error)).toContain(`${certFile} (listen_tls.cert_file): has no certificate`);
  expect(await whyFileIsRefused(certFile)).toBe(null);
});
