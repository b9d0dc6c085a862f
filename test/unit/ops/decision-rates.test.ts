import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import type { Reason } from '../../../src/decision/decide.ts';
import { Counters } from '../../../src/metrics/counters.ts';
import { DecisionRates } from '../../../src/ops/decision-rates.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function start(): {
  counters: Counters;
  rates: DecisionRates;
  decide: (of: string, reason: Reason, count: number) => void;
} {
  const counters = new Counters();
  const rates = new DecisionRates(counters, () => 'east');
  onTestFinished(() => rates.close());
  const decide = (of: string, reason: Reason, count: number) => {
    counters.ofApplication(of).decision(reason, 'none').count += count;
  };
  return { counters, rates, decide };
}

test('decisions a second are those of the last five seconds, each application by itself and all together', () => {
  const { rates, decide } = start();
  for (let second = 0; second < 5; second++) {
    decide('shop', 'local', 10);
    decide('wiki', 'local', 2);
    decide('wiki', 'forward', 1);
    vi.advanceTimersByTime(1_000);
  }
  expect(rates.ofApplication('shop')).toMatchObject({ local: 10, forward: 0 });
  expect(rates.ofApplication('wiki')).toMatchObject({ local: 2, forward: 1 });
  expect(rates.now()).toMatchObject({ local: 12, forward: 1, status: 0 });
  vi.advanceTimersByTime(5_000);
  expect(rates.ofApplication('shop').local).toBe(0);
});

test('an application that is new counts from nothing, one that is unknown makes no decisions', () => {
  const { rates, decide } = start();
  vi.advanceTimersByTime(5_000);
  decide('new', 'adopt', 5);
  vi.advanceTimersByTime(1_000);
  expect(rates.ofApplication('new').adopt).toBe(1);
  expect(rates.ofApplication('nowhere').adopt).toBe(0);
});

test('samples are of all applications together: each second of the last two minutes, before that each five of an hour', () => {
  const { rates, decide } = start();
  const heard: number[] = [];
  rates.onSample(({ perSecond }) => heard.push(perSecond.local));
  decide('shop', 'local', 3);
  decide('wiki', 'local', 4);
  vi.advanceTimersByTime(1_000);
  expect([rates.samples.map(({ perSecond }) => perSecond.local), heard]).toEqual([[7], [7]]);
  vi.advanceTimersByTime(129_000);
  const { samples } = rates;
  const ago = samples.map(({ atMs }) => (Date.now() - atMs) / 1_000);
  expect(ago).toEqual([125, 120, ...Array.from({ length: 120 }, (_, second) => 119 - second)]);
  expect(samples[0]?.perSecond.local).toBe(1.4);
  vi.advanceTimersByTime(2 * 3_600_000);
  expect(rates.samples.length).toBeLessThanOrEqual(120 + 4 + 696);
});

test('what becomes of sessions has its rate as well', () => {
  const { counters, rates } = start();
  counters.ofApplication('shop').decision('local', 'east').count += 20;
  counters.ofApplication('shop').decision('forward', 'west').count += 5;
  vi.advanceTimersByTime(1_000);
  expect(rates.sessionsOf('shop')).toMatchObject({ known: 20, forwarded: 5, moved: 0 });
  expect(rates.sessionsOf('nowhere').known).toBe(0);
});
