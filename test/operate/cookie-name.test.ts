import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLI } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client, serverOf } from '../support/client.ts';
import { reload, writeConfig } from '../support/reload.ts';
import { EAST_COOKIE, type SiteLab, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

const run = promisify(execFile);

const OLD = EAST_COOKIE;
const NEW = 'EASTNEW';

interface EastCookie {
  readonly name: string;
  readonly also: readonly string[];
}

/** The edits of docs/operations.md, each made at one site after the other. */
const KNOWN_EVERYWHERE: EastCookie = { name: OLD, also: [NEW] };
const RENAMED: EastCookie = { name: NEW, also: [OLD] };
const FORGOTTEN: EastCookie = { name: NEW, also: [] };

interface Pools {
  readonly local_pool: Record<string, unknown>;
  readonly remote_pools: Record<string, unknown>[];
}

/** A session of east that nobody has used since. */
interface Idle {
  readonly client: Client;
  readonly server: string;
}

describe.each([
  { fastPath: true, envoyVersion: '1.40.0', isEnvoyFirst: true },
  { fastPath: false, envoyVersion: '1.36.4', isEnvoyFirst: false },
] as const)('the name of a cookie is changed: %j', (options) => {
  let lab: TwoSites;
  let used: Idle;
  let ofWest: Idle;
  const idle: Idle[] = [];

  beforeAll(async () => {
    lab = await startTwoSites(options);
    used = await sessionAt(lab.east);
    ofWest = await sessionAt(lab.west);
    for (let count = 0; count < 44; count++) idle.push(await sessionAt(lab.east));
  });
  afterAll(async () => {
    for (const { client } of [used, ofWest, ...idle]) client?.close();
    await lab?.close();
  });

  async function apply(site: SiteLab, cookie: EastCookie): Promise<void> {
    await writeConfig(site, (file) => {
      const { applications } = file;
      const [first] = Array.isArray(applications) ? applications : [];
      const pools: Pools = first ?? file;
      (site.name === 'east' ? pools.local_pool : (pools.remote_pools[0] ?? {})).cookie = { ...cookie };
    });
    if (!options.isEnvoyFirst) await reload(site);
    else await restartEnvoy(site);
    // Envoy and its sidecar are never changed at one stroke.
    for (const session of [used, ofWest, ...(cookie.also.length === 0 ? [] : [nextIdle()])]) {
      for (const edge of [...lab.sites, ...lab.sites]) {
        expect([edge.name, serverOf(await session.client.ask(edge.url))]).toEqual([edge.name, session.server]);
      }
    }
    if (options.isEnvoyFirst) await reload(site);
    else await restartEnvoy(site);
  }

  async function restartEnvoy(site: SiteLab): Promise<void> {
    const other = site.name === 'east' ? lab.west : lab.east;
    await site.envoy?.stop();
    // Noticed late, the end of the old Envoy would be taken for that of the new one.
    await other.waitForRemote('down');
    await site.render((text) => text);
    await site.startEnvoy();
    await readyWithAllServers();
  }

  /** A pool is up with one server, and the sessions of the other would move to it. */
  async function readyWithAllServers(): Promise<void> {
    await lab.ready();
    for (const site of lab.sites) {
      await waitUntil(() => isAllUp(site), { what: `all servers of ${site.name} to be up` });
    }
  }

  /** By both edges, first by that of a site. */
  async function expectToStay({ client, server }: Idle, first: SiteLab, cookies: readonly string[]): Promise<void> {
    const other = first === lab.east ? lab.west : lab.east;
    for (const edge of [first, other, first]) {
      const answer = await client.ask(edge.url);
      expect([edge.name, serverOf(answer)]).toEqual([edge.name, server]);
      // From the first answer on; what is there beside it the next one takes away.
      expect([...client.cookies.keys()]).toEqual(expect.arrayContaining([...cookies]));
    }
    expect([...client.cookies.keys()]).toEqual(cookies);
  }

  /** What has been in use, and what has been idle since before the change: half of it comes by each edge. */
  async function expectAllToStay(name: string): Promise<void> {
    await expectToStay(used, lab.west, [name]);
    await expectToStay(ofWest, lab.east, [WEST_COOKIE]);
    for (let count = 0; count < 6; count++) await expectToStay(nextIdle(), count < 3 ? lab.east : lab.west, [name]);
    const fresh = await sessionAt(lab.east);
    await expectToStay(fresh, lab.west, [name]);
    fresh.client.close();
  }

  function nextIdle(): Idle {
    const next = idle.pop();
    if (next === undefined) throw new Error('no session is left that was idle');
    return next;
  }

  test('no session leaves its site or its server while the sites learn the new name', async () => {
    for (const site of [lab.west, lab.east]) {
      await apply(site, KNOWN_EVERYWHERE);
      await expectAllToStay(OLD);
    }
  });

  test('nor while the sites take it, and each client then holds the one cookie', async () => {
    for (const site of [lab.east, lab.west]) {
      await apply(site, RENAMED);
      await expectAllToStay(NEW);
    }
  });

  test('doctor finds the filters for the old name in the running Envoy', async () => {
    const { stdout } = await run(process.execPath, [CLI, 'doctor', '--config', lab.east.configFile]);
    expect(stdout).toContain(`a session whose cookie is still called ${OLD} stays at its server`);
  });

  test('the old and the new name of one site are no duplicates, and the old one goes', async () => {
    const session = nextIdle();
    const old = session.client.cookies.get(OLD) ?? '';
    for (let count = 0; count < 2; count++) await session.client.ask(lab.west.url);
    session.client.cookies.set(OLD, old);
    await expectToStay(session, lab.west, [NEW]);
    for (const site of lab.sites) expect((await site.state()).duplicate_cookies).toBe(0);
  });

  test("the application's other cookies reach it, and the old one as it came", async () => {
    const { client } = nextIdle();
    const old = `${OLD}=${client.cookies.get(OLD)}`;
    const cookie = `a="1; x=y"; ${old};b==; c`;
    const answer = await client.ask(lab.west.url, { headers: { cookie } });
    expect(JSON.stringify(answer)).toContain(JSON.stringify(cookie).slice(1, -1));
    client.close();
  });

  test('a session with the old name is adopted as any other, and does not return', async () => {
    const byEast = nextIdle();
    const byWest = nextIdle();
    await lab.east.stopPool();
    await lab.east.waitForStatus(503);
    await lab.west.waitForRemote('down');
    for (const [session, edge] of [
      [byEast, lab.east],
      [byWest, lab.west],
    ] as const) {
      const adopted = await session.client.ask(edge.url);
      expect(adopted.site).toBe('west');
      expect([...session.client.cookies.keys()]).toEqual([WEST_COOKIE]);
    }
    await lab.east.startPool();
    await readyWithAllServers();
    for (const { client } of [byEast, byWest]) {
      expect((await client.ask(lab.east.url)).site).toBe('west');
      client.close();
    }
  });

  test('without sidecars sessions with the old name stay at their server', async () => {
    for (const site of lab.sites) await site.sidecar().stop('SIGKILL');
    for (const edge of [lab.east, lab.west, lab.east, lab.west]) await expectToStay(nextIdle(), edge, [NEW]);
    await lab.restore();
  });

  test('when the old name is taken out, who has been there since stays', async () => {
    for (const site of [lab.west, lab.east]) {
      await apply(site, FORGOTTEN);
      await expectToStay(used, lab.west, [NEW]);
      await expectToStay(ofWest, lab.east, [WEST_COOKIE]);
    }
  });
});

async function sessionAt(site: SiteLab): Promise<Idle> {
  const client = new Client();
  return { client, server: serverOf(await client.ask(site.url)) };
}

/** In each cluster of the local pool, for each has health checks of its own; the one that may leave the site is of Envoy 1.40. */
async function isAllUp(site: SiteLab): Promise<boolean> {
  const filter = '^cluster\\.local_pool(_or_elsewhere)?\\.membership_healthy$';
  const text = await (await fetch(`${site.adminUrl}/stats?filter=${encodeURIComponent(filter)}`)).text();
  const counts = [...text.matchAll(/membership_healthy: (\d+)$/gm)].map(([, count]) => Number(count));
  return counts.length > 0 && counts.every((count) => count === site.apps.length);
}
