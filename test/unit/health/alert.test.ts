import { describe, expect, test } from 'vitest';
import { ALERT_MS, FailureAlert } from '../../../src/health/alert.ts';
import type { PoolState } from '../../../src/health/pool.ts';

const POLL_INTERVAL_MS = 250;
const TOTAL = 4;

/** What one poll sees of the one pool there is. */
type Poll = readonly [atMs: number, up: number, failedChecks: number | null];

function pool(up: number, failedChecks: number | null): PoolState {
  const count = { up, total: TOTAL, excluded: 0, failedChecks, succeededChecks: null };
  return { count, draining: 0, isKnownToEnvoy: true, isUp: up > 0, lastShortAtMs: null, hosts: [] };
}

/** After which of the polls the alert is on. */
function alerts(polls: readonly Poll[]): boolean[] {
  const alert = new FailureAlert(1, POLL_INTERVAL_MS);
  let before: readonly PoolState[] = [];
  return polls.map(([atMs, up, failedChecks]) => {
    const pools = [pool(up, failedChecks)];
    alert.observe(before, pools, atMs);
    before = pools;
    return alert.isOn(atMs);
  });
}

describe('FailureAlert is off', () => {
  test.each<[string, Poll[]]>([
    ['at the first poll, whatever it sees', [[0, 0, 7]]],
    [
      'while nothing changes',
      [
        [0, 4, 7],
        [250, 4, 7],
        [500, 4, 7],
      ],
    ],
    [
      'while servers come',
      [
        [0, 1, 7],
        [250, 4, 7],
      ],
    ],
    [
      'while the one server that is down goes on failing, a check more or less at a time',
      [
        [0, 3, 10],
        [250, 3, 11],
        [500, 3, 11],
        [750, 3, 12],
        [1_000, 3, 14],
      ],
    ],
    [
      'where Envoy does not say how many checks failed',
      [
        [0, 4, null],
        [250, 4, null],
        [500, 4, 100],
      ],
    ],
    [
      'where a new Envoy has begun to count anew',
      [
        [0, 4, 100],
        [250, 4, 2],
      ],
    ],
    [
      'at a quick poll with failed checks: how many are usual in so short a time is not known',
      [
        [0, 4, 0],
        [20, 4, 5],
      ],
    ],
  ])('%s', (_, polls) => {
    expect(alerts(polls)).not.toContain(true);
  });
});

describe('FailureAlert is on', () => {
  test('as soon as a server is gone, at a quick poll as well', () => {
    expect(
      alerts([
        [0, 4, 0],
        [20, 3, 0],
      ]),
    ).toEqual([false, true]);
  });

  test('as soon as a check fails of servers that count as up', () => {
    expect(
      alerts([
        [0, 4, 0],
        [250, 4, 1],
      ]),
    ).toEqual([false, true]);
  });

  test('where more checks fail than those of the servers that are down', () => {
    expect(
      alerts([
        [0, 3, 0],
        [250, 3, 1],
        [500, 3, 2],
        [750, 3, 5],
      ]),
    ).toEqual([false, false, false, true]);
  });

  test('for its time after the last sign, and no longer', () => {
    const alert = new FailureAlert(1, POLL_INTERVAL_MS);
    const [whole, short] = [[pool(4, 0)], [pool(3, 0)]];
    alert.observe([], whole, 0);
    alert.observe(whole, short, 250);
    expect([alert.isOn(250), alert.isOn(250 + ALERT_MS - 1), alert.isOn(250 + ALERT_MS)]).toEqual([true, true, false]);
  });

  test('not again by the checks that are failing since: how many are usual now is learned first', () => {
    const polls: Poll[] = [
      [0, 4, 0],
      [250, 3, 0],
    ];
    // Quick polls, and then three at the usual pace, with two failing checks in each pause.
    for (let at = 270, failed = 0; at < 3_250; at += 20, failed++) polls.push([at, 3, failed]);
    polls.push([3_500, 3, 200], [3_750, 3, 202], [4_000, 3, 204]);
    expect(alerts(polls).slice(-3)).toEqual([false, false, false]);
  });

  test('by any of several pools', () => {
    const alert = new FailureAlert(2, POLL_INTERVAL_MS);
    alert.observe([pool(4, 0), pool(4, 0)], [pool(4, 0), pool(3, 0)], 0);
    expect(alert.isOn(0)).toBe(true);
  });

  test('not by a pool that was not watched before', () => {
    const alert = new FailureAlert(2, POLL_INTERVAL_MS);
    alert.observe([pool(4, 0), undefined], [pool(4, 0), pool(0, 9)], 0);
    expect(alert.isOn(0)).toBe(false);
  });
});
