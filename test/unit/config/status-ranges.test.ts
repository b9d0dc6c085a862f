import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatStatusRanges, parseStatusRanges } from '../../../src/config/status-ranges.ts';

describe('parseStatusRanges() reads', () => {
  test.each([
    ['200', [[200, 200]]],
    ['200-399', [[200, 399]]],
    [
      '200, 204,301-302',
      [
        [200, 200],
        [204, 204],
        [301, 302],
      ],
    ],
  ])('%s', (text, ranges) => {
    expect(parseStatusRanges(text)).toEqual(ranges);
  });

  test('what formatStatusRanges() writes', () => {
    const status = fc.integer({ min: 100, max: 599 });
    const range = fc.tuple(status, status).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
    fc.assert(
      fc.property(fc.array(range, { minLength: 1, maxLength: 10 }), (ranges) => {
        expect(parseStatusRanges(formatStatusRanges(ranges))).toEqual(ranges);
      }),
    );
  });
});

describe('parseStatusRanges() refuses', () => {
  test.each(['', '20', '2000', '200-', '-200', '200-399-400', '2xx', '200;204', '200,', ' ', '200,'.repeat(60)])(
    '%j, and says what to write',
    (text) => {
      expect(() => parseStatusRanges(text)).toThrow('is not a list of statuses: write 200, 200-399 or 200,204,301-302');
    },
  );

  test.each(['099', '600', '399-200', '200-999'])('%j, which is no range of statuses', (text) => {
    expect(() => parseStatusRanges(text)).toThrow('they go from 100 to 599');
  });

  test('any other text, without another error', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseStatusRanges(text);
        } catch (error) {
          expect(String(error)).toMatch(/is not a (list|range) of statuses/);
        }
      }),
    );
  });
});
