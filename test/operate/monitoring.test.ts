import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { HOST_NAME, TestCa } from '../support/certificates.ts';
import { Client } from '../support/client.ts';
import { freePorts } from '../support/free-ports.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const run = promisify(execFile);
const root = new URL('../../', import.meta.url).pathname;

const hasPromtool = await run('promtool', ['--version']).then(
  () => true,
  () => false,
);
// Skipped where promtool is missing (Debian: apt-get install prometheus), but for CI, where that is a failure.
const withPromtool = test.skipIf(!hasPromtool && process.env.CI === undefined);

withPromtool('promtool takes the alert rules, and they fire when they should', async () => {
  const checked = await run('promtool', ['check', 'rules', `${root}docs/alerts.yaml`]);
  expect(checked.stdout).toMatch(/SUCCESS: \d+ rules found/);
  await run('promtool', ['test', 'rules', `${root}test/fixtures/alerts.test.yaml`]);
});

let directory: string;
let lab: TwoSites;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-monitoring-'));
  const ca = await TestCa.create(directory);
  const { certFile, keyFile } = await ca.issue('everybody');
  const own = { cert_file: certFile, key_file: keyFile };
  const ports = await freePorts(2);
  // With certificates, of which there are metrics too.
  lab = await startTwoSites({
    configure: (file, site) => {
      file.listen_tls = { ...own, client_ca_file: ca.certFile };
      Object.assign(file.envoy, {
        sidecar_tls: { sni: HOST_NAME, ca_file: ca.certFile, ...own },
        hop_listen: `127.0.0.1:${ports[site === 'east' ? 0 : 1]}`,
        hop_listen_tls: { ...own, client_ca_file: ca.certFile },
        secrets_dir: join(directory, site),
      });
    },
  });
});
afterAll(async () => {
  await lab?.close();
  await rm(directory, { recursive: true, force: true });
});

test.each(['docs/alerts.yaml', 'docs/grafana-dashboard.json'])(
  'each metric of %s is one of the sidecar or of Envoy',
  async (file) => {
    const client = new Client();
    await client.ask(lab.east.url);
    client.close();
    const [ours, envoys] = await Promise.all(
      [`${lab.east.opsUrl}/metrics`, `${lab.east.adminUrl}/stats/prometheus`].map(async (url) =>
        (await fetch(url)).text(),
      ),
    );
    const there = new Set(`${ours}\n${envoys}`.split('\n').map((line) => /^[a-z_]\w*/i.exec(line)?.[0] ?? ''));
    const text = await readFile(`${root}${file}`, 'utf8');
    const named = new Set(
      text.match(/\b(site_persistence|envoy|process|nodejs)_(?!cluster_name\b|tls_certificate\b)[a-z0-9_]+\b/g),
    );
    expect(named.size).toBeGreaterThan(10);
    const missing = [...named].filter((name) => !there.has(name));
    expect(missing).toEqual([]);
  },
);
