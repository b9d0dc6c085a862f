import fc from 'fast-check';
import { bytesField, fixedField, varintField } from './wire-writer.ts';

/** The field numbers that our proto files define at each level; Envoy's others are unknown fields like any. */
const KNOWN = {
  processingRequest: [2, 3, 4, 5, 6, 7],
  httpHeaders: [1, 3],
  headerMap: [1],
  headerValue: [1, 2, 3],
  httpBody: [1, 2],
  httpTrailers: [1],
} as const;

const PHASE = {
  request_headers: 2,
  response_headers: 3,
  request_body: 4,
  response_body: 5,
  request_trailers: 6,
  response_trailers: 7,
} as const;

const COOKIE_NAMES = ['KVAAVROI', 'DDVHSLLQ', 'NNPOLEXY'];
const LOOK_ALIKES = [
  'OLDEAST',
  'DDVH',
  'XDDVHSLLQ',
  'DDVHSLLQX',
  'ddvhsllq',
  'DDVHSLL',
  'DDVHSLLQ ',
  '"DDVHSLLQ"',
  '$DDVHSLLQ',
  'KVAAVRO',
];
const HEADER_NAMES = [
  ':authority',
  ':path',
  'cookie',
  'x-site-hop',
  ':status',
  'x-envoy-upstream-service-time',
  'x-site-refused',
];
const LOOK_ALIKE_HEADERS = [
  'Cookie',
  'cookie2',
  'set-cookie',
  ' cookie',
  ':pat',
  ':path2',
  'x-site-hop2',
  'x-site',
  '',
];

export const anyBytes = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));

const cookieName = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...COOKIE_NAMES) },
  { weight: 2, arbitrary: fc.constantFrom(...LOOK_ALIKES) },
  { weight: 1, arbitrary: fc.string({ maxLength: 10 }) },
);
const cookieValue = fc.oneof(
  fc.constantFrom('', 'abc', '"quoted"', '"DDVHSLLQ=1"', '"a;DDVHSLLQ=1"', 'DDVHSLLQ', 'KVAAVROI=1', '=', '=='),
  fc.string({ maxLength: 10 }),
);
const crumb = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(cookieName, cookieValue).map(([name, value]) => `${name}=${value}`) },
  { weight: 1, arbitrary: cookieName },
);
const cookieHeader = fc
  .tuple(fc.array(crumb, { maxLength: 4 }), fc.constantFrom('; ', ';', ' ; ', ';\t', ';;', ', '))
  .map(([crumbs, separator]) => crumbs.join(separator));

const STATUS_URI = '/local_pool_status';
const escapedStatusUri = fc
  .array(fc.constantFrom('plain', 'upper', 'lower'), { minLength: STATUS_URI.length, maxLength: STATUS_URI.length })
  .map((styles) => [...STATUS_URI].map((character, index) => percentEncode(character, styles[index])).join(''));
const path = fc.oneof(
  fc
    .tuple(
      fc.oneof(fc.constant(STATUS_URI), escapedStatusUri),
      fc.constantFrom('', '?', '?a=b', '#f', '/', '%', '%3F', 'x'),
    )
    .map(([uri, rest]) => `${uri}${rest}`),
  fc.constantFrom('/', '/local_pool_statu', '//local_pool_status', `/?${STATUS_URI}`, '/%zzlocal_pool_status', '%2'),
  fc.string({ maxLength: 20 }).map((text) => `/${text}`),
);

const status = fc.constantFrom('503', '200', '504', '5030', '50', '', ' 503');
const anyText = fc.string({ unit: 'binary', maxLength: 20 });
const anyValue = fc.oneof(cookieHeader, path, status, anyText, anyBytes);
const anyName = fc.oneof(fc.constantFrom(...HEADER_NAMES, ...LOOK_ALIKE_HEADERS), anyText);

const namedValue: fc.Arbitrary<readonly [string, string | Buffer]> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant('cookie'), cookieHeader) },
  { weight: 3, arbitrary: fc.tuple(fc.constant(':authority'), fc.constantFrom('shop.example.com', 'other:80', '')) },
  { weight: 3, arbitrary: fc.tuple(fc.constant(':path'), path) },
  { weight: 2, arbitrary: fc.tuple(fc.constant(':status'), status) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('x-site-hop'), fc.constantFrom('west', '')) },
  { weight: 3, arbitrary: fc.tuple(anyName, anyValue) },
);

/** As Envoy sends it (raw_value), as others do (value), and with both, where raw_value wins unless it is empty. */
const usualHeader = fc
  .tuple(namedValue, anyValue, fc.constantFrom('raw_value', 'value', 'both', 'empty raw_value'))
  .map(([[name, value], other, carrier]) => {
    const key = bytesField(1, name);
    if (carrier === 'raw_value') return [key, bytesField(3, value)];
    if (carrier === 'value') return [key, bytesField(2, value)];
    if (carrier === 'both') return [key, bytesField(2, other), bytesField(3, value)];
    return [key, bytesField(2, value), bytesField(3, '')];
  });

/** With parts that are missing, out of order or there twice. */
const oddHeader = fc.array(
  fc.oneof(
    anyName.map((name) => bytesField(1, name)),
    anyValue.map((value) => bytesField(2, value)),
    anyValue.map((value) => bytesField(3, value)),
  ),
  { maxLength: 4 },
);

const headerValue = withUnknownFields(
  fc.oneof({ weight: 4, arbitrary: usualHeader }, { weight: 1, arbitrary: oddHeader }),
  KNOWN.headerValue,
);
const headerMap = withUnknownFields(
  fc.array(
    headerValue.map((header) => bytesField(1, header)),
    { maxLength: 6 },
  ),
  KNOWN.headerMap,
);
const endOfStream = fc.boolean().map((isEnd) => varintField(3, isEnd ? 1 : 0));
const httpHeaders = withUnknownFields(
  fc.tuple(
    headerMap.map((map) => bytesField(1, map)),
    endOfStream,
  ),
  KNOWN.httpHeaders,
);
const httpBody = withUnknownFields(fc.tuple(anyBytes.map((body) => bytesField(1, body))), KNOWN.httpBody);
const httpTrailers = withUnknownFields(fc.tuple(headerMap.map((map) => bytesField(1, map))), KNOWN.httpTrailers);

const phase = fc.oneof(
  { weight: 12, arbitrary: phaseField('request_headers', httpHeaders) },
  { weight: 6, arbitrary: phaseField('response_headers', httpHeaders) },
  { weight: 1, arbitrary: phaseField('request_body', httpBody) },
  { weight: 1, arbitrary: phaseField('response_body', httpBody) },
  { weight: 1, arbitrary: phaseField('request_trailers', httpTrailers) },
  { weight: 1, arbitrary: phaseField('response_trailers', httpTrailers) },
  { weight: 1, arbitrary: fc.constantFrom(...Object.values(PHASE)).map((field) => bytesField(field, '')) },
);

/** One valid `ProcessingRequest`, with unknown fields at every level. */
export const processingRequest = withUnknownFields(fc.tuple(phase), KNOWN.processingRequest);

/** The same as an object, for proto-loader to encode. */
export const plainRequest = fc
  .tuple(fc.constantFrom('request_headers', 'response_headers'), fc.array(fc.tuple(namedValue, fc.boolean())))
  .map(([phase, headers]) => {
    const list = headers.map(([[key, value], isRaw]) =>
      isRaw ? { key, raw_value: Buffer.from(value) } : { key, value: value.toString() },
    );
    return { [phase]: { headers: { headers: list }, end_of_stream: true } };
  });

function phaseField(name: keyof typeof PHASE, content: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  return content.map((bytes) => bytesField(PHASE[name], bytes));
}

/** A message of these fields, with unknown ones anywhere between them. */
function withUnknownFields(fields: fc.Arbitrary<readonly Buffer[]>, known: readonly number[]): fc.Arbitrary<Buffer> {
  const inserts = fc.array(fc.tuple(unknownField(known), fc.nat({ max: 20 })), { maxLength: 2 });
  return fc.tuple(fields, inserts).map(([knownFields, unknownFields]) => {
    const all = [...knownFields];
    for (const [field, at] of unknownFields) all.splice(at % (all.length + 1), 0, field);
    return Buffer.concat(all);
  });
}

/** Of any number but the known ones; small numbers are the likely ones, as Envoy's are. */
function unknownField(known: readonly number[]): fc.Arbitrary<Buffer> {
  const number = fc
    .oneof(fc.integer({ min: 1, max: 15 }), fc.integer({ min: 1, max: 0x1fffffff }))
    .filter((field) => !known.includes(field));
  const cookie = Buffer.concat([bytesField(1, 'cookie'), bytesField(3, 'DDVHSLLQ=1')]);
  return fc.oneof(
    fc.tuple(number, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })).map(([field, value]) => varintField(field, value)),
    fc.tuple(number, fc.constantFrom(4, 8), fc.nat({ max: 255 })).map(([field, length, byte]) => {
      return fixedField(field, Buffer.alloc(length, byte));
    }),
    fc.tuple(number, fc.oneof(anyBytes, fc.constant(cookie))).map(([field, bytes]) => bytesField(field, bytes)),
  );
}

function percentEncode(character: string, style: 'plain' | 'upper' | 'lower' | undefined): string {
  const hex = character.charCodeAt(0).toString(16);
  if (style === 'upper') return `%${hex.toUpperCase()}`;
  return style === 'lower' ? `%${hex}` : character;
}
