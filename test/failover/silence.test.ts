import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { HopCertificates } from '../support/hop-certificates.ts';
import { Load, type LoadReport } from '../support/load.ts';
import { canSilenceLink, LINK_ADDRESS, silenceLink } from '../support/silent-link.ts';
import {
  type ConfigFile,
  type EnvoyRelease,
  type SiteLab,
  startTwoSites,
  type TwoSites,
  WEST_COOKIE,
} from '../support/two-sites.ts';
import { type EchoSocket, openWebSocket } from '../support/web-socket.ts';

/**
 * What falls silent instead of refusing: a link that drops packets, an Envoy and servers that hang. Nobody waits for longer
 * than it takes the health checks to condemn it.
 */

/** 5 s, and what a busy machine adds; without any of it the wait is 300 s. */
const LONGEST_MS = 6_000;
const POST = { method: 'POST', body: Buffer.alloc(2_000, 'x'), timeoutMs: 60_000 };
const GET = { timeoutMs: 60_000 };

const rows: object[] = [];
afterAll(() => console.table(rows));

const isPossible = await canSilenceLink();

type Configure = (file: ConfigFile, site: 'east' | 'west') => void;

/** East reaches west by the link that can be silenced; clients reach both without it. */
async function withLab(
  envoyVersion: EnvoyRelease,
  configure: Configure,
  body: (lab: TwoSites) => Promise<void>,
): Promise<void> {
  const lab = await startTwoSites({
    envoyVersion,
    configure: (file, site) => {
      if (site === 'west') file.envoy.listen = String(file.envoy.listen).replace('127.0.0.1', '0.0.0.0');
      else for (const pool of file.remote_pools) pool.servers = (pool.servers as string[]).map(overLink);
      configure(file, site);
    },
  });
  try {
    await body(lab);
  } finally {
    await lab.close();
  }
}

const overLink = (address: string) => address.replace('127.0.0.1', LINK_ADDRESS);

interface Loads {
  readonly get: Load;
  readonly post: Load;
}

async function startLoads(homes: readonly string[], edges: readonly string[]): Promise<Loads> {
  const get = await Load.start({ clients: 8, homes, edges, request: GET });
  const post = await Load.start({ clients: 4, homes, edges, request: POST });
  return { get, post };
}

async function expectNobodyWaits(what: string, { get, post }: Loads): Promise<{ get: LoadReport; post: LoadReport }> {
  const [gets, posts] = await Promise.all([get.stop(), post.stop()]);
  for (const [method, { requests, lost, longestMs, moved, mostLostByOneClient }] of [
    ['GET', gets],
    ['POST', posts],
  ] as const) {
    rows.push({ what, method, requests, lost, mostLostByOneClient, 'longest wait ms': longestMs, moved });
  }
  expect(gets.lost, gets.losses.join('\n')).toBe(0);
  expect(posts.mostLostByOneClient, posts.losses.join('\n')).toBeLessThanOrEqual(1);
  expect(Math.max(gets.longestMs, posts.longestMs)).toBeLessThanOrEqual(LONGEST_MS);
  return { get: gets, post: posts };
}

describe.skipIf(!isPossible).each(['1.40.0', '1.36.4'] as const)('Envoy %s', (envoyVersion) => {
  test.each(['auto', 'http1', 'http2'] as const)(
    'the link to the other site falls silent, protocol %s',
    async (protocol) => {
      const configure: Configure = (file) => {
        for (const pool of file.remote_pools) pool.protocol = protocol;
      };
      await withLab(envoyVersion, configure, async (lab) => {
        const loads = await startLoads([lab.west.url], [lab.east.url]);
        const socket = await openWebSocket(lab.east.url, loads.get.cookieOfClient(0));
        await loads.get.during(200);
        const restore = await silenceLink();
        try {
          await expectEnd(`silent link, ${protocol}, ${envoyVersion}`, socket);
          await loads.get.during(800);
          await loads.post.during(100);
        } finally {
          await restore();
        }
        await loads.get.during(200);
        await expectNobodyWaits(`silent link, ${protocol}, ${envoyVersion}`, loads);
      });
    },
  );

  test.each(['auto', 'http1'] as const)(
    'the link falls silent on which the sites speak TLS, protocol %s',
    async (protocol) => {
      const directory = await mkdtemp(join(tmpdir(), 'site-persistence-silence-'));
      onTestFinished(() => rm(directory, { recursive: true, force: true }));
      const certificates = await HopCertificates.create(directory);
      const configure: Configure = (file, site) => {
        certificates.configure(file, site);
        if (site === 'west') file.envoy.hop_listen = `0.0.0.0:${certificates.ports.west}`;
        for (const pool of file.remote_pools) {
          pool.protocol = protocol;
          if (site === 'east') pool.servers = [overLink(`127.0.0.1:${certificates.ports.west}`)];
        }
      };
      await withLab(envoyVersion, configure, async (lab) => {
        const loads = await startLoads([lab.west.url], [lab.east.url]);
        await loads.get.during(200);
        const restore = await silenceLink();
        try {
          await loads.get.during(800);
          await loads.post.during(100);
        } finally {
          await restore();
        }
        await loads.get.during(200);
        await expectNobodyWaits(`silent link, TLS, ${protocol}, ${envoyVersion}`, loads);
      });
    },
  );

  // HTTP/1.1 in clear text has no way to tell that a new connection leads into silence.
  test.each(['auto', 'http2'] as const)(
    'a POST for which a connection has to be opened, protocol %s',
    async (protocol) => {
      if (protocol === 'auto' && envoyVersion !== '1.40.0') return;
      const configure: Configure = (file) => {
        for (const pool of file.remote_pools) pool.protocol = protocol;
      };
      await withLab(envoyVersion, configure, async (lab) => {
        const cluster = protocol === 'auto' ? 'remote_pool_http2' : 'remote_pool';
        await waitUntil(async () => (await lab.east.stat(`cluster.${cluster}.membership_healthy`)) === 1, {
          what: cluster,
        });
        const restore = await silenceLink();
        try {
          const client = new Client();
          const answer = await client.request(lab.east.url, { ...POST, headers: { cookie: `${WEST_COOKIE}=x` } });
          rows.push({
            what: `POST on a new connection, ${protocol}, ${envoyVersion}`,
            'longest wait ms': answer.durationMs,
          });
          expect(answer.status).toBe(200);
          expect(answer.durationMs).toBeLessThanOrEqual(3_500);
          client.close();
        } finally {
          await restore();
        }
      });
    },
  );

  test('the other Envoy hangs', async () => {
    await withLab(
      envoyVersion,
      () => {},
      async (lab) => {
        const loads = await startLoads([lab.west.url], [lab.east.url]);
        await loads.get.during(200);
        lab.west.envoy?.signal('SIGSTOP');
        await loads.get.during(800);
        await loads.post.during(100);
        lab.west.envoy?.signal('SIGCONT');
        await loads.get.during(200);
        await expectNobodyWaits(`other Envoy hung, ${envoyVersion}`, loads);
      },
    );
  });

  test('one local server hangs, with close_when_down', async () => {
    await withLab(envoyVersion, closeWhenDown, async (lab) => {
      const loads = await startLoads([lab.east.url], [lab.east.url]);
      const socket = await openWebSocketTo('app-1', lab.east, loads.get);
      await loads.get.during(200);
      lab.east.apps[0]?.signal('SIGSTOP');
      await expectEnd(`local server hung, ${envoyVersion}`, socket);
      await untilClosed(lab.east, 1);
      await loads.get.during(500);
      await loads.post.during(100);
      lab.east.apps[0]?.signal('SIGCONT');
      await loads.get.during(200);
      const { get, post } = await expectNobodyWaits(`local server hung, ${envoyVersion}`, loads);
      expect(get.leftTheSite + post.leftTheSite).toBe(0);
    });
  });

  test('one local server is killed, with close_when_down: no GET is lost', async () => {
    await withLab(envoyVersion, closeWhenDown, async (lab) => {
      const get = await Load.start({ clients: 8, homes: [lab.east.url], edges: [lab.east.url], request: GET });
      await get.during(200);
      await lab.east.apps[0]?.stop('SIGKILL');
      await untilClosed(lab.east, 1);
      await get.during(200);
      const report = await get.stop();
      const { requests, lost, mostLostByOneClient, longestMs, moved } = report;
      const what = `local server killed, close_when_down, ${envoyVersion}`;
      rows.push({ what, method: 'GET', requests, lost, mostLostByOneClient, 'longest wait ms': longestMs, moved });
      expect(lost, report.losses.join('\n')).toBe(0);
      expect(report.leftTheSite).toBe(0);
    });
  });

  test('one local server hangs, with close_when_down and checks that are far apart', async () => {
    const configure: Configure = (file) => {
      closeWhenDown(file);
      file.local_pool.health_check = { path: '/healthz', interval: '3s', timeout: '500ms' };
    };
    await withLab(envoyVersion, configure, async (lab) => {
      const loads = await startLoads([lab.east.url], [lab.east.url]);
      await loads.get.during(200);
      lab.east.apps[0]?.signal('SIGSTOP');
      await untilClosed(lab.east, 1);
      await loads.get.during(200);
      lab.east.apps[0]?.signal('SIGCONT');
      const [gets, posts] = await Promise.all([loads.get.stop(), loads.post.stop()]);
      expect(gets.lost, gets.losses.join('\n')).toBe(0);
      expect(posts.mostLostByOneClient, posts.losses.join('\n')).toBeLessThanOrEqual(1);
      // 1.5 s, and 8 failures of 0.6 s.
      expect(Math.max(gets.longestMs, posts.longestMs)).toBeLessThanOrEqual(8_000);
    });
  });

  test('the servers of the other site hang, with close_when_down', async () => {
    await withLab(envoyVersion, closeWhenDown, async (lab) => {
      const loads = await startLoads([lab.west.url], [lab.east.url]);
      await loads.get.during(200);
      for (const app of lab.west.apps) app.signal('SIGSTOP');
      await untilClosed(lab.west, 0);
      await loads.get.during(500);
      await loads.post.during(100);
      for (const app of lab.west.apps) app.signal('SIGCONT');
      await loads.get.during(200);
      await expectNobodyWaits(`other site's servers hung, ${envoyVersion}`, loads);
    });
  });
});

/** One by a session of the load that is at this server. */
async function openWebSocketTo(server: string, site: SiteLab, load: Load): Promise<EchoSocket> {
  for (const client of load.clients.keys()) {
    const socket = await openWebSocket(site.url, load.cookieOfClient(client));
    if (socket.greeting === `${site.name}/${server}`) return socket;
    socket.close();
  }
  throw new Error(`no session is at ${server}`);
}

/** A WebSocket into silence ends no more than 1 s later than requests do, for Envoy delays its end by so much. */
async function expectEnd(what: string, socket: EchoSocket): Promise<void> {
  const from = performance.now();
  await waitUntil(() => socket.isClosed, { what: 'a WebSocket into silence to end', timeoutMs: 30_000 });
  const endedAfterMs = Math.round(performance.now() - from);
  rows.push({ what, method: 'WebSocket', 'longest wait ms': endedAfterMs });
  expect(endedAfterMs).toBeLessThanOrEqual(LONGEST_MS + 1_000);
}

/** Until what was open to the servers that hang has been closed. */
async function untilClosed(site: SiteLab, serversLeft: number): Promise<void> {
  const name = 'cluster.local_pool_closing.membership_healthy';
  await waitUntil(async () => (await site.stat(name)) === serversLeft, { what: `${name} to be ${serversLeft}` });
}

function closeWhenDown(file: ConfigFile): void {
  file.local_pool.close_when_down = true;
}
