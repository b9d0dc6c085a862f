import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Address } from '../../src/config/address.ts';
import { askEnvoy } from '../../src/envoy-admin/admin-answers.ts';
import { createAdminClient } from '../../src/envoy-admin/admin-client.ts';
import { type HttpAnswer, httpRequest } from '../../src/envoy-admin/http-request.ts';
import { doctor } from '../support/doctor-site.ts';
import { freePorts } from '../support/free-ports.ts';
import { withRenderedEnvoy } from '../support/rendered-envoy.ts';

const TIMEOUT_MS = 5_000;
const KEY = 'site_persistence.fast_path';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-admin-'));
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

async function ask(admin: Address, method: 'GET' | 'POST', path: string): Promise<HttpAnswer> {
  return await httpRequest(admin, { method, path, timeoutMs: TIMEOUT_MS });
}

describe.each(['1.36.4', '1.38.3', '1.40.0'])('the admin interface of Envoy %s', (release) => {
  const isLimited = release !== '1.36.4';

  test.each([true, false])('answers all that is asked, with fast_path: %s, and nothing else', async (fastPath) => {
    const admin = { kind: 'unix', path: join(directory, 'admin.sock') } as const;
    const envoy = { fast_path: fastPath };
    await withRenderedEnvoy({ release, directory, admin: `unix:${admin.path}`, envoy }, async ({ configFile }) => {
      expect((await stat(admin.path)).mode & 0o777).toBe(0o660);

      const client = createAdminClient(admin, TIMEOUT_MS);
      const pools = ['local_pool', 'remote_pool'];
      expect([...(await client.count(pools, ['any'])).pools.keys()].sort()).toEqual(pools);
      expect([...(await client.listHosts(pools)).keys()].sort()).toEqual(pools);
      await client.writeRuntime(new Map([[KEY, '100']]));
      expect((await client.readRuntime([KEY])).get(KEY)).toBe('100');
      client.close();

      const answers = await askEnvoy(admin, new AbortController().signal);
      expect(Object.values(answers).filter((answer) => 'why' in answer)).toEqual([]);
      const { findings } = await doctor(configFile);
      const about = findings.filter(({ check }) => check.startsWith('admin'));
      expect(about.map(({ mark }) => mark)).toEqual(['ok', 'ok', 'ok']);

      if (isLimited) {
        const refused = [
          ...['/', '/help', '/certs', '/memory', '/init_dump', '/contention', '/hot_restart_version'],
          ...['/stats/recentlookups', '/statsx', '/stats/../quitquitquit', '/stats%2f..%2fmemory'],
        ];
        for (const path of refused) expect((await ask(admin, 'GET', path)).status, path).toBe(403);
        const changes = [
          ...['/healthcheck/fail', '/drain_listeners', '/logging?level=trace', '/reset_counters', '/reopen_logs'],
          ...['/cpuprofiler?enable=y', '/stats/recentlookups/enable', '/quitquitquit', '/quitquitquit?/stats'],
        ];
        for (const path of changes) expect((await ask(admin, 'POST', path)).status, path).toBe(403);
        expect((await ask(admin, 'GET', '/ready')).body).toBe('LIVE\n');
      }
      expect((await ask(admin, 'GET', '/stats/prometheus')).status).toBe(200);
    });
  });
});

test('over TCP the same is refused, and a socket that was left behind is no obstacle', async () => {
  const [port = 0] = await freePorts(1);
  const tcp = { kind: 'tcp', host: '127.0.0.1', port } as const;
  const release = '1.40.0';
  await withRenderedEnvoy({ release, directory, admin: `http://127.0.0.1:${port}` }, async ({ configFile }) => {
    expect((await ask(tcp, 'POST', '/quitquitquit')).status).toBe(403);
    const { findings } = await doctor(configFile);
    expect(findings.filter(({ check }) => check.startsWith('admin')).map(({ mark }) => mark)).toEqual([
      'ok',
      'ok',
      'ok',
    ]);
  });
  const unix = { kind: 'unix', path: join(directory, 'left.sock') } as const;
  for (let start = 0; start < 2; start++) {
    await withRenderedEnvoy({ release, directory, admin: `unix:${unix.path}` }, async () => {
      expect((await ask(unix, 'GET', '/server_info')).status).toBe(200);
    });
  }
});
