import { describe, expect, test } from 'vitest';
import { parseCookieKeys } from '../../../src/config/cookie-keys.ts';

const NEW = 'a'.repeat(32);
const OLD = 'b'.repeat(64);

describe('parseCookieKeys() reads', () => {
  test.each<[string, string, readonly string[]]>([
    ['one key', `${NEW}\n`, [NEW]],
    ['two, the new one first', `${NEW}\n${OLD}\n`, [NEW, OLD]],
    ['the lines of Windows, and empty ones', `\r\n${NEW}\r\n \n${OLD}`, [NEW, OLD]],
  ])('%s', (_, text, keys) => {
    expect(parseCookieKeys(text)).toEqual({ keys, problems: [] });
  });
});
