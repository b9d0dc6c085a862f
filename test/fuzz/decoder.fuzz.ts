import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createPolicy } from '../../src/decision/policy.ts';
import { createRequestDecoder, readRequestHeader } from '../../src/ext-proc/request.ts';
import { createRequestMatcher } from '../../src/ext-proc/request-matcher.ts';
import { createReferenceDecoder } from '../unit/ext-proc/reference-decoder.ts';
import { anyBytes, processingRequest } from '../unit/ext-proc/request-arbitraries.ts';
import { siteNames, THREE_SITES } from '../unit/ext-proc/three-sites.ts';
import { readCorpus } from './corpus.ts';

const SECONDS = Number(process.env.FUZZ_SECONDS ?? 20);
const PROPERTIES = 3;

/** As many runs as there is time for. A failure says its seed and the smallest input that fails. */
const RUNS = {
  numRuns: Number.MAX_SAFE_INTEGER,
  interruptAfterTimeLimit: (SECONDS * 1_000) / PROPERTIES,
  includeErrorInReport: true,
};

const policy = createPolicy(THREE_SITES);
const decode = createRequestDecoder({ hosts: null, matchers: [createRequestMatcher(policy, THREE_SITES.statusUri)] });
const referenceDecode = createReferenceDecoder(policy, THREE_SITES.statusUri);
const corpus = readCorpus();
const COOKIE_OF = new Map([
  ['east', 'KVAAVROI='],
  ['west', 'DDVHSLLQ='],
  ['north', 'NNPOLEXY='],
]);

const message = fc.oneof(processingRequest, fc.constantFrom(...corpus.map(({ bytes }) => bytes)));
const seed = fc.oneof({ weight: 4, arbitrary: message }, { weight: 1, arbitrary: anyBytes });

/** Bytes changed, put in, taken out and repeated; parts of another message put between. */
const mutated = fc
  .tuple(seed, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 8 }), fc.oneof(anyBytes, seed)), { maxLength: 6 }))
  .map(([bytes, changes]) =>
    changes.reduce((all, [at, remove, insert]) => {
      const start = at % (all.length + 1);
      return Buffer.concat([all.subarray(0, start), insert, all.subarray(start + remove)]);
    }, bytes),
  );

/** Holds of any bytes at all. */
function expectHarmless(bytes: Buffer): void {
  const message = decode(bytes);
  const around = Buffer.concat([Buffer.from('DDVHSLLQ=1; '), bytes, Buffer.from('=1; KVAAVROI=1')]);
  expect(decode(around.subarray(12, 12 + bytes.length))).toEqual(message);
  expect(typeof (readRequestHeader(bytes, 'x-request-id') ?? '')).toBe('string');
  if (message.phase !== 'requestHeaders') return;
  // Nothing is found that is not there.
  for (const site of siteNames(message.cookies)) expect(bytes.includes(COOKIE_OF.get(site) ?? '?')).toBe(true);
  if (message.hasHop) expect(bytes.includes('x-site-hop')).toBe(true);
  if (message.isStatusUri) expect(bytes.includes(':path')).toBe(true);
}

test.each(corpus)('what is known: $name', ({ bytes }) => {
  expectHarmless(bytes);
  for (let length = 0; length < bytes.length; length++) expectHarmless(bytes.subarray(0, length));
});

test('any bytes are harmless', () => {
  fc.assert(fc.property(mutated, expectHarmless), RUNS);
}, 600_000);

test('a message of Envoy, with fields that are not known, reads as protobuf has it', () => {
  const right = fc.property(processingRequest, (bytes) => {
    expect(decode(bytes)).toEqual(referenceDecode(bytes));
  });
  fc.assert(right, RUNS);
}, 600_000);

test('a message cut short is malformed, or reads as protobuf has it', () => {
  const cut = fc.property(message, fc.nat(), (bytes, at) => {
    const part = bytes.subarray(0, at % (bytes.length + 1));
    const read = decode(part);
    if (read.phase !== 'malformed') expect(read).toEqual(referenceDecode(part));
  });
  fc.assert(cut, RUNS);
}, 600_000);
