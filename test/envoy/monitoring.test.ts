import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Client } from '../support/client.ts';
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

let lab: TwoSites;
beforeAll(async () => {
  lab = await startTwoSites();
});
afterAll(async () => await lab?.close());

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
    const named = new Set(text.match(/\b(site_persistence|envoy|process|nodejs)_(?!cluster_name\b)[a-z0-9_]+\b/g));
    expect(named.size).toBeGreaterThan(10);
    const missing = [...named].filter((name) => !there.has(name));
    expect(missing).toEqual([]);
  },
);
