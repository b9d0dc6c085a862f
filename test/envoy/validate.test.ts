import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';
import { ENVOY_VERSIONS } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { printBootstrap } from '../../src/envoy-config/print.ts';
import { type IssuedFiles, TestCa } from '../support/certificates.ts';

const run = promisify(execFile);

const RELEASES = [
  ['1.36.4', '1.36'],
  ['1.37.0', '1.37'],
  ['1.38.3', '1.38'],
  ['1.39.3', '1.39'],
  ['1.40.0', '1.40'],
] as const;

/** Everything that a config file can say, at once. */
const EVERYTHING = (version: string, { certFile, keyFile }: IssuedFiles) => `
site: east
listen: unix:/run/sp/ext_proc.sock
status_uri: /a.b(c)/status
local_pool:
  cluster: local.pool:1
  cookie: { name: __Secure-KV.A, path: /app, domain: example.com, ttl: 1h, same_site: None, secure: true }
  min_up: 2
  servers: ["127.0.0.1:3001", "localhost:3002", "[::1]:3003"]
remote_pools:
  - { site: west, cluster: west_pool, cookie: "DD$VH", servers: [localhost:443], tls: { sni: west.example.com, cert_file: ${certFile}, key_file: ${keyFile} } }
  - { site: north, cluster: north_pool, cookie: NN, servers: ["127.0.0.1:81"] }
  - { site: south, cluster: south_pool, cookie: { name: SS, path: /x }, servers: ["127.0.0.1:82", "127.0.0.1:83"] }
envoy:
  admin: unix:/run/sp/admin.sock
  listen: "[::]:8080"
  listen_tls: { cert_file: ${certFile}, key_file: ${keyFile} }
  hop_listen: "[::]:8443"
  hop_listen_tls: { cert_file: ${certFile}, key_file: ${keyFile}, client_ca_file: ${certFile} }
  sidecars: ["unix:/run/sp/0.sock", "127.0.0.1:9002"]
  version: "${version}"
`;

describe.each(RELEASES)('Envoy %s', (release, version) => {
  let directory: string;
  let files: IssuedFiles;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'site-persistence-validate-'));
    files = await (await TestCa.create(directory)).issue('any');
  });
  afterAll(async () => await rm(directory, { recursive: true, force: true }));

  async function validate(config: string): Promise<void> {
    const file = join(directory, 'envoy.yaml');
    await writeFile(file, printBootstrap(parseConfig(config, 'site.yaml', 'rendering')));
    const { stderr } = await run(await fetchEnvoy(release), ['--mode', 'validate', '-c', file, '-l', 'warn']);
    // Deprecated or unknown fields would be warned of.
    expect(stderr.split('\n').filter((line) => /deprecat|unknown field/i.test(line))).toEqual([]);
  }

  test.each(['east', 'west'])("takes the demo's %s site", async (site) => {
    const text = await readFile(new URL(`../../envoy/${site}.yaml`, import.meta.url), 'utf8');
    await validate(text.replace('version: "1.40"', `version: "${version}"`));
  });

  test('takes a config with everything in it', async () => {
    await validate(EVERYTHING(version, files));
  });

  test.each(ENVOY_VERSIONS.filter((older) => older <= version))('takes what is rendered for %s', async (older) => {
    await validate(EVERYTHING(older, files));
  });
});
