import { expect, test } from 'vitest';
import type { WatchedPool } from '../../../src/health/pool.ts';
import { Twins } from '../../../src/health/twins.ts';

const WATCHED: readonly WatchedPool[] = [
  {
    application: 'default',
    site: 'east',
    cluster: 'local_pool',
    twin: null,
    key: 'local_pool.cluster',
    minUp: 1,
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
];

/** How many of the remote pool's servers are up after these polls: when, up by its own check, up by its twin's, and successes of that. */
function upAfter(...polls: readonly (readonly [nowMs: number, own: number, twin: number | null, successes: number])[]) {
  const twins = new Twins(WATCHED);
  let up: number | undefined;
  for (const [nowMs, own, twin, succeededChecks] of polls) {
    const count = (of: number) => ({ up: of, total: 1, excluded: 0, failedChecks: 0, succeededChecks });
    const counts = new Map([
      ['local_pool', count(1)],
      ['remote_pool', count(own)],
      ...(twin === null ? [] : [['remote_pool_http2', count(twin)] as const]),
    ]);
    const merged = twins.merge(counts, nowMs);
    expect([...merged.keys()]).toEqual(['local_pool', 'remote_pool']);
    up = merged.get('remote_pool')?.up;
  }
  return up;
}

test('the twin is counted beside its pool', () => {
  expect(new Twins(WATCHED).clusters).toEqual(['local_pool', 'remote_pool', 'remote_pool_http2']);
});

test('a pool whose checks fail is up while those of its twin succeed', () => {
  expect(upAfter([0, 1, 1, 5], [1_000, 1, 1, 6], [3_900, 0, 1, 6])).toBe(1);
  expect(upAfter([0, 1, 1, 5], [1_000, 0, 1, 6], [9_000, 0, 1, 9], [11_900, 0, 1, 9])).toBe(1);
});

test('a pool whose checks fail is down as soon as its twin has had no success for as long as its own verdict takes', () => {
  expect(upAfter([0, 1, 1, 5], [1_000, 1, 1, 6], [4_100, 0, 1, 6])).toBe(0);
});

test('a pool whose checks fail is down where its twin is down, has just been seen for the first time, or is not there', () => {
  expect(upAfter([0, 1, 1, 5], [1_000, 0, 0, 6])).toBe(0);
  expect(upAfter([0, 0, 1, 5])).toBe(0);
  expect(upAfter([0, 0, null, 0])).toBe(0);
});

test('a pool that is up by its own checks is up, whatever its twin is', () => {
  expect(upAfter([0, 1, 0, 0], [9_000, 1, 0, 0])).toBe(1);
});
