import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLI } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client, serverOf } from '../support/client.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';
import { openWebSocket } from '../support/web-socket.ts';

const run = promisify(execFile);

/** The first server of east is taken out; its pool speaks and closes in each way, with the fast path and without. */
describe.each([
  { envoyVersion: '1.40.0', fastPath: true, pool: {} },
  { envoyVersion: '1.40.0', fastPath: false, pool: { close_when_down: true } },
  { envoyVersion: '1.36.4', fastPath: true, pool: { close_when_down: true } },
  { envoyVersion: '1.36.4', fastPath: false, pool: { protocol: 'downstream' } },
] as const)('a server drains (Envoy $envoyVersion, fast path $fastPath, $pool)', ({ envoyVersion, fastPath, pool }) => {
  let lab: TwoSites;
  let address = '';
  const sessions: Client[] = [];
  beforeAll(async () => {
    lab = await startTwoSites({
      envoyVersion,
      fastPath,
      appsSpeak: 'both',
      configure: ({ local_pool }) => Object.assign(local_pool, pool),
    });
    const others: Client[] = [];
    while (sessions.length < 5) {
      const client = new Client();
      (serverOf(await client.ask(lab.east.url)) === 'east/app-1' ? sessions : others).push(client);
    }
    for (const client of others) client.close();
    await writeConfig(lab.east, ({ local_pool }) => {
      const [first, ...rest] = local_pool.servers as string[];
      address = first ?? '';
      local_pool.servers = [{ address, drain: true }, ...rest];
    });
    await lab.east.render((text) => text);
    await lab.east.envoy?.stop('SIGKILL');
    // Noticed late, the end of the old Envoy would be taken for that of the new one.
    await lab.west.waitForRemote('down');
    await lab.east.startEnvoy();
    await reload(lab.east);
    await lab.ready();
  });
  afterAll(async () => {
    for (const client of sessions) client.close();
    await lab?.close();
  });

  /** Requests that Envoy has sent to it; a closing cluster counts connections. */
  async function requestsToServer(): Promise<number> {
    const text = await (await fetch(`${lab.east.adminUrl}/clusters`)).text();
    const lines = text.split('\n').filter((line) => !line.startsWith('local_pool_closing::'));
    const counts = lines.flatMap((line) => line.split(`${address}::rq_total::`)[1] ?? []);
    return counts.reduce((sum, count) => sum + Number(count), 0);
  }

  test('its own sessions stay, by either site, and are counted', async () => {
    const before = await requestsToServer();
    for (const client of sessions) {
      for (const site of lab.sites) expect(serverOf(await client.ask(site.url))).toBe('east/app-1');
    }
    expect(await requestsToServer()).toBe(before + 2 * sessions.length);
    const [cookie = ''] = [...(sessions[0]?.cookies ?? [])].map((pair) => pair.join('='));
    const socket = await openWebSocket(lab.east.url, cookie);
    expect(socket.greeting).toBe('east/app-1');
    socket.close();
  });

  test('no new client gets it', async () => {
    const seen = new Set<string>();
    for (let count = 0; count < 50; count++) {
      const client = new Client();
      seen.add(serverOf(await client.ask(lab.east.url)));
      client.close();
    }
    expect([...seen]).toEqual(['east/app-2']);
  });

  test('status and doctor say that it drains, and of no server that it is down', async () => {
    await waitUntil(async () => (await lab.east.state()).pools[0]?.servers_draining === 1, { what: 'the drain' });
    const [local] = (await lab.east.state()).pools;
    expect(local).toMatchObject({ up: true, servers_up: 1, servers_total: 1 });
    expect(local?.hosts.find((host) => !host.up)).toEqual({ address, up: false, draining: true, why: 'draining' });
    const doctor = await run(process.execPath, [CLI, 'doctor', '--config', lab.east.configFile]);
    expect(doctor.stdout).toContain('local_pool: 1 of 1 hosts up, 1 draining\n');
    expect(doctor.stdout).toContain(`local_pool: the sessions of ${address} stay there\n`);
  });

  test('when it dies its sessions get another server, and nothing alarms', async () => {
    await lab.east.apps[0]?.stop('SIGKILL');
    for (const client of sessions) {
      expect(serverOf(await client.ask(lab.east.url))).toBe('east/app-2');
      expect(serverOf(await client.ask(lab.west.url))).toBe('east/app-2');
    }
    await waitUntil(
      async () => (await (await fetch(`${lab.east.adminUrl}/clusters`)).text()).includes('/failed_active_hc'),
      { what: 'its health check to fail' },
    );
    expect((await lab.east.state()).pools[0]).toMatchObject({ up: true, servers_up: 1, servers_total: 1 });
    expect(lab.east.sidecar().lines.filter((line) => line.includes(`health check of ${address}`))).toEqual([]);
  });
});
