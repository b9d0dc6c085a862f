import { execFile } from 'node:child_process';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLI } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { EAST_COOKIE, startTwoSites, type TwoSites } from '../support/two-sites.ts';

const run = promisify(execFile);

async function cli(...args: string[]): Promise<string> {
  // doctor ends with 1 where it finds something wrong, and still prints it.
  const { stdout } = await run(process.execPath, [CLI, ...args]).catch((error: { stdout: string }) => error);
  return stdout;
}

describe('why servers are down, and clients not sticky', () => {
  const servers: Server[] = [];
  let refusing: string;
  let hung: string;
  let missing: string;
  let lab: TwoSites;

  async function listen(server: Server): Promise<string> {
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  beforeAll(async () => {
    const gone = createServer();
    refusing = await listen(gone);
    await new Promise((resolve) => gone.close(resolve));
    hung = await listen(createServer(() => {}));
    missing = await listen(createHttpServer((_, response) => response.writeHead(404).end()));
    lab = await startTwoSites({
      configure: (file, site) => {
        if (site !== 'east') return;
        file.local_pool.servers = [...(file.local_pool.servers as string[]), refusing, hung, missing];
        file.local_pool.health_check = { path: '/healthz', timeout: '500ms' };
      },
    });
  });
  afterAll(async () => {
    await lab?.close();
    for (const server of servers) server.close();
  });

  test('are told by the log, the state, status and doctor', async () => {
    const reasons = [
      [refusing, 'connection refused'],
      [hung, 'no answer within 500 ms'],
      [missing, 'answered 404, expected 200-399'],
    ] as const;
    for (const [address, reason] of reasons) {
      await lab.east
        .sidecar()
        .waitForLine(new RegExp(`health check of ${address} in local_pool \\(east\\) fails: ${reason}`));
    }
    const state = await lab.east.state();
    const hosts = state.pools[0]?.hosts ?? [];
    const shown = await cli('status', '--config', lab.east.configFile);
    const examined = await cli('doctor', '--config', lab.east.configFile);
    for (const [address, reason] of reasons) {
      const why = `failed active health check: ${reason}`;
      expect(hosts).toContainEqual({ address, up: false, draining: false, why });
      expect(shown).toContain(`${address}: down, ${why}`);
      expect(examined).toContain(`${address} ${why}`);
    }
  });

  test("a client with this site's cookie twice is counted and told of", async () => {
    const client = new Client();
    await client.ask(lab.east.url);
    const cookie = `${EAST_COOKIE}="made by another load balancer"; ${EAST_COOKIE}=${client.cookies.get(EAST_COOKIE)}`;
    const before = (await lab.east.state()).duplicate_cookies;
    for (const value of [cookie, [`${EAST_COOKIE}=x`, `a=1; ${EAST_COOKIE}=y`]]) {
      await new Client().request(`${lab.west.url}`, { headers: { cookie: value, 'x-unused': '1' } });
      await new Client().request(`${lab.east.url}`, { headers: { cookie: value, 'x-site-hop': 'west' } });
    }
    await waitUntil(async () => (await lab.east.state()).duplicate_cookies >= before + 2, {
      what: 'both to be counted',
    });
    const metrics = await (await fetch(`${lab.east.opsUrl}/metrics`)).text();
    expect(metrics).toMatch(/^site_persistence_duplicate_cookies_total\{application="default"\} [1-9]/m);
    expect(await cli('status', '--config', lab.east.configFile)).toMatch(/requests carried this site's cookie twice/);
    expect(await cli('doctor', '--config', lab.east.configFile)).toMatch(
      /warn +cookies +\d+ requests carried KVAAVROI twice/,
    );
    client.close();
  });
});
