import { expect, test } from 'vitest';
import { parseSizeBytes } from '../../../src/config/size.ts';

test.each([
  ['64KiB', 65_536],
  ['512MiB', 536_870_912],
  ['1GiB', 1_073_741_824],
  ['1.5GiB', 1_610_612_736],
  ['2TiB', 2_199_023_255_552],
])('parseSizeBytes(%j) is %d', (text, bytes) => {
  expect(parseSizeBytes(text)).toBe(bytes);
});

test.each(['', '1', '1GB', '1 GiB', '1gib', '-1GiB', '1e3MiB', '.5GiB', 'GiB'])('parseSizeBytes(%j) throws', (text) => {
  expect(() => parseSizeBytes(text)).toThrow('is not a size: write a number with a unit, such as 512MiB or 1GiB');
});
