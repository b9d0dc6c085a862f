import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hostTable, NO_APPLICATION } from '../../../src/config/virtual-hosts.ts';
import { createPolicy, LOCAL, LOCAL_ALSO } from '../../../src/decision/policy.ts';
import {
  type ApplicationMatchers,
  createRequestDecoder,
  type PhaseMessage,
  readRequestHeader,
} from '../../../src/ext-proc/request.ts';
import { createRequestMatcher, type RequestMatcher } from '../../../src/ext-proc/request-matcher.ts';
import { loadExtProcMethod } from '../../../src/ext-proc/service.ts';
import { createReferenceDecoder } from './reference-decoder.ts';
import { anyBytes, plainRequest, processingRequest } from './request-arbitraries.ts';
import { RENAMED_SITES, siteNames, THREE_SITES } from './three-sites.ts';
import { bytesField, fixedField, tag, varint, varintField } from './wire-writer.ts';

const policy = createPolicy(THREE_SITES);
const onlyOf = (matcher: RequestMatcher): ApplicationMatchers => ({ hosts: null, matchers: [matcher] });
const decodeRequest = createRequestDecoder(onlyOf(createRequestMatcher(policy, THREE_SITES.statusUri)));
const referenceDecode = createReferenceDecoder(policy, THREE_SITES.statusUri);
const renamed = createPolicy(RENAMED_SITES);
const decodeRenamed = createRequestDecoder(onlyOf(createRequestMatcher(renamed, RENAMED_SITES.statusUri)));
const referenceOfRenamed = createReferenceDecoder(renamed, RENAMED_SITES.statusUri);
const decodeByHost = createRequestDecoder({
  hosts: hostTable([['shop.example.com'], ['*']]),
  matchers: [0, 1].map(() => createRequestMatcher(policy, THREE_SITES.statusUri)),
});
const { requestSerialize } = loadExtProcMethod();

/** With these Cookie headers. */
function requestOf(cookies: readonly string[]): Buffer {
  const headers = cookies.map((cookie) => ({ key: 'cookie', raw_value: Buffer.from(cookie) }));
  return requestSerialize({ request_headers: { headers: { headers } } });
}

const MALFORMED: PhaseMessage = { phase: 'malformed' };
const REQUEST_HEADERS = 2;
const RESPONSE_HEADERS = 3;

type Headers = readonly (readonly [name: string, value: string])[];

describe('createRequestDecoder() reads what proto-loader reads', () => {
  test('in any message that proto-loader writes', () => {
    fc.assert(
      fc.property(plainRequest, (message) => {
        const bytes = requestSerialize(message);
        expect(decodeRequest(bytes)).toEqual(referenceDecode(bytes));
      }),
      { numRuns: 500 },
    );
  });

  test('in any message, where cookies have other names as well', () => {
    const name = fc.constantFrom('KVAAVROI', 'OLDEAST', 'DDVH', 'DDVHSLLQ', 'XDDVHSLLQ', 'OLDEASTX', 'a');
    const crumb = fc.tuple(name, fc.constantFrom('=1', '=', '', '=OLDEAST=1')).map((parts) => parts.join(''));
    const line = fc.array(crumb, { maxLength: 4 }).map((crumbs) => crumbs.join('; '));
    const cookies = fc.array(line, { maxLength: 3 }).map((lines) => requestOf(lines));
    let underBoth = 0;
    fc.assert(
      fc.property(fc.oneof(cookies, processingRequest), (bytes) => {
        const message = decodeRenamed(bytes);
        expect(message).toEqual(referenceOfRenamed(bytes));
        if (message.phase === 'requestHeaders' && (message.cookies & LOCAL_ALSO) !== 0) underBoth++;
      }),
      { numRuns: 2_000 },
    );
    expect(underBoth).toBeGreaterThan(100);
  });

  test('in any message, where the application has to be found by the host', () => {
    let found = 0;
    fc.assert(
      fc.property(processingRequest, (bytes) => {
        const message = decodeByHost(bytes);
        if (message.phase === 'requestHeaders') {
          if (message.application === NO_APPLICATION) return;
          found++;
          expect({ ...message, application: 0 }).toEqual(referenceDecode(bytes));
        } else expect(message).toEqual(referenceDecode(bytes));
      }),
      { numRuns: 1_500 },
    );
    expect(found).toBeGreaterThan(100);
  });

  test('in any message, with unknown fields at each level and fields missing, out of order or there twice', () => {
    fc.assert(
      fc.property(processingRequest, (bytes) => {
        expect(decodeRequest(bytes)).toEqual(referenceDecode(bytes));
      }),
      { numRuns: 1_500 },
    );
  });

  test('in every truncation of a message, unless it is malformed', () => {
    fc.assert(fc.property(processingRequest, expectTruncationsToMatch), { numRuns: 100 });
  });
});

describe('createRequestDecoder() finds the cookies of sites by their other names', () => {
  const [EAST, WEST] = [1 << LOCAL, 1 << 1];
  /** Under the name that it is set under as well. */
  const ALSO = EAST | LOCAL_ALSO;
  test.each<[cookies: readonly string[], sites: number, isTwice: boolean]>([
    [['KVAAVROI=1'], EAST, false],
    [['OLDEAST=1'], EAST, false],
    [['DDVH=1'], EAST, false],
    [['OLDEAST=1; KVAAVROI=1'], ALSO, false],
    [['KVAAVROI=1; OLDEAST=1'], ALSO, false],
    [['KVAAVROI=1', 'OLDEAST=1'], ALSO, false],
    [['OLDEAST=1; OLDEAST=2'], EAST, false],
    [['OLDEAST=1', 'DDVH=2'], EAST, false],
    [['KVAAVROI=1; OLDEAST=1; KVAAVROI=2'], ALSO, true],
    [['OLDEAST=1; KVAAVROI=1', 'KVAAVROI=2'], ALSO, true],
    [['XDDVHSLLQ=1'], WEST, false],
    [['XDDVHSLLQ=1; DDVHSLLQ=1'], WEST, false],
    [['XDDVHSLLQ=1; OLDEAST=1'], WEST | EAST, false],
    [['XDDVHSLLQ=1; OLDEAST=1', 'KVAAVROI=1'], WEST | ALSO, false],
    [['OLDEAST; a=OLDEAST=1; oldeast=1; OLDEASTX=1'], 0, false],
  ])('%j', (cookies, sites, isLocalCookieTwice) => {
    expect(decodeRenamed(requestOf(cookies))).toMatchObject({ cookies: sites, isLocalCookieTwice });
  });
});

describe('createRequestDecoder() finds the cookies of sites', () => {
  test.each<[string, string[]]>([
    ['KVAAVROI=1', ['east']],
    ['DDVHSLLQ=1', ['west']],
    ['KVAAVROI=1; DDVHSLLQ=2; NNPOLEXY=3', ['east', 'west', 'north']],
    ['a=b;DDVHSLLQ=1;c=d', ['west']],
    ['a=b;\tDDVHSLLQ=1', ['west']],
    ['DDVHSLLQ=', ['west']],
    ['DDVHSLLQ="quoted value"', ['west']],
    ['DDVHSLLQ==', ['west']],
    [';; ;DDVHSLLQ=1;', ['west']],
    ['DDVHSLLQ=1; DDVHSLLQ=2', ['west']],
    ['', []],
    ['DDVHSLLQ', []],
    ['DDVHSLLQ; KVAAVROI=1', ['east']],
    ['XDDVHSLLQ=1', []],
    ['DDVHSLLQX=1', []],
    ['DDVHSLL=1', []],
    ['ddvhsllq=1', []],
    ['DDVHSLLQ =1', []],
    ['"DDVHSLLQ"=1', []],
    ['a=DDVHSLLQ', []],
    ['a=DDVHSLLQ=1', []],
    ['a="DDVHSLLQ=1"', []],
    ['a=b, DDVHSLLQ=1', []],
    // Envoy and RFC 6265 know no quotes around a semicolon.
    ['a="b;DDVHSLLQ=1"', ['west']],
  ])('in %j: %j', (value, sites) => {
    for (const carry of [rawHeader, plainHeader]) {
      const bytes = headersMessage(REQUEST_HEADERS, carry('cookie', value));
      expect(cookieSites(bytes)).toEqual(sites);
      expect(decodeRequest(bytes)).toEqual(referenceDecode(bytes));
    }
  });

  test('in a cookie header that was split or repeated', () => {
    const bytes = request([
      ['cookie', 'KVAAVROI=1'],
      ['accept', '*/*'],
      ['cookie', 'a=b; DDVHSLLQ=2'],
    ]);
    expect(cookieSites(bytes)).toEqual(['east', 'west']);
  });

  test.each(['Cookie', 'cookie2', 'set-cookie', 'xcookie', 'cooki', ''])('not in a header named %j', (name) => {
    expect(cookieSites(request([[name, 'DDVHSLLQ=1']]))).toEqual([]);
  });

  test('in raw_value where both are there, in value where raw_value is empty', () => {
    const both = [bytesField(1, 'cookie'), bytesField(2, 'KVAAVROI=1'), bytesField(3, 'DDVHSLLQ=1')];
    const emptyRaw = [bytesField(1, 'cookie'), bytesField(2, 'KVAAVROI=1'), bytesField(3, '')];
    expect(cookieSites(headersMessage(REQUEST_HEADERS, Buffer.concat(both)))).toEqual(['west']);
    expect(cookieSites(headersMessage(REQUEST_HEADERS, Buffer.concat(emptyRaw)))).toEqual(['east']);
  });
});

describe('createRequestDecoder() knows the status URI', () => {
  test.each<[string, boolean]>([
    ['/local_pool_status', true],
    ['/local_pool_status?', true],
    ['/local_pool_status?a=/b', true],
    ['/local_pool_status#fragment', true],
    ['/local%5fpool%5Fstatus', true],
    ['/%6C%6f%63al_pool_status?x', true],
    ['', false],
    ['/', false],
    ['/local_pool_statu', false],
    ['/local_pool_statuss', false],
    ['/local_pool_status/', false],
    ['/LOCAL_POOL_STATUS', false],
    ['//local_pool_status', false],
    ['/x?/local_pool_status', false],
    ['/local_pool_status%', false],
    ['/local_pool_status%3Fa', false],
    ['/local_pool_statu%7', false],
    ['/local_pool_statu%', false],
    ['/local%zzpool_status', false],
    ['/local%255fpool_status', false],
  ])('%j: %s', (path, isStatusUri) => {
    const bytes = request([[':path', path]]);
    expect(decodeRequest(bytes)).toEqual({
      phase: 'requestHeaders',
      application: 0,
      isStatusUri,
      hasHop: false,
      cookies: 0,
      isLocalCookieTwice: false,
    });
    expect(decodeRequest(bytes)).toEqual(referenceDecode(bytes));
  });
});

test('createRequestDecoder() does not complete an escape from the bytes behind the path', () => {
  const decodeMenu = createRequestDecoder(onlyOf(createRequestMatcher(policy, '/menu')));
  const behind = fixedField(6, Buffer.alloc(4));
  expect(behind.subarray(0, 1).toString()).toBe('5');
  const decodePath = (path: string) =>
    decodeMenu(headersMessage(REQUEST_HEADERS, Buffer.concat([rawHeader(':path', path), behind])));
  expect(decodePath('/men%75')).toMatchObject({ isStatusUri: true });
  expect(decodePath('/men%7')).toMatchObject({ isStatusUri: false });
  expect(decodePath('/men%')).toMatchObject({ isStatusUri: false });
});

describe('createRequestDecoder() sees the hop header', () => {
  test.each<[string, boolean]>([
    ['x-site-hop', true],
    ['x-site-hops', false],
    ['x-site-ho', false],
    ['X-Site-Hop', false],
  ])('%s: %s', (name, hasHop) => {
    for (const value of ['west', '']) {
      const facts = { isStatusUri: false, hasHop, cookies: 0, isLocalCookieTwice: false };
      const expected = { phase: 'requestHeaders', application: 0, ...facts };
      expect(decodeRequest(request([[name, value]]))).toEqual(expected);
    }
  });
});

describe("createRequestDecoder() tells Envoy's own 503 from an upstream's", () => {
  test.each<[Headers, boolean]>([
    [[[':status', '503']], true],
    [
      [
        [':status', '503'],
        ['content-type', 'text/plain'],
      ],
      true,
    ],
    [
      [
        [':status', '503'],
        ['x-envoy-upstream-service-time', '3'],
      ],
      false,
    ],
    [
      [
        ['x-envoy-upstream-service-time', ''],
        [':status', '503'],
      ],
      false,
    ],
    [[[':status', '200']], false],
    [[[':status', '504']], true],
    [[[':status', '404']], true],
    [[[':status', '304']], false],
    // Of a gRPC request Envoy's own 503 is a 200.
    [
      [
        [':status', '200'],
        ['grpc-status', '14'],
      ],
      true,
    ],
    [
      [
        [':status', '200'],
        ['grpc-status', '0'],
        ['x-envoy-upstream-service-time', '1'],
      ],
      false,
    ],
    [[[':status', '']], false],
    [[['status', '503']], false],
    [[], false],
  ])('%j: %s', (headers, isUnserved) => {
    const bytes = headersMessage(RESPONSE_HEADERS, ...headers.map(([name, value]) => rawHeader(name, value)));
    expect(decodeRequest(bytes)).toEqual({ phase: 'responseHeaders', isUnserved });
    expect(decodeRequest(bytes)).toEqual(referenceDecode(bytes));
  });
});

describe('createRequestDecoder() names the phase', () => {
  test.each<[number, PhaseMessage['phase']]>([
    [2, 'requestHeaders'],
    [3, 'responseHeaders'],
    [4, 'requestBody'],
    [5, 'responseBody'],
    [6, 'requestTrailers'],
    [7, 'responseTrailers'],
  ])('field %i: %s, empty or not', (field, phase) => {
    expect(decodeRequest(bytesField(field, ''))).toMatchObject({ phase });
    expect(decodeRequest(bytesField(field, bytesField(1, '')))).toMatchObject({ phase });
  });

  test('the last one where there are several, as of any oneof', () => {
    const bytes = Buffer.concat([request([['cookie', 'DDVHSLLQ=1']]), bytesField(4, '')]);
    expect(decodeRequest(bytes)).toEqual({ phase: 'requestBody' });
  });

  test('no phase, only unknown fields or a phase that is no message: malformed', () => {
    expect(decodeRequest(Buffer.alloc(0))).toEqual(MALFORMED);
    expect(decodeRequest(Buffer.concat([bytesField(1, 'x'), bytesField(8, 'x'), varintField(10, 1)]))).toEqual(
      MALFORMED,
    );
    expect(decodeRequest(varintField(REQUEST_HEADERS, 1))).toEqual(MALFORMED);
  });

  test('a header map in two parts is one map, as of any message', () => {
    const [east, west] = [rawHeader('cookie', 'KVAAVROI=1'), rawHeader('cookie', 'DDVHSLLQ=1')];
    const parts = [bytesField(1, bytesField(1, east)), bytesField(1, bytesField(1, west))];
    expect(cookieSites(bytesField(REQUEST_HEADERS, Buffer.concat(parts)))).toEqual(['east', 'west']);
  });
});

describe('createRequestDecoder() refuses what cannot be read, and only that', () => {
  const levels = ['phase', 'header map', 'header', 'name', 'value'];
  const lies = [1, 127, 128, 2 ** 31, 2n ** 32n, 2n ** 53n, 2n ** 63n];

  test.each(levels)('a length of the %s that goes past the end is malformed', (level) => {
    for (const lie of lies) {
      const bytes = nestedCookie(level === 'name' ? 'name' : 'value', (name, length) =>
        name === level ? { length: BigInt(length) + BigInt(lie) } : {},
      );
      expect(decodeRequest(bytes), `${lie} bytes too many`).toEqual(MALFORMED);
    }
  });

  test.each(levels.slice(1))(
    'a length of the %s that goes past what it is in, into what follows, is malformed',
    (level) => {
      for (const lie of [1, 2, 50]) {
        const bytes = nestedCookie(level === 'name' ? 'name' : 'value', (name, length) =>
          name === level ? { length: length + lie } : {},
        );
        const followed = Buffer.concat([bytes, bytesField(9, Buffer.alloc(100))]);
        expect(decodeRequest(followed), `${lie} bytes too many`).toEqual(MALFORMED);
      }
    },
  );

  test.each(levels)('a wrong length of the %s never throws, nor shows a cookie that is not there', (level) => {
    for (let length = 0; length < 60; length++) {
      const bytes = nestedCookie('value', (name) => (name === level ? { length } : {}));
      expect(['requestHeaders', 'malformed']).toContain(decodeRequest(bytes).phase);
      expect([[], ['west']]).toContainEqual(cookieSites(bytes));
    }
  });

  test.each([2, 3, 4, 5, 6, 9, 10])('a varint padded to %i bytes is read, as protobuf allows it', (minBytes) => {
    const bytes = nestedCookie('value', () => ({ minBytes }));
    expect(cookieSites(bytes)).toEqual(['west']);
    // protobufjs itself misreads lengths of 6 to 9 bytes.
    if (minBytes <= 5) expect(decodeRequest(bytes)).toEqual(referenceDecode(bytes));
  });

  test.each(levels)('a varint of 11 bytes or more, as tag or length of the %s, is malformed', (level) => {
    for (const minBytes of [11, 12, 50]) {
      expect(decodeRequest(nestedCookie('value', (name) => (name === level ? { minBytes } : {})))).toEqual(MALFORMED);
    }
  });

  test.each<[string, Buffer]>([
    ['a varint that never ends', Buffer.alloc(20, 0xff)],
    ['an unknown varint of 11 bytes', Buffer.concat([tag(9, 0), varint(1, 11)])],
    ['field number 0', bytesField(0, 'x')],
    ['a field number past 2^29 - 1', bytesField(2 ** 29, 'x')],
    ['a field number that is request_headers when cut to 32 bits', bytesField(2 ** 29 + REQUEST_HEADERS, '')],
    ['a group, which proto3 has not', Buffer.concat([tag(9, 3), tag(9, 4)])],
    ['the end of a group', tag(9, 4)],
    ['wire type 6', tag(9, 6)],
    ['wire type 7', tag(9, 7)],
    ['a fixed32 cut short', Buffer.concat([tag(9, 5), Buffer.alloc(3)])],
    ['a fixed64 cut short', Buffer.concat([tag(9, 1), Buffer.alloc(7)])],
    ['a tag without a field', tag(9, 2)],
  ])('%s is malformed, before, after or inside of what can be read', (_, bad) => {
    const good = request([['cookie', 'DDVHSLLQ=1']]);
    const inHeader = headersMessage(REQUEST_HEADERS, Buffer.concat([rawHeader('cookie', 'DDVHSLLQ=1'), bad]));
    for (const bytes of [bad, Buffer.concat([good, bad]), Buffer.concat([bad, good]), inHeader]) {
      expect(decodeRequest(bytes)).toEqual(MALFORMED);
    }
  });
});

describe('createRequestDecoder() never throws', () => {
  test('on random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        decodeRequest(bytes);
      }),
      { numRuns: 2_000 },
    );
  });

  test('on a message with bytes changed, put in or taken out', () => {
    const change = fc.tuple(fc.nat({ max: 500 }), fc.nat({ max: 3 }), fc.uint8Array({ maxLength: 3 }));
    fc.assert(
      fc.property(processingRequest, fc.array(change, { minLength: 1, maxLength: 4 }), (message, changes) => {
        decodeRequest(Buffer.from(changes.reduce(withChange, [...message])));
      }),
      { numRuns: 1_500 },
    );
  });

  test('on a message within other bytes, at which it does not look', () => {
    fc.assert(
      fc.property(fc.oneof(processingRequest, anyBytes), anyBytes, anyBytes, (message, before, after) => {
        const inside = Buffer.concat([before, message, after]).subarray(before.length, before.length + message.length);
        expect(decodeRequest(inside)).toEqual(decodeRequest(message));
      }),
      { numRuns: 300 },
    );
  });
});

function expectTruncationsToMatch(message: Buffer): void {
  for (let length = 0; length < message.length; length++) {
    const bytes = message.subarray(0, length);
    const got = decodeRequest(bytes);
    if (got.phase !== 'malformed') expect(got).toEqual(referenceDecode(bytes));
  }
}

function withChange(bytes: number[], [at, remove, insert]: [number, number, Uint8Array]): number[] {
  return bytes.toSpliced(at % (bytes.length + 1), remove, ...insert);
}

function cookieSites(bytes: Buffer): string[] {
  const message = decodeRequest(bytes);
  return message.phase === 'requestHeaders' ? siteNames(message.cookies) : [];
}

function request(headers: Headers): Buffer {
  return headersMessage(REQUEST_HEADERS, ...headers.map(([name, value]) => rawHeader(name, value)));
}

function headersMessage(phase: number, ...headers: readonly Buffer[]): Buffer {
  const map = Buffer.concat(headers.map((header) => bytesField(1, header)));
  return bytesField(phase, bytesField(1, map));
}

/** As Envoy writes a header. */
function rawHeader(name: string, value: string): Buffer {
  return Buffer.concat([bytesField(1, name), bytesField(3, value)]);
}

function plainHeader(name: string, value: string): Buffer {
  return Buffer.concat([bytesField(1, name), bytesField(2, value)]);
}

type Level = 'phase' | 'header map' | 'header' | 'name' | 'value';

/** A request with west's cookie, each level of which `options` may write otherwise. `last` ends the message. */
function nestedCookie(
  last: 'name' | 'value',
  options: (level: Level, length: number) => { length?: number | bigint; minBytes?: number },
): Buffer {
  const field = (level: Level, number: number, content: Buffer) =>
    bytesField(number, content, options(level, content.length));
  const name = field('name', 1, Buffer.from('cookie'));
  const value = field('value', 3, Buffer.from('DDVHSLLQ=1'));
  const header = field('header', 1, Buffer.concat(last === 'value' ? [name, value] : [value, name]));
  return field('phase', REQUEST_HEADERS, field('header map', 1, header));
}

describe('readRequestHeader()', () => {
  const header = (key: string, fields: object) => ({ key, ...fields });
  const message = (...headers: object[]) => requestSerialize({ request_headers: { headers: { headers } } });
  const id = header('x-request-id', { raw_value: Buffer.from('5b1c') });

  test.each<[string, Uint8Array, string | null]>([
    ['a raw value', message(header(':path', { raw_value: Buffer.from('/') }), id), '5b1c'],
    ['a value', message(header('x-request-id', { value: 'text' })), 'text'],
    ['the first of several', message(id, header('x-request-id', { value: 'second' })), '5b1c'],
    ['none of another name', message(header('x-request-id2', { value: 'a' })), null],
    ['none of a message without headers', message(), null],
    ['none of a response', requestSerialize({ response_headers: { headers: { headers: [id] } } }), null],
    ['none of no message', new Uint8Array(0), null],
  ])('reads %s', (_, bytes, expected) => {
    expect(readRequestHeader(bytes, 'x-request-id')).toBe(expected);
  });

  test('never throws', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          anyBytes,
          fc.nat({ max: 40 }).map((end) => message(id).subarray(0, end)),
        ),
        (bytes) => {
          const value = readRequestHeader(bytes, 'x-request-id');
          expect(value === null || typeof value === 'string').toBe(true);
        },
      ),
    );
  });
});
