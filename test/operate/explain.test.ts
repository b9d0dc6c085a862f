import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { runCli } from '../integration/cli-process.ts';
import { Client } from '../support/client.ts';
import { EAST_COOKIE, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

interface LogLine {
  readonly path: string;
  readonly upstream_cluster: string | null;
  readonly attempts: number;
  readonly route: string;
  readonly decision: string;
}

/** What it says is held against what becomes of the same request: Envoy's access log has its decision and its route. */
describe.each([true, false])('explain, with fast_path: %s', (fastPath) => {
  let lab: TwoSites;
  let count = 0;
  beforeAll(async () => {
    lab = await startTwoSites({ fastPath });
  });
  afterEach(async () => await lab.restore());
  afterAll(async () => await lab?.close());

  async function explain(path: string, ...args: string[]) {
    const { code, stdout, stderr } = await runCli(['explain', path, '--config', lab.east.configFile, ...args]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return stdout;
  }

  async function send(path: string, headers: Record<string, string>): Promise<LogLine> {
    const client = new Client();
    await client.request(`${lab.east.url}${path}`, { headers });
    client.close();
    const find = () => lab.east.envoy?.lines.find((line) => line.includes(path));
    await waitUntil(() => find() !== undefined, { what: 'the access log' });
    const line: LogLine = JSON.parse(find() ?? '');
    return line;
  }

  /** @returns what is explained, which is what happens */
  async function hold(headers: Record<string, string>, args: readonly string[], path = '/explained'): Promise<string> {
    const sent = await send(`${path}?n=${count++}`, headers);
    const said = await explain(path, ...args);
    expect(said).toMatch(new RegExp(`^row \\d, ${sent.decision}: `, 'm'));
    if (sent.route !== null && sent.route !== '') {
      // A GET has a route of its own, by the same name.
      expect(said).toContain(`route "${sent.route}" to `);
    }
    // A retry leads on to another one.
    if (sent.attempts === 1) expect(said).toMatch(new RegExp(`[( ]${sent.upstream_cluster}\\b`));
    return said;
  }

  test('a request without a cookie is served here', async () => {
    const said = await hold({}, []);
    expect(said).toMatch(
      /^it carries the cookie of no site\nrow 4, local: no session yet, and the local pool is up: served here\n/,
    );
    expect(said).toMatch(/ to local_pool/);
    expect(said).toMatch(/an answer of a server sets KVAAVROI, .* and expires nothing\n$/);
    expect(said.includes('without asking the sidecar')).toBe(fastPath);
  });

  test("another site's session goes there", async () => {
    const cookie = `a=b; ${WEST_COOKIE}=x`;
    const said = await hold({ cookie }, ['--cookie', cookie]);
    expect(said).toContain('row 3, forward: it carries the cookie of west, and west is up: to west\n');
    expect(said).toMatch(/route ".*" to remote_pool/);
  });

  test('a request that another site has forwarded stays, and takes the other cookie away', async () => {
    const headers = { 'x-site-hop': 'west', cookie: `${WEST_COOKIE}=x; ${EAST_COOKIE}=y` };
    const said = await hold(headers, ['--hop', 'west', '--cookie', headers.cookie]);
    expect(said).toMatch(/^row 2, (local|adopt): west has forwarded it, and the local pool is up: served here$/m);
    expect(said).toContain(`and expires ${WEST_COOKIE}\n`);
  });

  test('the status URI is answered', async () => {
    const said = await explain('/local_pool_status?x=1');
    expect(said).toContain(
      'row 1, status: the path is the status URI, and the local pool is up: the answer is 200 "LOCAL POOL STATE: UP"',
    );
  });

  test('what becomes of a session whose site is down, and of all when this one is', async () => {
    await lab.west.stopPool();
    await lab.east.waitForRemote('down');
    const cookie = `${WEST_COOKIE}=x`;
    const adopted = await hold({ cookie }, ['--cookie', cookie]);
    expect(adopted).toContain('row 4, adopt: its owner west is down, and the local pool is up: served here\n');
    expect(adopted).toContain(`and expires ${WEST_COOKIE}\n`);
    await lab.west.startPool();
    await lab.east.waitForRemote('up');
    await lab.east.stopPool();
    await lab.east.waitForStatus(503);
    const own = `${EAST_COOKIE}=x`;
    const moved = await hold({ cookie: own }, ['--cookie', own]);
    expect(moved).toContain(
      'row 5, failover: its owner east is down, and the local pool is down: to west, the first site that is up\n',
    );
    expect(await explain('/x', '--hop', 'west')).toContain(
      'row 2, refuse: west has forwarded it, and the local pool is down: 503 with x-site-refused: east\n',
    );
    await lab.east.startPool();
    await lab.east.waitForStatus(200);
  });

  test('what becomes of a session whose site is held', async () => {
    const order = (path: string) => fetch(`${lab.east.opsUrl}${path}`, { method: 'POST' });
    expect((await order('/hold?site=west&reason=rehearsal')).status).toBe(200);
    const cookie = `${WEST_COOKIE}=x`;
    const adopted = await hold({ cookie }, ['--cookie', cookie]);
    expect(adopted).toContain(
      'row 4, adopt: its owner west is held (rehearsal), and the local pool is up: served here\n',
    );
    await order('/release?site=west');
    await lab.ready();
  });

  test('what becomes of a session that a drain moves away', async () => {
    const drain = async (...args: string[]) => await runCli([...args, '--config', lab.east.configFile]);
    expect((await drain('drain', '--evict')).code).toBe(0);
    const cookie = `${EAST_COOKIE}=x`;
    const moved = await hold({ cookie }, ['--cookie', cookie]);
    expect(moved).toContain('row 5, failover: its owner east drains, and east moves its sessions away: to west');
    expect((await drain('undrain')).code).toBe(0);
  });

  test('without an Envoy or a sidecar it says which is missing', async () => {
    const { code, stderr } = await runCli(['explain', 'cart', '--config', lab.east.configFile]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: 'cart: is not a path: it begins with /\n' });
    await lab.east.sidecar().stop('SIGKILL');
    const gone = await runCli(['explain', '/', '--config', lab.east.configFile]);
    expect(gone).toMatchObject({ code: 1, stderr: expect.stringContaining('no sidecar answers at') });
    await lab.east.startSidecar();
    await lab.ready();
  });
});
