import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Reach, whyRefused } from '../../../src/ops/request-guard.ts';

type Headers = Readonly<Record<string, string>>;

function refusal(method: string, headers: Headers, reach: Reach = 'loopback'): string | null {
  const request = new IncomingMessage(new Socket());
  request.method = method;
  Object.assign(request.headers, headers);
  return whyRefused(request, reach);
}

const HOST = { host: '127.0.0.1:9003' };
const OTHER_SITE = 'a request of another web site is refused';
const FORM = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };

describe('a request that changes something', () => {
  test.each<[string, Headers]>([
    ['the form of another site', { ...HOST, 'sec-fetch-site': 'cross-site', ...FORM }],
    ['the form of a sibling domain', { ...HOST, 'sec-fetch-site': 'same-site', ...FORM }],
    ['a site without a name', { ...HOST, origin: 'null' }],
    ['another site by its referrer alone', { ...HOST, referer: 'https://evil.example/page' }],
    ['a referrer that is none', { ...HOST, referer: '//' }],
    ['another port of the machine', { ...HOST, origin: 'http://127.0.0.1:8080' }],
    ['two sites at once', { ...HOST, 'sec-fetch-site': 'same-origin, cross-site' }],
    ['a relation that is not known', { ...HOST, 'sec-fetch-site': 'cross-origin' }],
  ])('is refused from %s', (_, headers) => {
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) expect(refusal(method, headers)).toContain(OTHER_SITE);
  });

  test.each<[string, Headers]>([
    ['a navigation', { 'sec-fetch-mode': 'navigate' }],
    ['a request without CORS', { 'sec-fetch-mode': 'no-cors' }],
    ['a frame', { 'sec-fetch-dest': 'iframe' }],
    ['what a user has clicked', { 'sec-fetch-user': '?1' }],
    ['a header that is not known yet', { 'sec-fetch-storage-access': 'none' }],
    ['an address that was typed in', { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' }],
    ['nowhere', { 'sec-fetch-site': '' }],
  ])('is refused where a browser does not say that it is of the page, but of %s', (_, headers) => {
    for (const reach of ['loopback', 'network'] as const) {
      expect(refusal('POST', { ...HOST, ...headers }, reach)).toBe(
        `${OTHER_SITE}: a browser sends Sec-Fetch-Site: same-origin with what this page asks`,
      );
    }
  });

  test.each<[string, Headers]>([
    ['no browser', HOST],
    ["a script's fetch", { ...HOST, 'sec-fetch-mode': 'cors', accept: '*/*', 'accept-language': '*' }],
    ['the status page', { ...HOST, origin: 'http://127.0.0.1:9003', 'sec-fetch-site': 'same-origin' }],
    [
      'the status page in a browser of today',
      {
        ...{
          ...HOST,
          origin: 'http://127.0.0.1:9003',
          referer: 'http://127.0.0.1:9003/',
          'sec-fetch-site': 'same-origin',
        },
        ...{ 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' },
      },
    ],
    ['the status page, by its referrer', { ...HOST, referer: 'http://127.0.0.1:9003/' }],
    ['the status page by the name localhost', { host: 'localhost:9003', origin: 'http://localhost:9003' }],
  ])('is fine from %s', (_, headers) => {
    expect(refusal('POST', headers)).toBeNull();
  });

  test('must name the loopback listener', () => {
    for (const headers of [{}, { host: '' }, { host: 'evil.example' }]) {
      expect(refusal('POST', headers)).toMatch(/is no name of it/);
    }
  });

  test('without a Host is not of its own origin over TLS, either', () => {
    expect(refusal('POST', { origin: 'https://undefined' }, 'tls')).toBe(OTHER_SITE);
    expect(refusal('POST', { origin: 'https://ops', host: 'ops' }, 'tls')).toBeNull();
    const page = { origin: 'https://ops', host: 'ops', 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' };
    expect(refusal('POST', page, 'tls')).toBeNull();
  });
});

describe('a request that only reads', () => {
  test('is fine as a link of another site, and refused as a part of its page', () => {
    const from = { ...HOST, 'sec-fetch-site': 'cross-site' };
    expect(refusal('GET', { ...from, ...FORM, referer: 'https://evil.example/' })).toBeNull();
    expect(refusal('HEAD', { ...from, 'sec-fetch-mode': 'navigate' })).toBeNull();
    expect(refusal('GET', { ...from, ...FORM, 'sec-fetch-dest': 'iframe' })).toBe(OTHER_SITE);
    expect(refusal('GET', { ...from, 'sec-fetch-mode': 'no-cors' })).toBe(OTHER_SITE);
  });

  test('may come without a Host, as old monitors send it', () => {
    expect(refusal('GET', {})).toBeNull();
  });
});

test('whatever else a request says, nothing from another site changes anything', () => {
  const text = fc.oneof(
    fc.constantFrom('navigate', 'same-origin', 'document', 'null', 'http://127.0.0.1:9003'),
    fc.string(),
  );
  const others = fc.dictionary(
    fc.constantFrom('sec-fetch-mode', 'sec-fetch-dest', 'sec-fetch-user', 'origin', 'referer', 'content-type'),
    text,
  );
  const foreign = fc
    .oneof(fc.constantFrom('cross-site', 'same-site', 'none'), fc.string({ minLength: 1 }))
    .filter((site) => site !== 'same-origin');
  const reach = fc.constantFrom<Reach>('loopback', 'network', 'tls');
  fc.assert(
    fc.property(others, foreign, reach, fc.constantFrom('POST', 'PUT'), (headers, site, where, method) => {
      expect(refusal(method, { ...headers, ...HOST, 'sec-fetch-site': site }, where)).toContain(OTHER_SITE);
    }),
  );
});
