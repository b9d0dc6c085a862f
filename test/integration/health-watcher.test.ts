import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { RouteCounts } from '../../src/health/route-counts.ts';
import { createHealthWatcher, type HealthMemory, type HealthWatcher } from '../../src/health/watcher.ts';
import { ChangeLog } from '../../src/log/changes.ts';
import { Counters } from '../../src/metrics/counters.ts';
import type { AdminMood, FakeAdmin, HostState } from '../support/fake-admin.ts';
import {
  type After,
  configOf,
  EAST_COOKIE,
  eastFile,
  manyApplications,
  type SiteFile,
  setPoolsOfMany,
  startAdmin,
  TestLog,
  temporaryDirectory,
  WEST_COOKIE,
} from './site.ts';

interface Watched {
  readonly watcher: HealthWatcher;
  readonly log: TestLog;
}

/** A watcher for the running test, not yet started. */
async function createWatcher(
  admin: FakeAdmin,
  changes: SiteFile = {},
  after: After = onTestFinished,
  memory?: HealthMemory,
): Promise<Watched> {
  const log = new TestLog();
  const counters = new Counters();
  const watcher = createHealthWatcher({
    config: configOf(await eastFile(admin, changes)),
    changes: new ChangeLog(log.logger),
    ...{ counters, routeCounts: new RouteCounts(counters) },
    ...(memory === undefined ? {} : { memory }),
  });
  after(() => watcher.close());
  return { watcher, log };
}

/** A watcher that has polled and said what it saw. */
async function watch(admin: FakeAdmin, changes: SiteFile = {}, after: After = onTestFinished): Promise<Watched> {
  const watched = await createWatcher(admin, changes, after);
  void watched.watcher.start();
  await seen(admin);
  return watched;
}

/** Waits until the admin's present state has been seen and logged: a count, the hosts where it changed, the next count. */
async function seen(admin: FakeAdmin): Promise<void> {
  await admin.waitForRequests(3);
}

/** Which pools are up; `unknown` where that is not known. */
function upPools(watcher: HealthWatcher): readonly boolean[] | 'unknown' {
  const health = watcher.current(0);
  return health.known ? health.up : 'unknown';
}

async function untilUp(watcher: HealthWatcher, expected: readonly boolean[] | 'unknown'): Promise<void> {
  await waitUntil(() => JSON.stringify(upPools(watcher)) === JSON.stringify(expected), {
    what: `health to be ${JSON.stringify(expected)}`,
    intervalMs: 2,
  });
}

/** The first pool's servers as `up/total`, and what is said of those that are not up. */
function localPool(watcher: HealthWatcher): { servers: string; down: string[] } {
  const pool = watcher.pools()[0];
  return {
    servers: `${pool?.count.up}/${pool?.count.total}`,
    down: (pool?.hosts ?? []).filter((host) => !host.up).map((host) => `${host.address} ${host.why}`),
  };
}

describe('a poll', () => {
  test('is the first that is known of health', async () => {
    const admin = await startAdmin();
    const { watcher } = await createWatcher(admin);
    expect([upPools(watcher), watcher.pools(), watcher.ageMs()]).toEqual(['unknown', [], null]);
    void watcher.start();
    await untilUp(watcher, [true, true]);
    expect(watcher.ageMs()).toBeLessThan(1_000);
  });

  test('asks for the numbers of its pools only', async () => {
    const admin = await startAdmin();
    await watch(admin);
    const url = new URL(admin.requests[0] ?? '', 'http://envoy');
    expect([url.pathname, url.searchParams.get('format')]).toEqual(['/stats', 'json']);
    const asked = new RegExp(url.searchParams.get('filter') ?? '');
    expect(asked.test('cluster.remote_pool.membership_healthy')).toBe(true);
    expect(asked.test('cluster.another_pool.membership_healthy')).toBe(false);
    expect(asked.test('cluster.remote_pool.upstream_cx_active')).toBe(false);
  });

  test('asks for the hosts only where something changed', async () => {
    const admin = await startAdmin();
    await watch(admin);
    await admin.waitForRequests(10);
    expect(admin.requests.filter((request) => request.startsWith('/clusters'))).toHaveLength(1);
  });

  test('does not ask for the hosts of a pool that has thousands', async () => {
    const admin = await startAdmin();
    admin.setPool(
      'local_pool',
      Array.from({ length: 1_001 }, (): HostState => 'up'),
    );
    admin.setPool('remote_pool', ['up', 'ejected']);
    const { watcher, log } = await watch(admin);
    const asked = admin.requests.filter((path) => path.startsWith('/clusters'));
    expect(asked).toEqual([expect.not.stringContaining('local_pool')]);
    expect(watcher.pools().map((pool) => [pool.count.total, pool.hosts.length])).toEqual([
      [1_001, 0],
      [2, 2],
    ]);
    expect(log.matching(/local_pool/)).toEqual(['info pool local_pool (east) is up: 1001 of 1001 servers up']);
  });
});

test('of 1,000 applications the pools are asked for in requests that Envoy takes', async () => {
  const COUNT = 1_000;
  const admin = await startAdmin();
  setPoolsOfMany(admin, COUNT);
  admin.setPool(`app-${COUNT}_north`, ['ejected']);
  const { watcher, log } = await createWatcher(admin, manyApplications(COUNT));
  await watcher.start();
  await waitUntil(() => watcher.pools().every((pool) => pool.count.total > 0), { what: 'all pools to be seen' });
  expect(watcher.pools()).toHaveLength(3 * COUNT);
  expect(watcher.pools().filter((pool) => !pool.isUp)).toHaveLength(1);
  expect(log.matching(/cannot read health/)).toEqual([]);
  expect(Math.max(...admin.requests.map((path) => path.length))).toBeLessThan(60_000);
});

test('an application more leaves the health of the others known, though the first poll after it fails', async () => {
  const admin = await startAdmin();
  setPoolsOfMany(admin, 3);
  const health = { stale_after: '60s' };
  const { watcher: before } = await createWatcher(admin, { ...manyApplications(2), health });
  await before.start();
  admin.mood = 'dripping';
  const more = { ...manyApplications(3), health };
  const { watcher } = await createWatcher(admin, more, onTestFinished, before.memory());
  expect(watcher.isKnown).toBe(false);
  await watcher.start();
  expect([0, 1, 2].map((application) => watcher.current(application).known)).toEqual([true, true, false]);
  admin.mood = 'well';
  await waitUntil(() => watcher.isKnown, { what: 'the health of all to be known' });
  expect(watcher.current(2)).toEqual({ known: true, up: [true, true, true] });
});

describe('of an answer no more is read than the question can need:', () => {
  test('of the numbers', async () => {
    const admin = await startAdmin();
    admin.mood = 'huge';
    const { watcher, log } = await createWatcher(admin);
    await watcher.start();
    expect(upPools(watcher)).toBe('unknown');
    expect(log.matching(/cannot read health/)).toEqual([
      expect.stringMatching(/: its answer to GET \/stats is longer than the limit of 48 KiB$/),
    ]);
  });

  test('of the hosts behind them', async () => {
    const admin = await startAdmin();
    admin.clustersMood = 'huge';
    const { watcher } = await watch(admin);
    expect(watcher.pools().map((pool) => [pool.count.total, pool.hosts.length])).toEqual([
      [2, 0],
      [1, 0],
    ]);
  });

  test('of the hosts that take the place of hidden numbers, and what to do is said', async () => {
    const admin = await startAdmin();
    admin.hidesStats = true;
    admin.clustersMood = 'huge';
    const { watcher, log } = await createWatcher(admin);
    await watcher.start();
    expect(upPools(watcher)).toBe('unknown');
    expect(log.matching(/cannot read health/)).toEqual([
      expect.stringMatching(
        /GET \/clusters is longer than the limit of 2 MiB; it is asked since .* hide the membership gauges of local_pool, remote_pool: let its stats_matcher show them$/,
      ),
    ]);
  });

  test('of pools that together have many servers, which are asked for one after the other', async () => {
    const admin = await startAdmin();
    const many = (count: number) => Array.from({ length: count }, (): HostState => 'up');
    admin.setPool('local_pool', many(1_000));
    admin.setPool('remote_pool', many(999));
    const { watcher } = await watch(admin);
    await waitUntil(() => watcher.pools().every((pool) => pool.hosts.length === pool.count.total), {
      what: 'the servers to be named',
    });
    expect(admin.requests.filter((path) => path.startsWith('/clusters'))).toHaveLength(2);
  });
});

describe.concurrent('the pace:', () => {
  test('a poll waits for the one before, however slow that is', async ({ expect, onTestFinished: after }) => {
    const admin = await startAdmin(undefined, after);
    admin.mood = 'slow';
    const { watcher } = await createWatcher(admin, { health: { poll_interval: '10ms', stale_after: '4s' } }, after);
    void watcher.start();
    await admin.waitForRequests(10);
    expect(admin.maxInFlight).toBe(1);
    expect(upPools(watcher)).toEqual([true, true]);
  });

  test('a poll is given up after half of stale_after, and the next one does not wait for it', async ({
    expect,
    onTestFinished: after,
  }) => {
    const admin = await startAdmin(undefined, after);
    admin.mood = 'silent';
    const { watcher, log } = await createWatcher(
      admin,
      { health: { poll_interval: '20ms', stale_after: '200ms' } },
      after,
    );
    void watcher.start();
    await admin.waitForRequests(3);
    expect(log.matching(/cannot read health/)).toEqual([expect.stringContaining('no answer within 100 ms')]);
    expect(admin.maxInFlight).toBe(1);
    admin.mood = 'well';
    await untilUp(watcher, [true, true]);
  });

  test('polls come less and less often while they fail, and at their own pace after that', async ({
    expect,
    onTestFinished: after,
  }) => {
    const admin = await startAdmin(undefined, after);
    const { watcher, log } = await watch(admin, {}, after);
    admin.mood = 'wrong status';
    const failingFrom = admin.requests.length;
    await waitUntil(() => log.matching(/cannot read health/).length > 0, { what: 'the failure to be noticed' });
    await pause(1_200);
    const failing = admin.requests.length - failingFrom;
    // At 40, 120, 280, 600 and 1,240 ms instead of sixty times.
    expect(failing).toBeGreaterThanOrEqual(3);
    expect(failing).toBeLessThanOrEqual(6);

    admin.mood = 'well';
    const wellFrom = performance.now();
    await waitUntil(() => log.matching(/answers again/).length > 0, { what: 'the end to be noticed' });
    expect(performance.now() - wellFrom).toBeLessThan(5_000);
    expect(upPools(watcher)).toEqual([true, true]);

    const backFrom = performance.now();
    await admin.waitForRequests(10);
    // Ten pauses of a second would be longer.
    expect(performance.now() - backFrom).toBeLessThan(5_000);
  });

  test('an Envoy that was gone for long is known again in under 2 s', async ({ expect, onTestFinished: after }) => {
    const admin = await startAdmin(undefined, after);
    const { watcher, log } = await watch(admin, { health: { poll_interval: '20ms', stale_after: '1s' } }, after);
    await admin.close();
    await untilUp(watcher, 'unknown');
    await pause(1_000);
    expect(log.matching(/cannot read health/)).toHaveLength(1);
    await admin.listen();
    const backFrom = performance.now();
    await untilUp(watcher, [true, true]);
    expect(performance.now() - backFrom).toBeLessThan(2_000);
  });

  test('an Envoy that hung is known again in well under 2 s', async ({ expect, onTestFinished: after }) => {
    const admin = await startAdmin(undefined, after);
    admin.mood = 'silent';
    // The longest pause there is, from the first failure on.
    const { watcher } = await createWatcher(admin, { health: { poll_interval: '1s', stale_after: '4s' } }, after);
    void watcher.start();
    await admin.waitForRequests(1);
    const backFrom = performance.now();
    admin.mood = 'well';
    await untilUp(watcher, [true, true]);
    expect(performance.now() - backFrom).toBeLessThan(1_950);
  });

  test('polls come at once and quickly while servers are failing', async ({ expect, onTestFinished: after }) => {
    const admin = await startAdmin(undefined, after);
    const { watcher } = await createWatcher(admin, { health: { poll_interval: '3s', stale_after: '12s' } }, after);
    void watcher.start();
    await untilUp(watcher, [true, true]);
    admin.failChecks('local_pool', 1);
    await admin.waitForRequests(2);
    const from = performance.now();
    await admin.waitForRequests(6);
    expect(performance.now() - from).toBeLessThan(2_000);
    admin.setPool('local_pool', ['failed health check', 'failed health check']);
    const downFrom = performance.now();
    await untilUp(watcher, [false, true]);
    expect(performance.now() - downFrom).toBeLessThan(1_500);
  });

  /** Polls in about a second, long after a server failed that stays down and whose checks fail this often. */
  async function pollsWithServerDown(after: After, checkIntervalMs: number): Promise<number> {
    const admin = await startAdmin(undefined, after);
    const { watcher } = await createWatcher(
      admin,
      {
        health: { poll_interval: '300ms', stale_after: '4s' },
        local_pool: {
          cluster: 'local_pool',
          cookie: 'KVAAVROI',
          health_check: { interval: `${checkIntervalMs}ms` },
        },
      },
      after,
    );
    void watcher.start();
    await untilUp(watcher, [true, true]);
    admin.setPool('local_pool', ['up', 'failed health check']);
    const checks = setInterval(() => admin.failChecks('local_pool', 1), checkIntervalMs);
    after(() => clearInterval(checks));
    await pause(4_000);
    // On a busy machine checks come in bunches, which looks like a server more that fails.
    let fewest = Number.POSITIVE_INFINITY;
    for (let time = 0; time < 10 && fewest > 4; time++) {
      const before = admin.requests.length;
      await pause(900);
      fewest = Math.min(fewest, admin.requests.length - before);
    }
    return fewest;
  }

  test('polls come at their own pace again after a while, though a server stays down', async (context) => {
    context.expect(await pollsWithServerDown(context.onTestFinished, 1_000)).toBeLessThanOrEqual(4);
  });

  test('polls come at their own pace again after a while, though servers are checked more often than polls come', async (context) => {
    context.expect(await pollsWithServerDown(context.onTestFinished, 100)).toBeLessThanOrEqual(4);
  });
});

describe('a pool', () => {
  test('has its servers counted, and what each of them lacks', async () => {
    const admin = await startAdmin();
    admin.setPool('local_pool', ['up', 'failed health check', 'ejected', 'EDS unhealthy', 'EDS draining']);
    const { watcher } = await watch(admin);
    expect(localPool(watcher)).toEqual({
      servers: '1/5',
      down: [
        expect.stringMatching(/^127\.0\.0\.1:3002 failed active health check/),
        '127.0.0.1:3003 failed outlier check',
        '127.0.0.1:3004 EDS says UNHEALTHY',
        '127.0.0.1:3005 draining',
      ],
    });
  });

  test('may have servers on IPv6 addresses and Unix sockets', async () => {
    const admin = await startAdmin();
    admin.setPool('local_pool', [
      { state: 'failed health check', address: '[fd00::1]:3001' },
      { state: 'ejected', address: '/run/app.sock' },
    ]);
    const { watcher } = await watch(admin);
    expect(localPool(watcher).down).toEqual([
      '[fd00::1]:3001 failed active health check',
      '/run/app.sock failed outlier check',
    ]);
  });

  test.each<[string, HostState[], boolean]>([
    ['is up with one server of several', ['up', 'ejected', 'failed health check'], true],
    ['is up with degraded servers alone', ['degraded', 'failed health check'], true],
    ['is up with a server that discovery no longer lists but Envoy still uses', ['leaving'], true],
    ['is down with every server down', ['ejected', 'failed health check'], false],
    ['is down without a server', [], false],
  ])('%s', async (_, hosts, isUp) => {
    const admin = await startAdmin();
    admin.setPool('local_pool', hosts);
    const { watcher } = await watch(admin);
    expect(upPools(watcher)).toEqual([isUp, true]);
  });

  test('is up with min_up servers and not with fewer', async () => {
    const admin = await startAdmin();
    const { watcher, log } = await watch(admin, {
      local_pool: { cluster: 'local_pool', cookie: 'KVAAVROI', min_up: 2 },
    });
    expect(upPools(watcher)).toEqual([true, true]);
    admin.setPool('local_pool', ['up', 'ejected']);
    await untilUp(watcher, [false, true]);
    await seen(admin);
    expect(log.matching(/pool local_pool/).at(-1)).toBe(
      'warn pool local_pool (east) is down: 1 of 2 servers up, min_up 2; 127.0.0.1:3002 failed outlier check',
    );
  });

  test('is held back after it was down for hold_up, and says so', async () => {
    const admin = await startAdmin();
    const { watcher, log } = await watch(admin, {
      health: { poll_interval: '20ms', stale_after: '4s', hold_up: '2s' },
    });
    expect(upPools(watcher)).toEqual([true, true]);
    admin.setPool('remote_pool', ['ejected']);
    await untilUp(watcher, [true, false]);
    admin.setPool('remote_pool', ['up']);
    const backFrom = performance.now();
    await seen(admin);
    expect(upPools(watcher)).toEqual([true, false]);
    await untilUp(watcher, [true, true]);
    // The last poll that saw it down was up to one interval before.
    expect(performance.now() - backFrom).toBeGreaterThan(1_500);
    await seen(admin);
    expect(log.matching(/pool remote_pool/).slice(-2)).toEqual([
      'warn pool remote_pool (west) is down: 1 of 1 servers up, held back by hold_up',
      'info pool remote_pool (west) is up: 1 of 1 servers up',
    ]);
  });
});

describe('health is unknown', () => {
  test('once the last good answer is older than stale_after, and not before', async () => {
    const admin = await startAdmin();
    const { watcher, log } = await watch(admin, { health: { poll_interval: '20ms', stale_after: '800ms' } });
    admin.mood = 'silent';
    while (upPools(watcher) !== 'unknown') {
      expect(watcher.ageMs()).toBeLessThanOrEqual(3_000);
      await pause(1);
    }
    expect(watcher.ageMs()).toBeGreaterThanOrEqual(800);
    await waitUntil(() => log.matching(/health is unknown/).length > 0, { what: 'the log to say so' });
    await admin.waitForRequests(2);
    expect(log.matching(/health is unknown/)).toEqual([
      "error health is unknown: no valid answer from Envoy for 800 ms; Envoy's fallback routes decide until one arrives",
    ]);
    // What was last seen can still be looked at.
    expect(localPool(watcher).servers).toBe('2/2');
  });

  test('a second time, and the log says so again', async () => {
    const admin = await startAdmin();
    const { watcher, log } = await watch(admin, { health: { poll_interval: '20ms', stale_after: '1s' } });
    for (let time = 1; time <= 2; time++) {
      admin.mood = 'html';
      await waitUntil(() => log.matching(/health is unknown/).length === time, { what: 'health to be unknown' });
      admin.mood = 'well';
      await untilUp(watcher, [true, true]);
    }
  });

  test('where no Envoy was ever there, and the log says so', async () => {
    const admin = await startAdmin();
    await admin.close();
    const { watcher, log } = await createWatcher(admin, { health: { poll_interval: '20ms', stale_after: '100ms' } });
    void watcher.start();
    await waitUntil(() => log.matching(/health is unknown/).length > 0, { what: 'the log to say so' });
    expect(log.lines).toHaveLength(2);
    expect(upPools(watcher)).toBe('unknown');
  });
});

describe('the log', () => {
  test('says each change of a pool once, with what changed', async () => {
    const admin = await startAdmin();
    const { log } = await watch(admin);
    const steps: HostState[][] = [
      ['up', 'failed health check'],
      ['failed health check', 'failed health check'],
      ['up', 'ejected'],
      ['up', 'up', 'up'],
    ];
    for (const hosts of steps) {
      admin.setPool('local_pool', hosts);
      await seen(admin);
      await admin.waitForRequests(3);
    }
    const ofPools = log.lines.filter(({ message }) => message.startsWith('pool '));
    expect(ofPools.map((line) => `${line.level} ${line.message}`)).toEqual([
      'info pool local_pool (east) is up: 2 of 2 servers up',
      'info pool remote_pool (west) is up: 1 of 1 servers up',
      'info pool local_pool (east) is up: 1 of 2 servers up; 127.0.0.1:3002 failed active health check',
      'warn pool local_pool (east) is down: 0 of 2 servers up; 127.0.0.1:3001 failed active health check; 127.0.0.1:3002 failed active health check',
      'info pool local_pool (east) is up: 1 of 2 servers up; 127.0.0.1:3002 failed outlier check',
      'info pool local_pool (east) is up: 3 of 3 servers up',
    ]);
    expect(ofPools[3]?.fields).toMatchObject({ cluster: 'local_pool', site: 'east', up: 0, total: 2 });
  });

  const FAILURES: readonly (readonly [AdminMood, RegExp])[] = [
    ['html', /not JSON: is this really Envoy/],
    ['truncated', /not JSON/],
    ['other json', /not what Envoy says: is this really Envoy/],
    ['wrong status', /answered 503 to GET \/stats$/],
    ['silent', /no answer within 1000 ms/],
    ['slow', /no answer within 1000 ms/],
    ['dripping', /no answer within 1000 ms/],
    ['cut off', /aborted/],
    ['closing', /socket hang up/],
    ['not http', /Parse Error/],
  ];

  test('says an admin interface that answers wrongly once, with how, and its end once', async () => {
    async function linesOf(mood: AdminMood): Promise<string[]> {
      const admin = await startAdmin();
      admin.slowMs = 2_000;
      const { log } = await watch(admin, { health: { poll_interval: '20ms', stale_after: '3s' } });
      admin.mood = mood;
      await admin.waitForRequests(3);
      admin.mood = 'well';
      await seen(admin);
      return log.matching(/cannot read health|answers again|^pool/);
    }
    await Promise.all(
      FAILURES.map(async ([mood, reason]) => {
        expect([mood, ...(await linesOf(mood))]).toEqual([
          mood,
          // The pools did not change meanwhile.
          expect.stringContaining('pool local_pool'),
          expect.stringContaining('pool remote_pool'),
          expect.stringMatching(
            new RegExp(
              `^warn cannot read health from Envoy's admin interface at http://127.0.0.1:\\d+: .*${reason.source}`,
            ),
          ),
          expect.stringMatching(/^info Envoy's admin interface answers again after \d+\.\d s$/),
        ]);
      }),
    );
  });

  test('says it again when it happens again', async () => {
    const admin = await startAdmin();
    const { log } = await watch(admin);
    for (let time = 1; time <= 2; time++) {
      admin.mood = 'closing';
      await admin.waitForRequests(3);
      admin.mood = 'well';
      await seen(admin);
      expect(log.matching(/cannot read health|answers again/)).toHaveLength(2 * time);
    }
  });

  test('says an Envoy that is not there once, and its return once', async () => {
    const admin = await startAdmin();
    const { watcher, log } = await watch(admin);
    await admin.close();
    await waitUntil(() => log.matching(/cannot read health/).length > 0, { what: 'the failure to be noticed' });
    expect(upPools(watcher)).toEqual([true, true]);
    await pause(200);
    await admin.listen();
    await seen(admin);
    expect(log.matching(/cannot read health|answers again/)).toEqual([
      expect.stringMatching(/ECONNREFUSED|ECONNRESET|socket hang up/),
      expect.stringContaining('answers again'),
    ]);
  });

  test('names no server as down where Envoy says only the numbers', async () => {
    const admin = await startAdmin();
    admin.setPool('local_pool', ['ejected', 'ejected']);
    const { watcher, log } = await watch(admin);
    admin.clustersMood = 'wrong status';
    admin.setPool('local_pool', ['up', 'up']);
    await untilUp(watcher, [true, true]);
    await seen(admin);
    expect(log.matching(/pool local_pool/).at(-1)).toBe('info pool local_pool (east) is up: 2 of 2 servers up');
    expect(localPool(watcher).down).toEqual([]);
  });
});

describe('a cluster name that Envoy does not know', () => {
  test('is an error said once, and its pool is down', async () => {
    const admin = await startAdmin();
    admin.removePool('remote_pool');
    const { watcher, log } = await watch(admin);
    await admin.waitForRequests(10);
    expect(upPools(watcher)).toEqual([true, false]);
    expect(watcher.pools().map((pool) => pool.isKnownToEnvoy)).toEqual([true, false]);
    expect(log.matching(/no cluster/)).toEqual([
      'error Envoy has no cluster "remote_pool" (remote_pools[0].cluster): the name must be the same in the config file and in Envoy',
    ]);
    expect(log.matching(/pool remote_pool/)).toEqual([]);
  });

  test('is one of many: the first are said, and how many more there are', async () => {
    const admin = await startAdmin();
    const { log } = await watch(admin, manyApplications(30));
    await waitUntil(() => log.matching(/no cluster|more clusters/).length > 20, { what: 'the clusters to be said' });
    const said = log.matching(/no cluster|more clusters/);
    expect(said).toHaveLength(21);
    expect(said.at(-1)).toBe('error Envoy lacks 70 more clusters of the config file');
  });

  test('is noticed when it appears, and said again when it goes', async () => {
    const admin = await startAdmin();
    admin.removePool('local_pool');
    const { watcher, log } = await watch(admin);
    admin.setPool('local_pool', ['up', 'ejected']);
    await untilUp(watcher, [true, true]);
    await seen(admin);
    admin.removePool('local_pool');
    await untilUp(watcher, [false, true]);
    await seen(admin);
    expect(log.matching(/local_pool/).map((line) => line.slice(0, 60))).toEqual([
      'error Envoy has no cluster "local_pool" (local_pool.cluster)',
      'info pool local_pool (east) is up: 1 of 2 servers up; 127.0.',
      'error Envoy has no cluster "local_pool" (local_pool.cluster)',
    ]);
  });
});

describe('a cluster that has another name in the stats, as Istio gives it,', () => {
  const CLUSTER = 'outbound|80||app.shop.svc.cluster.local';
  const CHANGES = { local_pool: { cluster: CLUSTER, cookie: EAST_COOKIE } };

  test('is asked once for that name, and then counted by its gauges', async () => {
    const admin = await startAdmin();
    admin.setPool(CLUSTER, ['up', 'failed health check']);
    admin.observabilityNames.set(CLUSTER, `${CLUSTER};`);
    const { watcher, log } = await watch(admin, CHANGES);
    await waitUntil(() => localPool(watcher).servers === '1/2', { what: 'the pool to be counted' });
    await admin.waitForRequests(10);
    const listings = admin.requests.filter((path) => path.startsWith('/clusters')).length;
    await admin.waitForRequests(10);
    expect(admin.requests.filter((path) => path.startsWith('/clusters'))).toHaveLength(listings);
    admin.setPool(CLUSTER, ['failed health check', 'failed health check']);
    await untilUp(watcher, [false, true]);
    expect(log.matching(/no cluster/)).toEqual([]);
  });

  test('is counted host by host where its gauges are left out', async () => {
    const admin = await startAdmin();
    admin.setPool(CLUSTER, ['up', 'up']);
    admin.observabilityNames.set(CLUSTER, `${CLUSTER};`);
    admin.hidesStats = true;
    const { watcher } = await watch(admin, CHANGES);
    await waitUntil(() => localPool(watcher).servers === '2/2', { what: 'the pool to be counted' });
    admin.setPool(CLUSTER, ['failed health check', 'failed health check']);
    await untilUp(watcher, [false, true]);
  });
});

test('the health of another site may be that of another cluster than its requests go to', async () => {
  const admin = await startAdmin();
  admin.setPool('west_alone', ['up']);
  const west = { site: 'west', cluster: 'west_or_this_gateway', health_cluster: 'west_alone', cookie: WEST_COOKIE };
  const { watcher, log } = await watch(admin, { remote_pools: [west] });
  expect(upPools(watcher)).toEqual([true, true]);
  admin.setPool('west_alone', ['failed health check']);
  await untilUp(watcher, [true, false]);
  admin.removePool('west_alone');
  await waitUntil(() => log.matching(/no cluster/).length > 0, { what: 'the missing cluster to be said' });
  expect(log.matching(/no cluster/)).toEqual([
    expect.stringContaining('Envoy has no cluster "west_alone" (remote_pools[0].health_cluster)'),
  ]);
});

describe('where a stats_matcher hides the numbers', () => {
  test('the hosts are counted one by one', async () => {
    const admin = await startAdmin();
    admin.hidesStats = true;
    admin.setPool('local_pool', ['up', 'degraded', 'failed health check', 'EDS draining']);
    const { watcher, log } = await watch(admin);
    await seen(admin);
    expect(localPool(watcher).servers).toBe('2/4');
    expect(upPools(watcher)).toEqual([true, true]);
    expect(log.matching(/no cluster/)).toEqual([]);
    admin.setPool('local_pool', ['failed health check']);
    await untilUp(watcher, [false, true]);
  });

  test('a server that DNS no longer lists counts, because Envoy uses it while its health check succeeds', async () => {
    const admin = await startAdmin();
    admin.hidesStats = true;
    admin.setPool('local_pool', ['leaving']);
    const { watcher } = await watch(admin);
    expect(localPool(watcher).servers).toBe('1/1');
  });

  test('a cluster that Envoy does not know is still an error', async () => {
    const admin = await startAdmin();
    admin.hidesStats = true;
    admin.removePool('local_pool');
    const { log } = await watch(admin);
    await admin.waitForRequests(10);
    expect(log.matching(/no cluster/)).toHaveLength(1);
  });

  test('an answer about the hosts that cannot be used is a failed poll', async () => {
    const admin = await startAdmin();
    admin.hidesStats = true;
    const { watcher, log } = await watch(admin, { health: { poll_interval: '20ms', stale_after: '1s' } });
    admin.clustersMood = 'truncated';
    await untilUp(watcher, 'unknown');
    expect(log.matching(/cannot read health/)).toHaveLength(1);
  });
});

test('the admin interface may be on a Unix socket', async () => {
  const admin = await startAdmin({ kind: 'unix', path: join(await temporaryDirectory(), 'admin.sock') });
  const { watcher, log } = await watch(admin);
  expect(upPools(watcher)).toEqual([true, true]);
  await admin.close();
  await waitUntil(() => log.matching(/cannot read health/).length > 0, { what: 'the failure to be noticed' });
  expect(log.matching(/cannot read health/)[0]).toMatch(/at unix:\/.*admin\.sock: /);
  await admin.listen();
  await waitUntil(() => log.matching(/answers again/).length > 0, { what: 'the end to be noticed' });
});

test('cluster names with characters that mean something in a regex, or that Envoy writes otherwise, are read right', async () => {
  const admin = await startAdmin();
  const names = ['outbound|8080||app.prod:v-1/a', 'app.prod', 'appxprod'];
  const [local = '', remote = '', lookAlike = ''] = names;
  admin.setPool(local, ['up', 'ejected']);
  admin.setPool(remote, ['ejected']);
  admin.setPool(lookAlike, ['up', 'up', 'up']);
  const site = {
    local_pool: { cluster: local, cookie: 'KVAAVROI' },
    remote_pools: [{ site: 'west', cluster: remote, cookie: 'DDVHSLLQ' }],
  };
  for (const hidesStats of [false, true]) {
    admin.hidesStats = hidesStats;
    const { watcher } = await watch(admin, site);
    await seen(admin);
    expect(watcher.pools().map(({ count, hosts }) => [count.up, count.total, hosts.length])).toEqual([
      [1, 2, 2],
      [0, 1, 1],
    ]);
    await watcher.close();
  }
});

describe('close()', () => {
  test.each<AdminMood>(['silent', 'dripping', 'well', 'wrong status'])(
    'ends it promptly where the admin interface is "%s"',
    async (mood) => {
      const admin = await startAdmin();
      admin.mood = mood;
      const { watcher, log } = await createWatcher(admin, { health: { poll_interval: '20ms', stale_after: '100ms' } });
      void watcher.start();
      await admin.waitForRequests(1);
      const closedAt = performance.now();
      await watcher.close();
      expect(performance.now() - closedAt).toBeLessThan(1_000);
      // What was sent before may only arrive now; one that went on would ask seven times meanwhile.
      const isOver = async () => {
        const [requests, lines] = [admin.requests.length, log.lines.length];
        await pause(150);
        return admin.inFlight === 0 && admin.requests.length === requests && log.lines.length === lines;
      };
      await waitUntil(isOver, { what: 'the last request to be over', timeoutMs: 10_000 });
    },
  );

  test('says nothing of a poll that it broke off', async () => {
    const admin = await startAdmin();
    admin.mood = 'silent';
    const { watcher, log } = await createWatcher(admin);
    void watcher.start();
    await admin.waitForRequests(1);
    await watcher.close();
    expect(log.lines).toEqual([]);
  });

  test('is possible before start() and twice', async () => {
    const { watcher } = await createWatcher(await startAdmin());
    await watcher.close();
    await watcher.close();
  });
});

/** Lets time pass, where it is the passing of time itself that is tested. */
async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
