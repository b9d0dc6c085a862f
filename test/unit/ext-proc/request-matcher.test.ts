import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRequestMatcher } from '../../../src/ext-proc/request-matcher.ts';
import { policyOf } from '../decision/policy-of.ts';

const STATUS_URI = '/local_pool_status';
const EAST = { name: 'east', cookie: 'KVAAVROI' };
const WEST = { name: 'west', cookie: 'DDVHSLLQ' };
/** Its name begins with the whole name of west's cookie. */
const NORTH = { name: 'north', cookie: 'DDVHSLLQ-NORTH' };
const SITES = [EAST, WEST, NORTH];

const policy = policyOf(EAST, [WEST, NORTH], { onOwnerDown: 'adopt', bothCookies: 'remote' });
const matcher = createRequestMatcher(policy, STATUS_URI);

const PROPERTY_RUNS = { numRuns: 3_000 };

describe('cookieSites()', () => {
  test.each([
    ['nothing', '', ''],
    ['spaces and tabs only', ' \t ', ''],
    ['separators only', ';;;', ''],
    ['equals signs only', '===', ''],
    ['an unnamed value', '=DDVHSLLQ', ''],
    ["east's cookie", 'KVAAVROI=1', 'east'],
    ["west's cookie", 'DDVHSLLQ=1', 'west'],
    ['a name that another one begins with', 'DDVHSLLQ-NORTH=1', 'north'],
    ['a letter before the name', 'XDDVHSLLQ=1', ''],
    ['a letter after the name', 'DDVHSLLQX=1', ''],
    ['half of the name', 'DDVH=1', ''],
    ['the name in lower case', 'ddvhsllq=1', ''],
    ['the name in mixed case', 'DDVHSLLq=1', ''],
    ['the name inside a value', 'a=DDVHSLLQ', ''],
    ['name and equals sign inside a value', 'a=DDVHSLLQ=1', ''],
    ['a quoted value', 'DDVHSLLQ="1"', 'west'],
    ['the name inside a quoted value', 'a="DDVHSLLQ=1"', ''],
    ['a semicolon ends a quoted value as any other', 'a="x; DDVHSLLQ=1"', 'west'],
    ['a quoted name', '"DDVHSLLQ"=1', ''],
    ['a comma separates nothing', 'a=1, DDVHSLLQ=1', ''],
    ['no equals sign', 'DDVHSLLQ', ''],
    ['no equals sign, and another cookie', 'DDVHSLLQ; a=1', ''],
    ['an empty value', 'DDVHSLLQ=', 'west'],
    ['an empty value, and another cookie', 'DDVHSLLQ=; a=1', 'west'],
    ['an equals sign in the value', 'DDVHSLLQ==', 'west'],
    ['spaces before the name', 'a=1;   DDVHSLLQ=1', 'west'],
    ['a tab before the name', 'a=1;\tDDVHSLLQ=1', 'west'],
    ['no space before the name', 'a=1;DDVHSLLQ=1', 'west'],
    ['a space after the name', 'DDVHSLLQ =1', ''],
    ['a space inside the name', 'DDVH SLLQ=1', ''],
    ['a space after the equals sign', 'DDVHSLLQ= 1', 'west'],
    ['another kind of white space', '\u00a0DDVHSLLQ=1', ''],
    ['an empty cookie before it', '; DDVHSLLQ=1', 'west'],
    ['a semicolon at the end', 'DDVHSLLQ=1;', 'west'],
    ['a cookie without equals sign before it', 'a; DDVHSLLQ=1', 'west'],
    ['the last of many', `${'a=1; '.repeat(100)}DDVHSLLQ=1`, 'west'],
    ['the same cookie twice', 'DDVHSLLQ=1; DDVHSLLQ=2', 'west'],
    ['the cookies of two sites', 'KVAAVROI=1; DDVHSLLQ=1', 'east west'],
    ['the cookies of all sites, others between', 'DDVHSLLQ-NORTH=1; a=1; DDVHSLLQ=1; b=; KVAAVROI=', 'east west north'],
  ])('%s: %j', (_, cookie, expected) => {
    expect(sitesIn(cookie)).toBe(expected);
  });

  test.each([
    ['goes on with an equals sign', 'DDVHSLLQ', '=1', 'west'],
    ['goes on with the rest of the name', 'DDVH', 'SLLQ=1', 'west'],
    ['goes on with another cookie', 'KVAAVROI=1', '; DDVHSLLQ=1', 'east west'],
  ])('does not read past its end into a message that %s', (_, cookie, after, together) => {
    expect(sitesIn(cookie + after)).toBe(together);
    expect(sitesIn(cookie, { before: '', after })).toBe(sitesByStrings(cookie));
  });

  test('reads any header as a reader of strings does', () => {
    fc.assert(
      fc.property(cookieHeader, surroundings, (cookie, around) => {
        expect(sitesIn(cookie, around)).toBe(sitesByStrings(cookie));
      }),
      PROPERTY_RUNS,
    );
  });
});

describe('isStatusUri()', () => {
  test.each([
    ['the path itself', '/local_pool_status', true],
    ['a query', '/local_pool_status?x=1', true],
    ['an empty query', '/local_pool_status?', true],
    ['a query that holds a path', '/local_pool_status?/other', true],
    ['a fragment', '/local_pool_status#x', true],
    ['an escape', '/local%5Fpool_status', true],
    ['an escape in lower case', '/local%5fpool_status', true],
    ['an escaped first slash', '%2Flocal_pool_status', true],
    ['an escape at the end', '/local_pool_statu%73', true],
    ['an escape before a query', '/local_pool_statu%73?x', true],
    ['every character escaped', escaped(STATUS_URI), true],
    ['an escape with the wrong value', '/local%5Epool_status', false],
    ['an escape without its second digit', '/local_pool_statu%7', false],
    ['an escape without digits', '/local_pool_statu%', false],
    ['a digit too little, before a query', '/local_pool_statu%7?3', false],
    ['an escape of no hex digits', '/local%G5pool_status', false],
    ['an escape whose second sign is no digit but would add up', '/local_pool_statu%5S', false],
    ['an escape of signs that digits resemble', '/local_pool_statu%7\u0013', false],
    ['a lone % after it', '/local_pool_status%', false],
    ['an escaped question mark', '/local_pool_status%3Fx=1', false],
    ['an escaped fragment sign', '/local_pool_status%23x', false],
    ['an escaped NUL after it', '/local_pool_status%00', false],
    ['double escaping', '/local%255Fpool_status', false],
    ['a slash at the end', '/local_pool_status/', false],
    ['an escaped slash at the end', '/local_pool_status%2F', false],
    ['two slashes', '//local_pool_status', false],
    ['a path parameter', '/local_pool_status;x=1', false],
    ['upper case', '/LOCAL_POOL_STATUS', false],
    ['a shorter path', '/local_pool_statu', false],
    ['a shorter path and a query that goes on', '/local_pool_statu?s', false],
    ['a longer path', '/local_pool_status2', false],
    ['the path inside another', '/app/local_pool_status', false],
    ['the path in a query', '/?/local_pool_status', false],
    ['dots', '/./local_pool_status', false],
    ['a whole URL', 'http://site/local_pool_status', false],
    ['only a query', '?', false],
    ['the root', '/', false],
    ['nothing', '', false],
  ])('%s: %j', (_, path, expected) => {
    expect(isStatusUri(path)).toBe(expected);
  });

  test.each(['/', '/a', '/healthz/pool.txt', "/!$&'()*+,;=:@-._~"])('goes by the configured path %j', (statusUri) => {
    const other = createRequestMatcher(policy, statusUri);
    expect(isStatusUri(statusUri, NOTHING_AROUND, other)).toBe(true);
    expect(isStatusUri(`${statusUri}?q`, NOTHING_AROUND, other)).toBe(true);
    expect(isStatusUri(escaped(statusUri), NOTHING_AROUND, other)).toBe(true);
    expect(isStatusUri(STATUS_URI, NOTHING_AROUND, other)).toBe(false);
  });

  test.each([
    ['goes on with the rest of the path', '/local_pool_statu', 's'],
    ['goes on with the digits of an escape', '/local_pool_statu%', '73'],
    ['goes on with the second digit of an escape', '/local_pool_statu%7', '3'],
  ])('does not read past its end into a message that %s', (_, text, after) => {
    expect(isStatusUri(text + after)).toBe(true);
    expect(isStatusUri(text, { before: '', after })).toBe(false);
  });

  test('reads any path as a reader of strings does', () => {
    fc.assert(
      fc.property(path, surroundings, (text, around) => {
        expect(isStatusUri(text, around)).toBe(isStatusUriByStrings(text));
      }),
      PROPERTY_RUNS,
    );
  });
});

/** The generators would prove little if they made no or nothing but status URIs, and no or all cookies. */
test('the random headers and paths of these tests are of every kind', () => {
  const headers = fc.sample(cookieHeader, { numRuns: 500, seed: 1 });
  expect(new Set(headers.map(sitesByStrings)).size).toBe(2 ** SITES.length);
  const answers = fc.sample(path, { numRuns: 500, seed: 1 }).map(isStatusUriByStrings);
  expect(answers.filter((isStatus) => isStatus).length).toBeGreaterThan(50);
  expect(answers.filter((isStatus) => !isStatus).length).toBeGreaterThan(50);
});

/** What stands before and after the header in Envoy's message. */
interface Surroundings {
  readonly before: string;
  readonly after: string;
}

const NOTHING_AROUND: Surroundings = { before: '', after: '' };

function sitesIn(cookie: string, around: Surroundings = NOTHING_AROUND): string {
  const { bytes, start, end } = placed(cookie, around);
  const bits = matcher.cookieSites(bytes, start, end);
  return namesOf((index) => (bits & (1 << index)) !== 0);
}

function isStatusUri(text: string, around: Surroundings = NOTHING_AROUND, reader = matcher): boolean {
  const { bytes, start, end } = placed(text, around);
  return reader.isStatusUri(bytes, start, end);
}

/** One byte for each character, as Envoy sends header values. */
function placed(text: string, { before, after }: Surroundings) {
  const bytes = new Uint8Array(Buffer.from(before + text + after, 'latin1'));
  return { bytes, start: before.length, end: before.length + text.length };
}

function sitesByStrings(cookie: string): string {
  const names = cookie
    .split(';')
    .filter((pair) => pair.includes('='))
    .map((pair) => pair.slice(0, pair.indexOf('=')).replace(/^[ \t]+/, ''));
  return namesOf((index) => names.includes(SITES[index]?.cookie ?? ''));
}

function isStatusUriByStrings(text: string): boolean {
  const withoutQuery = text.split(/[?#]/, 1)[0] ?? '';
  const decoded = withoutQuery.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return decoded === STATUS_URI;
}

function namesOf(has: (index: number) => boolean): string {
  return SITES.filter((_, index) => has(index))
    .map((site) => site.name)
    .join(' ');
}

function escaped(text: string): string {
  return [...text].map(escapedCharacter).join('');
}

function escapedCharacter(character: string): string {
  return `%${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

/** Any byte, any ASCII character, and more often what means something where these tests look. */
const character = fc.oneof(
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xff }).map((code) => String.fromCharCode(code)) },
  { weight: 1, arbitrary: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)) },
  { weight: 3, arbitrary: fc.constantFrom(';', '=', ' ', '\t', '"', ',', '%', '?', '#', '/') },
);

const cookieName = fc.constantFrom(...SITES.map((site) => site.cookie), 'XDDVHSLLQ', 'DDVHSLLQX', 'ddvhsllq', 'a');

/** Mostly cookies as browsers send them, so that the names are found among them, and anything between. */
const cookieHeader = fc
  .array(
    fc.oneof(
      { weight: 2, arbitrary: cookieName },
      { weight: 3, arbitrary: cookieName.map((name) => `; ${name}=1`) },
      { weight: 1, arbitrary: cookieName.map((name) => `${name}=`) },
      { weight: 3, arbitrary: character },
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(''));

/** A character of the status URI: as it is, escaped in either case, or seldom something else. */
function spelled(original: string) {
  return fc.oneof(
    { weight: 40, arbitrary: fc.constant(original) },
    { weight: 6, arbitrary: fc.constant(escapedCharacter(original)) },
    { weight: 6, arbitrary: fc.constant(escapedCharacter(original).toUpperCase()) },
    { weight: 1, arbitrary: character },
    { weight: 1, arbitrary: fc.constantFrom('', '%', '%2', '%25', '%2F', '%3f', '%5', original + original) },
  );
}

const freeText = fc.array(character, { maxLength: 20 }).map((parts) => parts.join(''));

const path = fc.oneof(
  { weight: 1, arbitrary: freeText },
  {
    weight: 5,
    arbitrary: fc
      .tuple(fc.tuple(...[...STATUS_URI].map(spelled)), fc.oneof(fc.constant(''), freeText))
      .map(([spelling, rest]) => spelling.join('') + rest),
  },
);

/** The neighbours of the value are such that reading a byte too many shows. */
const surroundings = fc.record({
  before: fc.oneof(fc.constantFrom('', 'DDVHSLLQ', '; ', '/', '%'), freeText),
  after: fc.oneof(fc.constantFrom('', '=1', 'LLQ=1', '; KVAAVROI=1', 's', '73', '3', '?'), freeText),
});
