import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createLogLimit } from '../../../src/log/log-limit.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function limited(lines: number) {
  const leftOut: number[] = [];
  const mayLog = createLogLimit({ lines, perMs: 1_000, onLeftOut: (count) => leftOut.push(count) });
  /** How many of so many lines are let through. */
  const ask = (count: number) => Array.from({ length: count }, mayLog).filter(Boolean).length;
  return { ask, leftOut };
}

test('no more lines than the limit are let through in each span of time', () => {
  const { ask } = limited(3);
  expect(ask(5)).toBe(3);
  vi.advanceTimersByTime(999);
  expect(ask(5)).toBe(0);
  vi.advanceTimersByTime(1);
  expect(ask(5)).toBe(3);
});

test('how many were left out is said once, at the end of the span', () => {
  const { ask, leftOut } = limited(3);
  ask(5);
  ask(2);
  expect(leftOut).toEqual([]);
  vi.advanceTimersByTime(1_000);
  expect(leftOut).toEqual([4]);
  vi.advanceTimersByTime(10_000);
  expect(leftOut).toEqual([4]);
});

test('nothing is said where nothing was left out', () => {
  const { ask, leftOut } = limited(3);
  ask(3);
  vi.advanceTimersByTime(10_000);
  expect(leftOut).toEqual([]);
});

test('a span begins with its first line', () => {
  const { ask } = limited(1);
  vi.advanceTimersByTime(900);
  expect(ask(1)).toBe(1);
  vi.advanceTimersByTime(900);
  expect(ask(1)).toBe(0);
  vi.advanceTimersByTime(100);
  expect(ask(1)).toBe(1);
});

test('a span that is not over keeps no process alive', () => {
  vi.useRealTimers();
  const before = process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
  limited(1).ask(1);
  expect(process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout')).toHaveLength(before);
});
