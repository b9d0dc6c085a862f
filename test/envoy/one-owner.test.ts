import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { runCli } from '../integration/cli-process.ts';
import { Client, serverOf } from '../support/client.ts';
import { EAST_COOKIE, type SiteLab, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/** The access log line of the last request with this path. */
async function accessLog(site: SiteLab, path: string): Promise<Record<string, unknown>> {
  const line = await site.envoy?.waitForLine(new RegExp(`"path":"${path}"`));
  return JSON.parse(line ?? '{}') as Record<string, unknown>;
}

async function adminPost(path: string): Promise<void> {
  const answer = await fetch(path, { method: 'POST' });
  expect(answer.status).toBe(200);
  await answer.text();
}

describe('one owner', () => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites();
  });
  afterAll(async () => await lab?.close());
  afterEach(async () => await lab.restore());

  test("with both sites' cookies there is one answer, at most one hop, and one cookie afterwards", async () => {
    for (const edge of lab.sites) {
      const client = new Client();
      await client.ask(lab.east.url);
      const [east = ''] = client.cookies.values();
      client.cookies.clear();
      await client.ask(lab.west.url);
      client.cookies.set(EAST_COOKIE, east);
      const answer = await client.ask(`${edge.url}/both`);
      expect(client.cookies.size).toBe(1);
      const other = edge.name === 'east' ? 'west' : 'east';
      expect(answer).toMatchObject({ site: other, hop: edge.name });
      const again = await client.ask(edge.url);
      expect(serverOf(again)).toBe(serverOf(answer));
      client.close();
    }
  });

  test('after the owner failed and came back, 20 of 20 requests through both sites reach the same new server', async () => {
    const client = new Client();
    await client.ask(lab.west.url);
    await lab.west.stopPool();
    await lab.west.waitForStatus(503);
    await lab.east.waitForRemote('down');
    const adopted = await client.ask(lab.east.url);
    expect(adopted.site).toBe('east');
    await lab.west.startPool();
    await lab.ready();
    for (let count = 0; count < 10; count++) {
      for (const site of lab.sites) expect(serverOf(await client.ask(site.url))).toBe(serverOf(adopted));
    }
    client.close();
  });

  test("adoption keeps the application's own cookies and the local pool's", async () => {
    const client = new Client();
    await client.ask(lab.west.url);
    await lab.west.stopPool();
    await lab.west.waitForStatus(503);
    await lab.east.waitForRemote('down');
    const answer = await client.request(`${lab.east.url}/set-cookie`);
    expect(answer.status).toBe(200);
    const lines = answer.headers['set-cookie'] ?? [];
    expect(lines).toHaveLength(4);
    expect(lines).toContain('app=1; Path=/');
    expect(lines).toContain('theme=dark; Path=/');
    expect(lines.some((line) => line.startsWith(`${EAST_COOKIE}="`))).toBe(true);
    expect(lines).toContain(`${WEST_COOKIE}=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly`);
    expect([...client.cookies.keys()].sort()).toEqual([EAST_COOKIE, 'app', 'theme'].sort());
    client.close();
  });

  test('the access log says decision and owner of each request', async () => {
    const client = new Client();
    await client.ask(`${lab.east.url}/log-local`);
    await client.ask(`${lab.west.url}/log-forward`);
    expect(await accessLog(lab.east, '/log-local')).toMatchObject({
      decision: 'local',
      // Envoy decides it alone with the fast path, and knows no owner.
      owner: process.env.FAST_PATH === 'true' ? null : 'none',
      status: 200,
    });
    expect(await accessLog(lab.west, '/log-forward')).toMatchObject({
      decision: 'forward',
      owner: 'east',
      status: 200,
    });
    expect(await accessLog(lab.east, '/log-forward')).toMatchObject({ decision: 'local', owner: 'east', hop: 'west' });
    await client.request(`${lab.east.url}/local_pool_status?log`);
    expect(await accessLog(lab.east, '/local_pool_status\\?log')).toMatchObject({ decision: 'status' });
    client.close();
  });

  test('a forwarded request that the local pool cannot take is refused, by the sidecar or by Envoy', async () => {
    const client = new Client();
    await lab.east.stopPool();
    await lab.east.waitForStatus(503);
    const refused = await client.request(`${lab.east.url}/refused`, { headers: { 'x-site-hop': 'west' } });
    expect(refused.status).toBe(503);
    expect(refused.headers['x-site-refused']).toBe('east');
    expect(await accessLog(lab.east, '/refused')).toMatchObject({ decision: 'refuse', upstream_host: null });
    await lab.east.sidecar().stop('SIGKILL');
    const byEnvoy = await client.request(`${lab.east.url}/refused-by-envoy`, { headers: { 'x-site-hop': 'west' } });
    expect(byEnvoy.status).toBe(503);
    expect(byEnvoy.headers['x-site-refused']).toBe('east');
    const status = await client.request(`${lab.east.url}/local_pool_status`);
    expect(status.status).toBe(503);
    await lab.east.startSidecar();
    client.close();
  });

  test('without the sidecar Envoy alone keeps sessions at their site, wherever their cookie stands', async () => {
    const client = new Client();
    const home = await client.ask(lab.west.url);
    const cookie = `${WEST_COOKIE}=${client.cookies.get(WEST_COOKIE)}`;
    await lab.east.sidecar().stop('SIGKILL');
    try {
      for (const value of [cookie, `a=1; ${cookie}`, `a="b=c";${cookie}`]) {
        const answer = await new Client().ask(lab.east.url, { headers: { cookie: value } });
        expect(serverOf(answer)).toBe(serverOf(home));
      }
      for (const lookAlike of [`X${cookie}`, `a=${WEST_COOKIE}=1`, `${WEST_COOKIE}X=1`, `a="${cookie}"`]) {
        const answer = await new Client().ask(lab.east.url, { headers: { cookie: lookAlike } });
        expect(answer.site, lookAlike).toBe('east');
      }
      const status = await new Client().request(`${lab.east.url}/local_pool_status`);
      expect(status.status).toBe(200);
    } finally {
      await lab.east.startSidecar();
    }
    client.close();
  });

  test('a draining site says 503 to the world and 200 to the other sites, which keep sending its sessions', async () => {
    const client = new Client();
    const home = await client.ask(lab.east.url);
    await adminPost(`${lab.east.opsUrl}/drain`);
    try {
      await lab.east.waitForStatus(503);
      const forSites = await client.request(`${lab.east.url}/local_pool_status`, { headers: { 'x-site-hop': 'west' } });
      expect(forSites.status).toBe(200);
      // The other site's health check has come by several times.
      const checks = await lab.west.stat('cluster.remote_pool.health_check.attempt');
      await waitUntil(async () => (await lab.west.stat('cluster.remote_pool.health_check.attempt')) > checks + 2, {
        what: 'three more health checks',
      });
      expect(serverOf(await client.ask(lab.west.url))).toBe(serverOf(home));
      expect(serverOf(await client.ask(lab.east.url))).toBe(serverOf(home));
    } finally {
      await adminPost(`${lab.east.opsUrl}/undrain`);
    }
    client.close();
  });

  test('a drain with a time ends by itself, and a restart of the sidecar ends none', async () => {
    await adminPost(`${lab.east.opsUrl}/drain?for=30m`);
    await lab.east.waitForStatus(503);
    await adminPost(`${lab.east.opsUrl}/drain?for=300ms`);
    await lab.east.waitForStatus(200);
    await lab.east.sidecar().waitForLine(/no longer draining: its time is over/);

    await adminPost(`${lab.east.opsUrl}/drain?for=30m`);
    const stopped = lab.east.sidecar();
    await stopped.stop('SIGTERM');
    await stopped.waitForLine(/goes on draining: this sidecar stops/);
    await lab.east.startSidecar();
    await lab.east.sidecar().waitForLine(/draining, as Envoy's runtime says/);
    await lab.east.waitForStatus(503);
    await adminPost(`${lab.east.opsUrl}/undrain`);
    await lab.east.waitForStatus(200);
  });
});

describe.each(['keep', 'refuse'] as const)('on_owner_down: %s', (policy) => {
  test('what a client of the other site gets while its owner is down, and after', async () => {
    const lab = await startTwoSites({ configure: (file) => Object.assign(file, { on_owner_down: policy }) });
    try {
      const client = new Client();
      const home = await client.ask(lab.west.url);
      await lab.west.stopPool();
      await lab.west.waitForStatus(503);
      await lab.east.waitForRemote('down');
      const meanwhile = await client.request(lab.east.url);
      expect(meanwhile.status).toBe(policy === 'keep' ? 200 : 503);
      expect(client.cookies.has(WEST_COOKIE)).toBe(true);
      if (policy === 'refuse') expect(meanwhile.headers['x-site-refused']).toBe('east');
      if (policy === 'keep') {
        const args = ['explain', '/', '--cookie', `${WEST_COOKIE}=x`, '--config', lab.east.configFile];
        const { stdout } = await runCli(args);
        expect(stdout).toMatch(/_kept"/);
        expect(stdout).toContain(`an answer of a server sets ${EAST_COOKIE}-kept, unless`);
      }
      // The server here that it has meanwhile, with and without the sidecar.
      const servers = new Set<string>();
      for (let count = 0; policy === 'keep' && count < 16; count++) {
        if (count === 8) await lab.east.sidecar().stop('SIGKILL');
        servers.add(serverOf(await client.ask(lab.east.url)));
        expect([...client.cookies.keys()].filter((name) => name === EAST_COOKIE || name === WEST_COOKIE)).toEqual([
          WEST_COOKIE,
        ]);
      }
      expect(servers.size).toBe(policy === 'keep' ? 1 : 0);
      if (lab.east.sidecar().hasEnded) await lab.east.startSidecar();
      await lab.west.startPool();
      await lab.ready();
      for (const edge of [lab.east, lab.west, lab.east]) {
        expect((await client.ask(edge.url)).site).toBe(home.site);
        expect(client.cookies.has(EAST_COOKIE)).toBe(false);
      }
      client.close();
    } finally {
      await lab.close();
    }
  });
});

test('both_cookies: local keeps a client with both cookies at the local pool', async () => {
  const lab = await startTwoSites({ configure: (file) => Object.assign(file, { both_cookies: 'local' }) });
  try {
    const client = new Client();
    const home = await client.ask(lab.east.url);
    client.cookies.set(WEST_COOKIE, 'x');
    const answer = await client.ask(lab.east.url);
    expect(serverOf(answer)).toBe(serverOf(home));
    expect([...client.cookies.keys()]).toEqual([EAST_COOKIE]);
    client.close();
  } finally {
    await lab.close();
  }
});

test('min_up and hold_up decide when a pool counts as up', async () => {
  const lab = await startTwoSites({
    configure: (file, site) => {
      if (site !== 'east') return;
      file.local_pool.min_up = 2;
      file.health.hold_up = '3s';
    },
  });
  try {
    await lab.east.apps[0]?.stop('SIGKILL');
    await lab.east.waitForStatus(503);
    await lab.east.startApp(0);
    await lab.east.sidecar().waitForLine(/2 of 2 servers up, held back by hold_up/);
    const heldAt = performance.now();
    const answer = await new Client().ask(lab.east.url);
    expect(answer.site).toBe('west');
    await lab.east.waitForStatus(200);
    expect(performance.now() - heldAt).toBeGreaterThan(1_500);
  } finally {
    await lab.close();
  }
});
