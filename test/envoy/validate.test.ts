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
import { withCookieKeys } from '../support/with-cookie-keys.ts';

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
  cookie: { name: __Secure-KV.A, also: ["__Secure-O|L^D", KV], path: /app, domain: example.com, ttl: 1h, same_site: None, secure: true }
  min_up: 2
  servers: ["127.0.0.1:3001", "localhost:3002", "[::1]:3003"]
remote_pools:
  - { site: west, cluster: west_pool, cookie: "DD$VH", servers: [localhost:443], redirect: https://west.example.com, tls: { sni: west.example.com, cert_file: ${certFile}, key_file: ${keyFile} } }
  - { site: north, cluster: north_pool, cookie: NN, servers: ["127.0.0.1:81"], redirect: "https://[2001:db8::1]:8443" }
  - { site: south, cluster: south_pool, cookie: { name: SS, also: [OLDSS], path: /x }, servers: ["127.0.0.1:82", "127.0.0.1:83"] }
envoy:
  admin: unix:/run/sp/admin.sock
  listen: "[::]:8080"
  listen_tls: { cert_file: ${certFile}, key_file: ${keyFile} }
  hop_listen: "[::]:8443"
  hop_listen_tls: { cert_file: ${certFile}, key_file: ${keyFile}, client_ca_file: ${certFile} }
  sidecars: ["unix:/run/sp/0.sock", "127.0.0.1:9002"]
  limits: { heap: 1GiB }
  trusted_hops: 2
  proxy_protocol: true
  headers_with_underscores: drop
  path_with_escaped_slashes: reject
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

  async function validate(config: string, cookieKeys: readonly string[] = []): Promise<void> {
    const file = join(directory, 'envoy.yaml');
    const parsed = withCookieKeys(parseConfig(config, 'site.yaml', 'rendering'), cookieKeys);
    await writeFile(file, printBootstrap(parsed));
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

  test('takes a config with an opaque cookie of many servers', async () => {
    const servers = Array.from({ length: 1_000 }, (_, index) => `"10.0.${index >> 8}.${index & 255}:80"`);
    const config = EVERYTHING(version, files)
      .replace('ttl: 1h,', 'ttl: 1h, opaque: { key_file: cookie.key },')
      .replace(/\["127.0.0.1:3001".*/, `[${servers}]`);
    await validate(config, ['new key '.repeat(4), 'old key '.repeat(4)]);
  });

  test.each(ENVOY_VERSIONS.filter((older) => older <= version))('takes what is rendered for %s', async (older) => {
    await validate(EVERYTHING(older, files));
  });
});
