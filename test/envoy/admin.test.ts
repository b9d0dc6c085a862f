import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { type Address, formatAddress } from '../../src/config/address.ts';
import { parseConfig } from '../../src/config/load.ts';
import { askEnvoy } from '../../src/doctor/admin-answers.ts';
import { printBootstrap } from '../../src/envoy-config/print.ts';
import { createAdminClient } from '../../src/health/admin-client.ts';
import { type HttpAnswer, httpRequest } from '../../src/http-request.ts';
import { doctor } from '../support/doctor-site.ts';
import { freePorts } from '../support/free-ports.ts';

const TIMEOUT_MS = 5_000;
const KEY = 'site_persistence.fast_path';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-admin-'));
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

interface Options {
  readonly release: string;
  readonly admin: Address;
  readonly fastPath: boolean;
}

/** An Envoy as rendered, without the pools' servers: it is only asked. */
async function withEnvoy({ release, admin, fastPath }: Options, action: (file: string) => Promise<void>) {
  const [edge = 0, sidecar = 0, local = 0, remote = 0] = await freePorts(4);
  const file = join(directory, 'site.yaml');
  const text = stringify({
    site: 'east',
    listen: `127.0.0.1:${sidecar}`,
    local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI', servers: [`127.0.0.1:${local}`] },
    remote_pools: [{ site: 'west', cluster: 'remote_pool', cookie: 'DDVHSLLQ', servers: [`127.0.0.1:${remote}`] }],
    envoy: {
      admin: admin.kind === 'unix' ? formatAddress(admin) : `http://${formatAddress(admin)}`,
      listen: `127.0.0.1:${edge}`,
      version: release.split('.').slice(0, 2).join('.'),
      fast_path: fastPath,
    },
  });
  await writeFile(file, text);
  const bootstrap = join(directory, 'envoy.yaml');
  await writeFile(bootstrap, printBootstrap(parseConfig(text, file, 'rendering')));
  const envoy = new ManagedProcess({
    name: `Envoy ${release}`,
    command: await fetchEnvoy(release),
    args: ['-c', bootstrap, '--concurrency', '1', '-l', 'warn', '--disable-hot-restart'],
  });
  try {
    const isReady = async () => {
      if (envoy.hasEnded) throw envoy.failure('ended at its start');
      return (await ask(admin, 'GET', '/ready').catch(() => undefined))?.status === 200;
    };
    await waitUntil(isReady, { what: `Envoy ${release} to be ready` });
    await action(file);
  } finally {
    await envoy.stop('SIGKILL');
  }
}

async function ask(admin: Address, method: 'GET' | 'POST', path: string): Promise<HttpAnswer> {
  return await httpRequest(admin, { method, path, timeoutMs: TIMEOUT_MS });
}

describe.each(['1.36.4', '1.38.3', '1.40.0'])('the admin interface of Envoy %s', (release) => {
  const isLimited = release !== '1.36.4';

  test.each([true, false])('answers all that is asked, with fast_path: %s, and nothing else', async (fastPath) => {
    const admin = { kind: 'unix', path: join(directory, 'admin.sock') } as const;
    await withEnvoy({ release, admin, fastPath }, async (file) => {
      expect((await stat(admin.path)).mode & 0o777).toBe(0o660);

      const client = createAdminClient(admin, TIMEOUT_MS);
      const pools = ['local_pool', 'remote_pool'];
      expect([...(await client.countPools(pools)).keys()].sort()).toEqual(pools);
      expect([...(await client.listHosts(pools)).keys()].sort()).toEqual(pools);
      const writes = client.writeRuntime(KEY, '100');
      if (fastPath) {
        await writes;
        expect(await client.readRuntime(KEY)).toBe('100');
      } else {
        await expect(writes).rejects.toThrow(isLimited ? 'it answered 403 to POST /runtime_modify' : /admin layer/i);
      }
      client.close();

      const answers = await askEnvoy(admin, new AbortController().signal);
      expect(Object.values(answers).filter((answer) => 'why' in answer)).toEqual([]);
      const { findings } = await doctor(file);
      const about = findings.filter(({ check }) => check.startsWith('admin'));
      expect(about.map(({ mark }) => mark)).toEqual(['ok', 'ok', 'ok']);

      if (isLimited) {
        const refused = [
          ...['/', '/help', '/certs', '/memory', '/init_dump', '/contention', '/hot_restart_version'],
          ...['/stats/recentlookups', '/statsx', '/stats/../quitquitquit', '/stats%2f..%2fmemory'],
          ...(fastPath ? [] : ['/runtime_modify']),
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
  await withEnvoy({ release: '1.40.0', admin: tcp, fastPath: false }, async (file) => {
    expect((await ask(tcp, 'POST', '/quitquitquit')).status).toBe(403);
    const { findings } = await doctor(file);
    expect(findings.filter(({ check }) => check.startsWith('admin')).map(({ mark }) => mark)).toEqual([
      'ok',
      'ok',
      'ok',
    ]);
  });
  const unix = { kind: 'unix', path: join(directory, 'left.sock') } as const;
  for (let start = 0; start < 2; start++) {
    await withEnvoy({ release: '1.40.0', admin: unix, fastPath: false }, async () => {
      expect((await ask(unix, 'GET', '/server_info')).status).toBe(200);
    });
  }
});
