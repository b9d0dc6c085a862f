import { expect, test } from 'vitest';
import type { PoolState, WatchedPool } from '../../../src/health/pool.ts';
import { PoolHistory, type PoolStateName, type PoolsSeen } from '../../../src/ops/pool-history.ts';

const MINUTE_MS = 60_000;

function watched(application: string, site: string): WatchedPool {
  const cluster = `${application}_${site}`;
  return { application, site, cluster, twin: null, key: 'cluster', minUp: 2, drains: false };
}

function seen(up: number, isUp = up >= 2): PoolState {
  const count = { up, total: 2, excluded: 0, failedChecks: null, succeededChecks: null };
  return { count, draining: 0, isKnownToEnvoy: true, isUp, lastShortAtMs: null, hosts: [] };
}

const USUAL = { isKnown: true, isHeld: () => false } as const;

/** The history of one pool, as `minute state`. */
function startHistory() {
  let nowMs = 0;
  const history = new PoolHistory(() => nowMs);
  return {
    history,
    at(minute: number, pool: PoolState, seen: Partial<PoolsSeen> = {}) {
      nowMs = minute * MINUTE_MS;
      history.observe({ ...USUAL, watched: [watched('shop', 'west')], pools: [pool], ...seen });
    },
    told() {
      return history.report(['shop']).flatMap((pool) => pool.history.map(asText));
    },
  };
}

function asText({ atMs, state }: { atMs: number; state: PoolStateName }): string {
  return `${atMs / MINUTE_MS} ${state}`;
}

test('a pool has a moment for each change of its state, and none where it stays as it is', () => {
  const { at, told } = startHistory();
  at(0, seen(2));
  at(1, seen(2));
  at(2, seen(1));
  at(3, seen(0));
  at(4, seen(2, false));
  at(5, seen(2));
  at(6, seen(2), { isKnown: false });
  at(7, seen(2));
  const isHeld = (application: string, site: string) => `${application} ${site}` === 'shop west';
  at(8, seen(2), { isHeld });
  at(9, seen(0), { isHeld });
  at(10, seen(2));
  const first = ['0 up', '2 down', '4 held', '5 up', '6 unknown', '7 up'];
  expect(told()).toEqual([...first, '8 held', '9 down', '10 up']);
});

test('an hour is kept, and of before how the pool was then', () => {
  const { at, told } = startHistory();
  at(0, seen(2));
  at(10, seen(0));
  at(20, seen(2));
  at(70, seen(2));
  expect(told()).toEqual(['0 up', '10 down', '20 up']);
  at(71, seen(2));
  expect(told()).toEqual(['10 down', '20 up']);
  at(200, seen(2));
  expect(told()).toEqual(['20 up']);
});

test('of a pool that flaps the newest 50 changes are kept, of very many pools fewer each', () => {
  const { history, at, told } = startHistory();
  for (let second = 0; second < 120; second++) at(second / 60, seen(second % 2 === 0 ? 2 : 0));
  expect([told().length, told().at(-1)]).toEqual([50, `${119 / 60} down`]);
  const many = Array.from({ length: 1_000 }, (_, index) => watched(`app-${index}`, 'west'));
  for (let times = 0; times < 30; times++) {
    history.observe({ ...USUAL, watched: many, pools: many.map(() => seen(times % 2 === 0 ? 2 : 0)) });
  }
  const kept = history.report(null).map((pool) => pool.history.length);
  expect([kept.length, Math.max(...kept)]).toEqual([1_000, 10]);
});

test('a pool that is new begins when it came, one that is watched no longer is forgotten', () => {
  const history = new PoolHistory(() => 0);
  const [west, north] = [watched('shop', 'west'), watched('shop', 'north')];
  history.observe({ ...USUAL, watched: [west], pools: [seen(2)] });
  history.observe({ ...USUAL, watched: [west, north], pools: [seen(2)] });
  const told = () => history.report(null).map(({ site, history: of }) => [site, ...of.map(asText)]);
  expect(told()).toEqual([
    ['west', '0 up'],
    ['north', '0 unknown'],
  ]);
  history.observe({ ...USUAL, watched: [north], pools: [seen(2)] });
  expect(told()).toEqual([['north', '0 unknown', '0 up']]);
  expect(history.report(['mail'])).toEqual([]);
});
