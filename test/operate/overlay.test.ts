import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { freePorts } from '../support/free-ports.ts';

const run = promisify(execFile);
const FIXTURES = fileURLToPath(new URL('../fixtures/overlay/', import.meta.url));

describe.each(['1.36.4', '1.40.0'])('Envoy %s takes what comes of an overlay', (release) => {
  test.each(readdirSync(FIXTURES))('%s', async (name) => {
    const directory = await mkdtemp(join(tmpdir(), 'site-persistence-overlay-'));
    onTestFinished(async () => await rm(directory, { recursive: true }));
    const file = join(directory, 'envoy.yaml');
    const text = await readFile(`${FIXTURES}${name}/envoy.yaml`, 'utf8');
    // Envoy opens its log even to validate.
    await writeFile(file, text.replace('/var/log/envoy', directory));
    const { stderr } = await run(await fetchEnvoy(release), ['--mode', 'validate', '-c', file, '-l', 'warn']);
    expect(stderr.split('\n').filter((line) => /deprecat|unknown field/i.test(line))).toEqual([]);
  });
});

test("Envoy's own metrics are to be read where its admin interface is a socket, and nothing else is, as docs/operations.md has it", async () => {
  const overlay = await readFile(`${FIXTURES}envoys-own-metrics/overlay.yaml`, 'utf8');
  expect(await readFile('docs/operations.md', 'utf8')).toContain(`\`\`\`yaml\n${overlay}\`\`\`\n`);
  const directory = await mkdtemp(join(tmpdir(), 'site-persistence-overlay-'));
  onTestFinished(async () => await rm(directory, { recursive: true }));
  const [edge = 0, metrics = 0] = await freePorts(2);
  const bootstrap = join(directory, 'envoy.yaml');
  const text = await readFile(`${FIXTURES}envoys-own-metrics/envoy.yaml`, 'utf8');
  await writeFile(
    bootstrap,
    text
      .replaceAll('/run/envoy', directory)
      .replace('port_value: 9902', `port_value: ${metrics}`)
      .replace('port_value: 8080', `port_value: ${edge}`),
  );
  const envoy = new ManagedProcess({
    name: 'envoy',
    command: await fetchEnvoy('1.40.0'),
    args: ['-c', bootstrap, '--concurrency', '1', '--disable-hot-restart', '-l', 'warn'],
  });
  onTestFinished(async () => void (await envoy.stop('SIGKILL')));
  const get = async (path: string) => await fetch(`http://127.0.0.1:${metrics}${path}`).catch(() => null);
  await waitUntil(async () => (await get('/stats/prometheus'))?.status === 200, { what: 'the metrics' });
  expect(await (await get('/stats/prometheus'))?.text()).toContain('envoy_cluster_membership_healthy');
  for (const path of ['/config_dump', '/quitquitquit', '/stats', '/stats/prometheus/']) {
    expect([path, (await get(path))?.status]).toEqual([path, 404]);
  }
});
