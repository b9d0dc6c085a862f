import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Duration, inCode, keyInFile, Size } from '../../../src/config/key-names.ts';

test('inCode() gives keys in camel case, and durations and sizes as numbers with their unit in the key', () => {
  const file = {
    hold_up: new Duration(250),
    tls: null,
    ttl: new Duration(null),
    heap: new Size(1_024),
    pools: [{ min_up: 1 }],
    kind: 'tcp',
  };
  expect(inCode(file)).toEqual({
    holdUpMs: 250,
    tls: null,
    ttlMs: null,
    heapBytes: 1_024,
    pools: [{ minUp: 1 }],
    kind: 'tcp',
  });
});

test('keyInFile() is the way back', () => {
  const word = fc.stringMatching(/^[a-z]{1,8}$/);
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 4 }), fc.boolean(), (words, hasUnit) => {
      const key = words.join('_');
      for (const value of hasUnit ? [new Duration(1), new Size(1)] : [1]) {
        const [keyInCode] = Object.keys(inCode({ [key]: value }));
        expect(keyInFile(keyInCode ?? '')).toBe(key);
      }
    }),
  );
});
