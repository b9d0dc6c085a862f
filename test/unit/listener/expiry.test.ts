import { pino } from 'pino';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { watchExpiry } from '../../../src/listener/expiry.ts';
import { ChangeLog } from '../../../src/log/changes.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW = Date.parse('2026-06-01T00:00:00Z');

beforeEach(() => void vi.useFakeTimers({ now: NOW }));
afterEach(() => void vi.useRealTimers());

const validity = (lifetimeMs: number, leftMs: number) => ({
  validFrom: new Date(Date.now() + leftMs - lifetimeMs),
  validTo: new Date(Date.now() + leftMs),
});

/** @returns what is said from now on, the newest first */
function watch(lifetimeMs: number, leftMs: number) {
  const changes = new ChangeLog(pino({ enabled: false }));
  const expiry = watchExpiry('listen_tls', validity(lifetimeMs, leftMs), changes);
  onTestFinished(() => expiry.close());
  return { expiry, said: () => changes.last.map(({ level, message }) => `${level} ${message}`) };
}

test.each([
  ['two weeks before its end where it counts for long', 365 * DAY_MS, 14 * DAY_MS],
  ['when a quarter of its time is left where that is less', DAY_MS, 6 * HOUR_MS],
])('a certificate is said to end %s, once', (_, lifetimeMs, noticeMs) => {
  const { said } = watch(lifetimeMs, noticeMs + 2 * HOUR_MS);
  vi.advanceTimersByTime(HOUR_MS);
  expect(said()).toEqual([]);
  vi.advanceTimersByTime(2 * HOUR_MS);
  expect(said()).toEqual([
    expect.stringMatching(
      /^warn listen_tls: the certificate expires at 2026-06-\d\dT[\d:.]+Z, \d+ (days|hours) from now/,
    ),
  ]);
});

test('one that ends soon is said to at the start, and later that it has ended', () => {
  const { said } = watch(90 * DAY_MS, 3 * DAY_MS);
  expect(said()).toEqual([
    'warn listen_tls: the certificate expires at 2026-06-04T00:00:00.000Z, 3 days from now: replace it',
  ]);
  vi.advanceTimersByTime(10 * DAY_MS);
  expect(said()).toEqual([
    'error listen_tls: the certificate has expired: new connections fail until it is replaced',
    expect.stringContaining('3 days from now'),
  ]);
});

test('a new one is another matter', () => {
  const { expiry, said } = watch(90 * DAY_MS, 3 * DAY_MS);
  expiry.renewed(validity(90 * DAY_MS, 90 * DAY_MS));
  vi.advanceTimersByTime(30 * DAY_MS);
  expect(said()).toHaveLength(1);
  vi.advanceTimersByTime(50 * DAY_MS);
  expect(said()).toHaveLength(2);
  expiry.close();
  vi.advanceTimersByTime(50 * DAY_MS);
  expect(said()).toHaveLength(2);
});
