import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatProtoDuration, parseDurationMs } from '../../../src/config/duration.ts';

describe('parseDurationMs()', () => {
  test.each<[string, number]>([
    ['0s', 0],
    ['1ms', 1],
    ['250ms', 250],
    ['3s', 3_000],
    ['1.5s', 1_500],
    ['0.25s', 250],
    ['007s', 7_000],
    ['2m', 120_000],
    ['12h', 43_200_000],
    ['7d', 604_800_000],
    ['0.5d', 43_200_000],
    // Rounded to whole milliseconds.
    ['0.4ms', 0],
    ['0.0015s', 2],
    ['0.1s', 100],
    ['1.1s', 1_100],
  ])('reads %s as %i ms', (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms);
  });

  test.each([
    '',
    's',
    '3',
    '250',
    '3 s',
    ' 3s',
    '3s ',
    '3s\n',
    '-3s',
    '+3s',
    '.5s',
    '3.s',
    '1,5s',
    '1e3s',
    '0x3s',
    '3S',
    '3sec',
    '3us',
    '3w',
    '1m30s',
    'three seconds',
    '٣s',
    'Infinitys',
    'NaNms',
  ])('refuses %j and says what to write', (text) => {
    expect(() => parseDurationMs(text)).toThrow('write a number with a unit, such as 250ms, 3s or 30m');
  });

  test('reads what formatProtoDuration() writes', () => {
    fc.assert(
      fc.property(fc.nat(), (ms) => {
        expect(parseDurationMs(formatProtoDuration(ms))).toBe(ms);
      }),
    );
  });
});

describe('formatProtoDuration()', () => {
  test.each<[number, string]>([
    [0, '0s'],
    [1, '0.001s'],
    [250, '0.25s'],
    [1_000, '1s'],
    [1_500, '1.5s'],
    [86_400_000, '86400s'],
  ])('writes %i ms as %s', (ms, text) => {
    expect(formatProtoDuration(ms)).toBe(text);
  });
});
