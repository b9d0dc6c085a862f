import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.ts';
import type { Host } from '../../../src/envoy-admin/admin-client.ts';
import {
  describePool,
  failedChecksBetween,
  isSamePoolState,
  nextPoolState,
  type PoolState,
  rejudgedPoolState,
  type WatchedPool,
  watchedPools,
} from '../../../src/health/pool.ts';

/** What Envoy says of a pool at one poll; null: it has no such cluster. */
type Poll = readonly [atMs: number, up: number | null];

const HOLD_UP_MS = 1_000;
const TOTAL = 2;

describe('watchedPools()', () => {
  test('are the local pool and the remote ones in the order of the file, each with the key that names its cluster', () => {
    const config = parseConfig(
      `
site: east
local_pool: { cluster: local_pool, cookie: A, min_up: 2 }
remote_pools:
  - { site: west, cluster: remote_pool, cookie: B }
  - { site: north, cluster: north_pool, cookie: C, min_up: 3 }
`,
      'site.yaml',
    );
    expect(watchedPools(config)).toEqual([
      {
        application: 'default',
        site: 'east',
        cluster: 'local_pool',
        twin: null,
        key: 'local_pool.cluster',
        minUp: 2,
        drains: false,
      },
      {
        application: 'default',
        site: 'west',
        cluster: 'remote_pool',
        twin: { cluster: 'remote_pool_http2', aliveForMs: 3_000 },
        key: 'remote_pools[0].cluster',
        minUp: 1,
        drains: false,
      },
      {
        application: 'default',
        site: 'north',
        cluster: 'north_pool',
        twin: { cluster: 'north_pool_http2', aliveForMs: 3_000 },
        key: 'remote_pools[1].cluster',
        minUp: 3,
        drains: false,
      },
    ]);
  });
});

describe('nextPoolState() is up', () => {
  test.each<[string, number, Poll[], boolean]>([
    ['with min_up servers', 2, [[0, 2]], true],
    ['not with fewer than min_up', 2, [[0, 1]], false],
    ['not without a server', 1, [[0, 0]], false],
    ['not where Envoy has no such cluster', 1, [[0, null]], false],
    ['at once where it was never seen short', 1, [[0, 1]], true],
    [
      'not before hold_up has passed since it was short',
      1,
      [
        [0, 0],
        [999, 1],
      ],
      false,
    ],
    [
      'as soon as hold_up has passed',
      1,
      [
        [0, 0],
        [500, 1],
        [1_000, 1],
      ],
      true,
    ],
    [
      'no more as soon as it is short again',
      1,
      [
        [0, 1],
        [10, 0],
      ],
      false,
    ],
    [
      'hold_up after it was last short: flapping starts it again',
      1,
      [
        [0, 0],
        [500, 1],
        [900, 0],
        [1_500, 1],
      ],
      false,
    ],
    [
      'in the end, also after flapping',
      1,
      [
        [0, 0],
        [500, 1],
        [900, 0],
        [1_900, 1],
      ],
      true,
    ],
    [
      'held up after an outage, however long it was up before',
      1,
      [
        [0, 1],
        [60_000, 0],
        [60_500, 1],
      ],
      false,
    ],
    [
      'not before hold_up has passed since Envoy did not know it',
      1,
      [
        [0, null],
        [999, 1],
      ],
      false,
    ],
  ])('%s', (_, minUp, polls, isUp) => {
    expect(stateAfter(polls, minUp, HOLD_UP_MS).isUp).toBe(isUp);
  });

  test('at once without a hold_up', () => {
    expect(
      stateAfter(
        [
          [0, 0],
          [0, 1],
        ],
        1,
        0,
      ).isUp,
    ).toBe(true);
  });
});

describe('nextPoolState() keeps', () => {
  test('the count, and that Envoy knows the pool', () => {
    expect(stateAfter([[5, 1]], 1, HOLD_UP_MS)).toEqual({
      count: { up: 1, total: TOTAL, excluded: 0, failedChecks: null, succeededChecks: null },
      draining: 0,
      isKnownToEnvoy: true,
      isUp: true,
      lastShortAtMs: null,
      hosts: [],
    });
  });

  test('no server and no knowledge of a cluster that Envoy does not have', () => {
    expect(stateAfter([[5, null]], 1, HOLD_UP_MS)).toEqual({
      count: { up: 0, total: 0, excluded: 0, failedChecks: null, succeededChecks: null },
      draining: 0,
      isKnownToEnvoy: false,
      isUp: false,
      lastShortAtMs: 5,
      hosts: [],
    });
  });

  test('when it was last short, and the hosts of the state before', () => {
    const before: PoolState = { ...stateAfter([[5, 0]], 1, 0), hosts: [host('127.0.0.1:3001', '')] };
    const after = nextPoolState(
      before,
      { up: 2, total: TOTAL, excluded: 0, failedChecks: null, succeededChecks: null },
      { minUp: 1, drains: false, holdUpMs: 0, nowMs: 10 },
    );
    expect(after).toMatchObject({ lastShortAtMs: 5, hosts: before.hosts });
  });
});

describe('nextPoolState() counts what Envoy excludes as draining', () => {
  const count = { up: 1, total: TOTAL, excluded: 1, failedChecks: null, succeededChecks: null };

  test.each([
    [true, 1],
    [false, 0],
  ])('where the config has servers that drain: %s', (drains, draining) => {
    expect(nextPoolState(undefined, count, { minUp: 1, drains, holdUpMs: 0, nowMs: 10 }).draining).toBe(draining);
  });
});

describe('rejudgedPoolState()', () => {
  const NOW_MS = 2_000;
  const up = stateAfter([[0, 1]], 1, HOLD_UP_MS);
  const upAgain = stateAfter(
    [
      [0, 0],
      [1_500, 1],
    ],
    1,
    HOLD_UP_MS,
  );
  /** Short at 1.5 s under a hold_up of 1 s, so held back until 2.5 s. */
  const held = stateAfter(
    [
      [1_500, 0],
      [1_600, 1],
    ],
    1,
    HOLD_UP_MS,
  );
  const down = stateAfter([[1_500, 1]], 2, HOLD_UP_MS);
  const unknown = stateAfter([[1_500, null]], 1, HOLD_UP_MS);

  test.each<[string, PoolState, number, { minUp: number; holdUpMs: number }, boolean]>([
    ['a pool that is up stays up', up, 1, { minUp: 1, holdUpMs: HOLD_UP_MS }, true],
    ['a pool that is up stays up with a longer hold_up', up, 1, { minUp: 1, holdUpMs: 60_000 }, true],
    ['a pool that was down and is up stays up with a longer hold_up', upAgain, 1, { minUp: 1, holdUpMs: 60_000 }, true],
    ['a pool that is up is down without the servers that it now needs', up, 1, { minUp: 2, holdUpMs: 0 }, false],
    ['a pool that is held back is held on', held, 1, { minUp: 1, holdUpMs: HOLD_UP_MS }, false],
    ['a pool that is held back is held on under a longer hold_up', held, 1, { minUp: 1, holdUpMs: 60_000 }, false],
    ['a pool that is held back is up where hold_up is now over', held, 1, { minUp: 1, holdUpMs: 400 }, true],
    [
      'a pool that is down with too few servers is up at once where they are enough',
      down,
      2,
      { minUp: 1, holdUpMs: 60_000 },
      true,
    ],
    ['a pool that is down stays down', down, 2, { minUp: 2, holdUpMs: 0 }, false],
    ['a pool that Envoy does not know stays down', unknown, 1, { minUp: 1, holdUpMs: 0 }, false],
  ])('%s', (_, state, minUpBefore, settings, isUp) => {
    const judged = rejudgedPoolState(state, minUpBefore, { ...settings, drains: false, nowMs: NOW_MS });
    expect(judged.isUp).toBe(isUp);
    expect([judged.count, judged.isKnownToEnvoy]).toEqual([state.count, state.isKnownToEnvoy]);
  });

  test('what is held on comes up when hold_up has passed since it was last short', () => {
    const settings = { minUp: 1, holdUpMs: HOLD_UP_MS };
    const judged = rejudgedPoolState(held, 1, { ...settings, drains: false, nowMs: NOW_MS });
    const at = (nowMs: number) => nextPoolState(judged, held.count, { ...settings, drains: false, nowMs }).isUp;
    expect([at(2_499), at(2_500)]).toEqual([false, true]);
  });
});

describe('isSamePoolState()', () => {
  const state = stateAfter([[0, 1]], 1, 0);

  test.each<[string, Partial<PoolState>, boolean]>([
    ['nothing', {}, true],
    ['when it was last short', { lastShortAtMs: 7 }, true],
    ['the hosts', { hosts: [host('127.0.0.1:3001', 'failed active health check')] }, true],
    ['whether it is up', { isUp: false }, false],
    ['whether Envoy knows it', { isKnownToEnvoy: false }, false],
    ['how many servers drain', { draining: 1 }, false],
    [
      'how many servers are up',
      { count: { up: 2, total: TOTAL, excluded: 0, failedChecks: null, succeededChecks: null } },
      false,
    ],
    [
      'how many servers there are',
      { count: { up: 1, total: 3, excluded: 0, failedChecks: null, succeededChecks: null } },
      false,
    ],
  ])('where %s changed: %o is %s', (_, change, isSame) => {
    expect(isSamePoolState(state, { ...state, ...change })).toBe(isSame);
  });
});

describe('describePool()', () => {
  const broken = host('127.0.0.1:3001', 'failed active health check');
  const ejected = host('127.0.0.1:3002', 'failed outlier check, EDS says UNHEALTHY');
  const draining = host('127.0.0.1:3004', 'draining');
  const healthy: Host = { address: '127.0.0.1:3003', up: true, draining: false, why: '' };

  test.each<[string, Partial<WatchedPool>, Partial<PoolState>]>([
    ['pool local_pool (east) is up: 2 of 2 servers up', {}, {}],
    ['pool local_pool (east) is up: 2 of 2 servers up, min_up 2', { minUp: 2 }, {}],
    [
      'pool local_pool (east) is down: 0 of 0 servers up',
      {},
      { isUp: false, count: { up: 0, total: 0, excluded: 0, failedChecks: null, succeededChecks: null } },
    ],
    [
      'pool local_pool (east) is up: 1 of 2 servers up; 127.0.0.1:3001 failed active health check',
      {},
      { count: { up: 1, total: 2, excluded: 0, failedChecks: null, succeededChecks: null }, hosts: [broken, healthy] },
    ],
    [
      'pool local_pool (east) is down: 0 of 2 servers up; 127.0.0.1:3001 failed active health check; 127.0.0.1:3002 failed outlier check, EDS says UNHEALTHY',
      {},
      {
        isUp: false,
        count: { up: 0, total: 2, excluded: 0, failedChecks: null, succeededChecks: null },
        hosts: [broken, ejected],
      },
    ],
    [
      'pool local_pool (east) is down: 1 of 2 servers up, min_up 2; 127.0.0.1:3001 failed active health check',
      { minUp: 2 },
      {
        isUp: false,
        count: { up: 1, total: 2, excluded: 0, failedChecks: null, succeededChecks: null },
        hosts: [broken, healthy],
      },
    ],
    ['pool local_pool (east) is down: 2 of 2 servers up, held back by hold_up', {}, { isUp: false }],
    [
      'pool local_pool (east) is up: 1 of 1 servers up, 1 draining; 127.0.0.1:3004 draining',
      { drains: true },
      {
        count: { up: 1, total: 2, excluded: 1, failedChecks: null, succeededChecks: null },
        draining: 1,
        hosts: [draining, healthy],
      },
    ],
    [
      'pool local_pool (east) is down: 2 of 2 servers up, held back by hold_up, min_up 2',
      { minUp: 2 },
      { isUp: false },
    ],
  ])('says %j', (text, pool, state) => {
    const own = {
      application: 'default',
      site: 'east',
      cluster: 'local_pool',
      twin: null,
      key: 'local_pool.cluster',
      minUp: 1,
      drains: false,
    };
    const watched: WatchedPool = { ...own, ...pool };
    expect(describePool(watched, { ...stateAfter([[0, 2]], 1, 0), ...state })).toBe(text);
  });
});

function stateAfter(polls: readonly Poll[], minUp: number, holdUpMs: number): PoolState {
  let state: PoolState | undefined;
  for (const [nowMs, up] of polls) {
    const count =
      up === null ? undefined : { up, total: TOTAL, excluded: 0, failedChecks: null, succeededChecks: null };
    state = nextPoolState(state, count, { minUp, drains: false, holdUpMs, nowMs });
  }
  if (state === undefined) throw new Error('a state needs a poll');
  return state;
}

function host(address: string, why: string): Host {
  return { address, up: false, draining: why.startsWith('draining'), why };
}

describe('failedChecksBetween()', () => {
  const state = (failedChecks: number | null): PoolState => ({
    count: { up: 3, total: 3, excluded: 0, failedChecks, succeededChecks: null },
    draining: 0,
    isKnownToEnvoy: true,
    isUp: true,
    lastShortAtMs: null,
    hosts: [],
  });

  test.each([
    ['no check failed', 7, 7, 0],
    ['some failed', 7, 9, 2],
    ['failed checks are not to be seen', null, null, 0],
    ['they can be seen only now', null, 7, 0],
    ['the count began anew with a new Envoy', 7, 1, 0],
  ])('when %s', (_, before, now, expected) => {
    expect(failedChecksBetween(state(before), state(now))).toBe(expected);
  });
});
