import { once } from 'node:events';
import { createServer as createHttpServer, get } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { Host } from '../../src/envoy-admin/admin-client.ts';
import { FailureReasons } from '../../src/health/failure-reasons.ts';
import { nextPoolState, watchedPools } from '../../src/health/pool.ts';
import { ChangeLog } from '../../src/log/changes.ts';
import { TestLog } from './site.ts';

/** Which failing servers are asked why, and when; the clock is the test's, the servers are real. */

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
afterEach(() => void vi.useRealTimers());

const CHECK = '{ path: /healthz, timeout: 200ms }';

/** East with so many other sites. */
function configOf(sites: number): Config {
  const remotePools = Array.from(
    { length: sites },
    (_, index) =>
      `  - { site: s${index}, cluster: c${index}, cookie: S${index}, servers: [s${index}.example.com:443] }`,
  );
  return parseConfig(
    `site: east
local_pool: { cluster: local_pool, cookie: KVAAVROI, health_check: ${CHECK} }
remote_pools:
${remotePools.join('\n')}
`,
    'site.yaml',
  );
}

function failed(address: string): Host {
  return { address, up: false, draining: false, why: 'failed active health check' };
}

/** The sidecar's part that asks, at a site whose pools have these servers, all of which fail. */
function startSite(pools: readonly (readonly string[])[]) {
  const config = configOf(Math.max(1, pools.length - 1));
  const log = new TestLog();
  const reasons = new FailureReasons(config, new ChangeLog(log.logger));
  onTestFinished(() => reasons.close());
  const watched = watchedPools(config);
  const settings = { minUp: 1, drains: false, holdUpMs: 0, nowMs: 0 };
  const observe = (addresses = pools) =>
    reasons.observe(
      watched,
      watched.map((_, index) => {
        const hosts = (addresses[index] ?? []).map(failed);
        return { ...nextPoolState(undefined, undefined, settings), hosts };
      }),
    );
  const whyOf = (pool: number, address: string) =>
    reasons.explained(watched[pool]?.cluster ?? '', failed(address)).why.replace(/^failed active health check:? ?/, '');
  const told = () => log.matching(/^health check of/).map((line) => line.replace(/^.* fails: /, ''));
  /** Lets time pass, and has a poll after it. */
  const poll = (afterMs: number) => {
    vi.advanceTimersByTime(afterMs);
    observe();
  };
  return { observe, poll, whyOf, told, untilTold: (text: string) => untilTold(told, text) };
}

async function untilTold(told: () => string[], text: string): Promise<void> {
  await waitUntil(() => told().at(-1) === text, { what: `${text} to be told`, intervalMs: 2 });
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A server whose answers the test sets. */
async function startServer(status: number) {
  const state = { status, asked: 0 };
  const server = createHttpServer(({ url }, response) => {
    if (url === '/healthz') state.asked += 1;
    response.writeHead(state.status).end();
  });
  const address = await listen(server);
  /** How often it was asked, with what is under way. */
  const asked = async () => {
    for (let turn = 0; turn < 3; turn += 1) {
      const [response] = await once(get(`http://${address}/`, { agent: false }), 'response');
      await once(response.resume(), 'end');
    }
    return state.asked;
  };
  return { state, address, asked };
}

/** Addresses on which nothing listens. */
const refusing = (count: number, net = 0) => Array.from({ length: count }, (_, index) => `127.0.${net}.${index + 1}:1`);

describe('a reason is told', () => {
  test('of each failing server of a pool', async () => {
    const addresses = refusing(20);
    const site = startSite([addresses]);
    site.observe();
    const isEachTold = () => addresses.every((address) => site.whyOf(0, address) === 'connection refused');
    await waitUntil(isEachTold, { what: 'a reason of each' });
  });

  test('of servers of each pool, however many fail in the one before it', async () => {
    const pools = [refusing(60, 0), ...Array.from({ length: 8 }, (_, index) => refusing(7, index + 1))];
    const site = startSite(pools);
    site.observe();
    await waitUntil(() => site.told().length >= 50, { what: '50 reasons' });
    const shares = pools.map((pool, index) => pool.filter((address) => site.whyOf(index, address) !== '').length);
    expect(shares).toEqual([6, 6, 6, 6, 6, 5, 5, 5, 5]);
  });
});

describe('a failing server is asked again', () => {
  test('each 2 s for half a minute after a change, then each 10 s', async () => {
    const { state, address, asked } = await startServer(404);
    const site = startSite([[address]]);
    site.observe();
    await site.untilTold('answered 404, expected 200-399');
    site.poll(1_900);
    expect(await asked()).toBe(1);
    state.status = 501;
    site.poll(100);
    await site.untilTold('answered 501, expected 200-399');
    site.poll(29_000);
    await waitUntil(async () => (await asked()) === 3, { what: 'it to be asked' });
    site.poll(2_000);
    expect(await asked()).toBe(3);
    site.poll(7_900);
    expect(await asked()).toBe(3);
    state.status = 503;
    site.poll(100);
    await site.untilTold('answered 503, expected 200-399');
    expect(site.told().map((text) => text.slice(9, 12))).toEqual(['404', '501', '503']);
  });

  test('as seldom as one that stays the same where it goes to and fro between reasons', async () => {
    const { state, address, asked } = await startServer(500);
    const site = startSite([[address]]);
    const turnTo = async (status: number, afterMs: number) => {
      state.status = status;
      site.poll(afterMs);
      await site.untilTold(`answered ${status}, expected 200-399`);
    };
    site.observe();
    await site.untilTold('answered 500, expected 200-399');
    await turnTo(503, 2_000);
    for (const status of [500, 503, 500, 503]) await turnTo(status, 10_000);
    site.poll(9_000);
    expect(await asked()).toBe(6);
    await turnTo(500, 1_000);
  });

  test('only after it has answered, and ten at once', async () => {
    const asked: number[] = [];
    let most = 0;
    const servers = Array.from({ length: 12 }, () =>
      createServer((socket) => {
        asked.push(socket.localPort ?? 0);
        most = Math.max(most, asked.length - site.told().length);
      }),
    );
    const site = startSite([await Promise.all(servers.map(listen))]);
    site.observe();
    await waitUntil(() => asked.length === 10, { what: 'ten to be asked' });
    site.poll(5_000);
    await waitUntil(() => site.told().length === 12, { what: 'a reason of each' });
    expect(new Set(site.told())).toEqual(new Set(['no answer within 200 ms']));
    expect(most).toBe(10);
    expect(new Set(asked).size).toBe(asked.length);
  });
});

test('a server that answers well again is told of only when Envoy had the time to notice', async () => {
  const { state, address } = await startServer(404);
  const site = startSite([[address]]);
  site.observe();
  await site.untilTold('answered 404, expected 200-399');
  state.status = 200;
  for (let asked = 2; asked <= 6; asked += 1) {
    site.poll(2_000);
    await waitUntil(() => state.asked === asked, { what: 'it to be asked' });
  }
  expect(site.told()).toHaveLength(1);
  site.poll(2_000);
  await site.untilTold("only Envoy's own, from here it succeeds: answered 200");
});
