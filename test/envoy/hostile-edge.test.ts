import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { decide } from '../../src/decision/decide.ts';
import { createPolicy } from '../../src/decision/policy.ts';
import { createRequestMatcher } from '../../src/ext-proc/request-matcher.ts';
import { DECIDERS, decideBy } from '../support/deciders.ts';
import { onlyApplication } from '../support/only-application.ts';
import {
  PROTOCOLS,
  type Protocol,
  type RawAnswer,
  type RawRequest,
  sendBytes,
  sendBytesToTheEnd,
  sendRaw,
} from '../support/raw-http.ts';
import { EAST_COOKIE, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/**
 * What a client can send to east's edge, and where it must end. Two sites, both up: who is served by the wrong one, has
 * been obeyed where only the sidecar is, or gets the status URI's answer by mistake, shows in the answer.
 */

const STATUS_URI = '/local_pool_status';

/** What the application says that it was sent. */
const seenByApp = z.object({
  site: z.enum(['east', 'west']),
  path: z.string(),
  hop: z.string().nullable(),
  cookies: z.string().nullable(),
  headers: z.record(z.string(), z.union([z.string(), z.array(z.string())])),
});

type Seen = z.infer<typeof seenByApp>;

/** Who answered: the application at a site, the status URI, or Envoy itself, which takes no such request. */
type Outcome = 'east' | 'west' | 'status' | 'rejected';

let lab: TwoSites;
beforeAll(async () => {
  lab = await startTwoSites();
});
afterAll(async () => await lab?.close());

async function outcomeOf(protocol: Protocol, request: RawRequest): Promise<Outcome> {
  return readOutcome(await sendRaw(protocol, lab.east.url, request));
}

function readOutcome({ status, body }: RawAnswer): Outcome {
  // Envoy alone answers the status URI without a word.
  if (body.startsWith('LOCAL POOL STATE: ') || (status === 200 && body === '')) return 'status';
  return body.startsWith('{') ? seenByApp.parse(JSON.parse(body)).site : 'rejected';
}

/** What the application saw of it. @throws where it never came there */
async function seen(protocol: Protocol, request: RawRequest): Promise<Seen> {
  const { body } = await sendRaw(protocol, lab.east.url, request);
  return seenByApp.parse(JSON.parse(body));
}

const WEST: readonly [string, string] = ['cookie', `${WEST_COOKIE}=x`];

describe.each(DECIDERS)('decided by %s', (decider) => {
  decideBy(decider, () => lab);

  describe.each(PROTOCOLS)('%s', (protocol) => {
    test.concurrent.each<[what: string, cookies: readonly string[], Outcome]>([
      ['the other site', [`${WEST_COOKIE}=x`], 'west'],
      ['no value', [`${WEST_COOKIE}=`], 'west'],
      ['no equals sign', [WEST_COOKIE], 'east'],
      ['another case', [WEST_COOKIE.toLowerCase()], 'east'],
      ['its name as a value', [`a=${WEST_COOKIE}=x`], 'east'],
      ['its name as the end of another', [`X${WEST_COOKIE}=x`], 'east'],
      ['its name as the start of another', [`${WEST_COOKIE}X=x`], 'east'],
      ['a space before the equals sign', [`${WEST_COOKIE} =x`], 'east'],
      ['a name in quotes', [`"${WEST_COOKIE}"=x`], 'east'],
      ['an escaped name', [`%44${WEST_COOKIE.slice(1)}=x`], 'east'],
      ['a quoted value with a semicolon, which ends it all the same', [`a="; ${WEST_COOKIE}=x"`], 'west'],
      ['a byte that is no UTF-8 before it', [`a=\xff\xfe; ${WEST_COOKIE}=x`], 'west'],
      ['a byte that is no UTF-8 in front of its name', [`\xc3${WEST_COOKIE}=x`], 'east'],
      ['a tab before it', [`a=1;\t${WEST_COOKIE}=x`], 'west'],
      ['semicolons before it', [`;;; ;${WEST_COOKIE}=x`], 'west'],
      ['no space before it', [`a=1;${WEST_COOKIE}=x`], 'west'],
      ['a line of its own, or a crumb', ['a=1', `${WEST_COOKIE}=x`, 'b=2'], 'west'],
      ['a name torn by two lines', [`a=1; ${WEST_COOKIE.slice(0, 4)}`, `${WEST_COOKIE.slice(4)}=x`], 'east'],
      ['a name and its value torn by two lines', [`a=1; ${WEST_COOKIE}`, '=x'], 'east'],
      ["this site's as well", [`${EAST_COOKIE}=x; ${WEST_COOKIE}=x`], 'west'],
      ["this site's only", [`${EAST_COOKIE}=x`], 'east'],
      ['an empty line before it', ['', `${WEST_COOKIE}=x`], 'west'],
      ['a thousand others before it', [`${'a=1; '.repeat(1_000)}${WEST_COOKIE}=x`], 'west'],
      ['50 kB before it', [`a=${'x'.repeat(50_000)}; ${WEST_COOKIE}=x`], 'west'],
      ['more than Envoy takes', [`a=${'x'.repeat(100_000)}; ${WEST_COOKIE}=x`], 'rejected'],
      ['a NUL', [`a=\0; ${WEST_COOKIE}=x`], 'rejected'],
    ])('a cookie with %s', async (_, cookies, expected) => {
      const headers = cookies.map((cookie) => ['cookie', cookie] as const);
      expect(await outcomeOf(protocol, { headers })).toBe(expected);
    });

    test("a client's own pool header has no effect, and goes nowhere", async () => {
      const pools = ['remote_pool', 'remote_pool_or_local', 'local_pool', 'site_persistence', '', '\xff'];
      for (const pool of pools) {
        const forged = [
          ['x-site-pool', pool],
          ['x-site-pool', 'remote_pool'],
        ] as const;
        const local = await seen(protocol, { headers: forged });
        expect(local.site, pool).toBe('east');
        expect(local.headers).not.toHaveProperty('x-site-pool');
        const forwarded = await seen(protocol, { headers: [...forged, WEST] });
        expect(forwarded.site, pool).toBe('west');
        expect(forwarded.headers).not.toHaveProperty('x-site-pool');
      }
    });

    test("Envoy's own headers are not obeyed when they come from outside", async () => {
      const headers = [
        ['x-envoy-upstream-rq-timeout-ms', '1'],
        ['x-envoy-upstream-rq-per-try-timeout-ms', '1'],
        ['x-envoy-max-retries', '100'],
        ['x-envoy-retry-on', '5xx'],
        ['x-envoy-retriable-status-codes', '200'],
        ['x-envoy-hedge-on-per-try-timeout', 'true'],
        ['x-envoy-upstream-alt-stat-name', 'x'],
        ['x-envoy-internal', 'true'],
        ['x-envoy-original-path', STATUS_URI],
        ['x-envoy-force-trace', 'true'],
      ] as const;
      for (const cookie of [[], [WEST]]) {
        const answer = await seen(protocol, { path: '/of-client', headers: [...headers, ...cookie] });
        expect(answer).toMatchObject({ site: cookie.length === 0 ? 'east' : 'west', path: '/of-client' });
        const names = Object.keys(answer.headers);
        expect(names.filter((name) => headers.some(([sent]) => sent === name))).toEqual([]);
        // Envoy adds it where such a timeout is in force.
        expect(names).not.toContain('x-envoy-expected-rq-timeout-ms');
      }
    });

    test("a client's own refusal changes nothing", async () => {
      const refusal = ['x-site-refused', 'west'] as const;
      expect(await outcomeOf(protocol, { headers: [refusal] })).toBe('east');
      expect(await outcomeOf(protocol, { headers: [refusal, WEST] })).toBe('west');
    });

    test.concurrent.each<[path: string, Outcome]>([
      [STATUS_URI, 'status'],
      [`${STATUS_URI}?`, 'status'],
      [`${STATUS_URI}?a=/b`, 'status'],
      [`/${STATUS_URI}`, 'east'],
      [`/.${STATUS_URI}`, 'status'],
      [`/x/..${STATUS_URI}`, 'status'],
      [`/x/%2e%2e${STATUS_URI}`, 'status'],
      [`/%2e${STATUS_URI}`, 'status'],
      [`${STATUS_URI}/`, 'east'],
      [`${STATUS_URI}/.`, 'east'],
      [`${STATUS_URI}/x`, 'east'],
      [`${STATUS_URI}.`, 'east'],
      [`${STATUS_URI}x`, 'east'],
      [`${STATUS_URI};`, 'east'],
      [`${STATUS_URI};a=b`, 'east'],
      [`${STATUS_URI}&a`, 'east'],
      [`${STATUS_URI}%3Fa`, 'east'],
      [`${STATUS_URI}%23`, 'east'],
      [`${STATUS_URI}%00`, 'rejected'],
      [`${STATUS_URI}%20`, 'east'],
      [`${STATUS_URI}%2F`, 'east'],
      [`${STATUS_URI}%`, 'east'],
      [`${STATUS_URI.slice(0, -1)}%`, 'east'],
      [`${STATUS_URI.slice(0, -1)}%7`, 'east'],
      [`${STATUS_URI.slice(0, -1)}%7x`, 'east'],
      [`${STATUS_URI.slice(0, -1)}%2573`, 'east'],
      [`${STATUS_URI}\\`, 'east'],
      [STATUS_URI.toUpperCase(), 'east'],
      [`/?${STATUS_URI}`, 'east'],
      [`/x?a=${STATUS_URI}`, 'east'],
      // No path at all.
      [STATUS_URI.slice(1), 'rejected'],
      [`%2F${STATUS_URI.slice(1)}`, 'rejected'],
      ['', 'rejected'],
    ])('the path %j', async (path, expected) => {
      expect(await outcomeOf(protocol, { path })).toBe(expected);
      if (expected === 'east') expect((await seen(protocol, { path })).path).toBe(normalized(path));
    });

    test('an escape in the status URI is read at both sites, with the sidecar and without', async () => {
      for (const path of ['/local%5fpool_status', '/%6cocal_pool_status?x', '/local_pool_statu%73']) {
        expect(await outcomeOf(protocol, { path })).toBe('status');
        expect(await outcomeOf(protocol, { path, headers: [WEST] })).toBe('status');
      }
    });

    // Another site's word is taken for it: whether a request was forwarded says the hop header and nothing else.
    test('a forged hop header keeps the request at this site, and that is all', async () => {
      for (const hop of ['west', 'east', 'nonsense', '', '\xff', 'a,b', 'x'.repeat(5_000)]) {
        const answer = await seen(protocol, { headers: [['x-site-hop', hop], WEST] });
        expect(answer.site, hop).toBe('east');
        expect(answer.headers).not.toHaveProperty('x-site-pool');
      }
      const twice = [
        ['x-site-hop', 'west'],
        ['x-site-hop', 'east'],
        ['x-site-pool', 'remote_pool'],
      ] as const;
      expect(await outcomeOf(protocol, { headers: [...twice, WEST] })).toBe('east');
      expect(await outcomeOf(protocol, { path: STATUS_URI, headers: twice })).toBe('status');
    });

    test('whatever cookies, paths and headers are generated, they end where the pure decision sends them', async () => {
      await fc.assert(
        fc.asyncProperty(generatedRequest, async (request) => {
          expect(await outcomeOf(protocol, request)).toBe(expectedOutcome(request, protocol));
        }),
        { numRuns: 150 },
      );
    });
  });

  describe('HTTP/1.1 alone', () => {
    test.concurrent.each<[what: string, lines: readonly string[], Outcome | 'rejected or east']>([
      ['the pool header in capitals', ['X-SITE-POOL: remote_pool'], 'east'],
      ['the pool header named by Connection', ['x-site-pool: remote_pool', 'Connection: x-site-pool'], 'east'],
      ['the hop header in capitals', ['X-SITE-HOP: west', `Cookie: ${WEST_COOKIE}=x`], 'east'],
      ['a forged hop header named by Connection', hopByHop('x-site-hop', 'x-site-hop: west'), 'west'],
      ['its cookie named by Connection', hopByHop('cookie'), 'east'],
      ['a pool header for an upgrade', [...upgrade('x-site-pool'), 'x-site-pool: remote_pool'], 'east'],
      ['an underscored pool header', ['x_site_pool: remote_pool'], 'east'],
      ['a pool header folded into another', ['x-a: 1', ' x-site-pool: remote_pool'], 'rejected or east'],
      ['a pool header after a tab', ['x-a: 1', '\tx-site-pool: remote_pool'], 'rejected or east'],
      ['a space before the colon', ['x-site-pool : remote_pool'], 'rejected'],
      ['no name', [': remote_pool'], 'rejected'],
      ['no colon', ['x-site-pool'], 'rejected'],
      ['a NUL in a name', ['x-site-pool\0: remote_pool'], 'rejected'],
      ['a byte beyond ASCII in a name', ['x-site-pool\xff: remote_pool'], 'rejected'],
      ['a bare carriage return', ['x-a: 1\rx-site-pool: remote_pool'], 'rejected or east'],
      ['a bare line feed', ['x-a: 1\nx-site-pool: remote_pool'], 'rejected or east'],
      ['two hosts', ['Host: other'], 'rejected or east'],
      ['a header of 50 kB', [`x-a: ${'x'.repeat(50_000)}`], 'east'],
      ['a header of 100 kB', [`x-a: ${'x'.repeat(100_000)}`], 'rejected'],
      ['a thousand headers', Array.from({ length: 1_000 }, (_, index) => `x-${index}: 1`), 'rejected'],
      ['Expect', ['Expect: 100-continue', 'Content-Length: 0'], 'east'],
      ['TE', ['TE: trailers, gzip;q=0.5'], 'east'],
    ])('a request with %s', async (_, lines, expected) => {
      const answer = await sendBytes(lab.east.url, head('GET / HTTP/1.1', lines));
      const outcome = readOutcome(answer);
      expect(expected.split(' or ')).toContain(outcome);
      if (outcome !== 'rejected')
        expect(seenByApp.parse(JSON.parse(answer.body)).headers).not.toHaveProperty('x-site-pool');
    });

    test('an upgrade that names the hop header as one for this hop only is sent round in no circle', async () => {
      // Envoy passes on what the Connection header of an upgrade says, so the other site is told the same.
      const lines = ['Upgrade: websocket', 'Connection: Upgrade, x-site-hop', 'Sec-WebSocket-Key: eA=='];
      const cookies = `Cookie: ${EAST_COOKIE}=x; ${WEST_COOKIE}=x`;
      const closeFrame = '\x88\x80\0\0\0\0';
      const bytes = `${headOpen('GET /of-upgrade HTTP/1.1', [...lines, cookies])}${closeFrame}`;
      const answer = await sendBytesToTheEnd(lab.east.url, bytes);
      expect(answer.status).toBe(101);
      expect(answer.body).toContain('west/app-');
      await lab.east.envoy?.waitForLine(/"path":"\/of-upgrade"/);
      const passes = lab.east.envoy?.lines.filter((line) => line.includes('"path":"/of-upgrade"')) ?? [];
      expect(passes.filter((line) => line.includes('"hop":"west"'))).toEqual([]);
    });

    test('trailers are no headers', async () => {
      const body = `1\r\nx\r\n0\r\nx-site-pool: remote_pool\r\ncookie: ${WEST_COOKIE}=x\r\n\r\n`;
      const lines = ['Transfer-Encoding: chunked', 'Trailer: x-site-pool, cookie'];
      const answer = await sendBytes(lab.east.url, `${head('POST / HTTP/1.1', lines)}${body}`);
      expect(readOutcome(answer)).toBe('east');
    });

    test.concurrent.each<[target: string, Outcome]>([
      [`http://app${STATUS_URI}`, 'status'],
      [`http://other:1${STATUS_URI}?x`, 'status'],
      [`http://app/${STATUS_URI}`, 'east'],
      ['http://app', 'east'],
      ['*', 'rejected'],
      [`${STATUS_URI}#x`, 'rejected'],
      [`/x#${STATUS_URI}`, 'rejected'],
      [`/x ${STATUS_URI}`, 'rejected'],
    ])('the target %j', async (target, expected) => {
      const answer = await sendBytes(lab.east.url, head(`GET ${target} HTTP/1.1`, []));
      expect(readOutcome(answer)).toBe(expected);
    });

    test('other versions of HTTP, other methods and no HTTP at all', async () => {
      const rejected = [
        head('CONNECT app:80 HTTP/1.1', [`Cookie: ${WEST_COOKIE}=x`]),
        '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n',
        'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n',
      ];
      for (const bytes of rejected) expect(readOutcome(await sendBytes(lab.east.url, bytes))).toBe('rejected');
      for (const method of ['PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE']) {
        const answer = await sendBytes(lab.east.url, head(`${method} / HTTP/1.1`, [`Cookie: ${WEST_COOKIE}=x`]));
        expect(readOutcome(answer), method).toBe('west');
      }
    });
  });

  describe('HTTP/2 alone', () => {
    test.concurrent.each<[what: string, headers: RawRequest['headers'], expected: Outcome]>([
      ['the pool header in capitals', [['X-Site-Pool', 'remote_pool']], 'rejected'],
      ['a second path', [[':path', STATUS_URI]], 'rejected'],
      [
        'a path after the other headers',
        [
          ['a', 'b'],
          [':path', STATUS_URI],
        ],
        'rejected',
      ],
      ['an unknown pseudo-header', [[':x-site-pool', 'remote_pool']], 'rejected'],
      ['a status', [[':status', '200']], 'rejected'],
      ['a protocol', [[':protocol', 'websocket']], 'rejected'],
      ['a Connection header', [['connection', 'x-site-pool']], 'rejected'],
      ['Transfer-Encoding', [['transfer-encoding', 'chunked']], 'rejected'],
      ['no name', [['', 'remote_pool']], 'rejected'],
      ['a space in a name', [['x-site-pool ', 'remote_pool']], 'rejected'],
      ['a line break in a value', [['a', 'b\r\nx-site-pool: remote_pool']], 'rejected'],
      ['a line break in a name', [['a: b\r\nx-site-pool', 'remote_pool']], 'rejected'],
      ['a thousand headers', Array.from({ length: 1_000 }, (_, index) => [`x-${index}`, '1'] as const), 'rejected'],
    ])('a request with %s', async (_, headers = [], expected) => {
      expect(await outcomeOf('HTTP/2', { headers })).toBe(expected);
    });
  });
});

describe('HTTP/1.1: where a request ends', () => {
  const SMUGGLED = head(`GET ${STATUS_URI} HTTP/1.1`, ['x-site-pool: remote_pool']);
  test.concurrent.each<[what: string, lines: readonly string[], body: string]>([
    ['both lengths', ['Transfer-Encoding: chunked', `Content-Length: ${SMUGGLED.length + 5}`], `0\r\n\r\n${SMUGGLED}`],
    ['two lengths', ['Content-Length: 0', `Content-Length: ${SMUGGLED.length}`], SMUGGLED],
    ['a signed length', [`Content-Length: +${SMUGGLED.length}`], SMUGGLED],
    ['a length of two numbers', [`Content-Length: 0, ${SMUGGLED.length}`], SMUGGLED],
    ['an unknown coding', ['Transfer-Encoding: xchunked'], `0\r\n\r\n${SMUGGLED}`],
    ['chunked twice', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], `0\r\n\r\n${SMUGGLED}`],
    ['a space before the colon', ['Transfer-Encoding : chunked'], `0\r\n\r\n${SMUGGLED}`],
    ['a chunk size that is no number', ['Transfer-Encoding: chunked'], `zz\r\n\r\n${SMUGGLED}`],
    ['a chunk size beyond all numbers', ['Transfer-Encoding: chunked'], `${'f'.repeat(40)}\r\n${SMUGGLED}`],
  ])('a body with %s hides no second request', async (_, lines, body) => {
    const answer = await sendBytesToTheEnd(lab.east.url, `${headOpen('POST / HTTP/1.1', lines)}${body}`);
    expect(answer.heads.length).toBeLessThanOrEqual(1);
    expect(`${answer.heads.join('')}${answer.body}`).not.toContain('LOCAL POOL STATE');
  });
});

/**
 * Sites take the hop header at its word, a client's as well. What that is worth to a client is all said here: it is served
 * by the site that it asked or by none, its session moves there as in any failover, and it learns of a draining site
 * that its pool is up. All of it a client has by leaving its cookies away, and by asking for any page.
 */
describe('a forged hop header', () => {
  const HOP = ['x-site-hop', 'west'] as const;

  test("moves the client's own session to this site", async () => {
    const answer = await sendRaw('HTTP/1.1', lab.east.url, { headers: [HOP, WEST] });
    expect(readOutcome(answer)).toBe('east');
    const cookies = (answer.heads[0] ?? '').split('\r\n').filter((line) => line.startsWith('set-cookie: '));
    expect(cookies.map((line) => line.replace(/="[^"]*"/, '="…"')).sort()).toEqual([
      `set-cookie: ${WEST_COOKIE}=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly`,
      `set-cookie: ${EAST_COOKIE}="…"; Path=/; HttpOnly`,
    ]);
  });

  test.each(PROTOCOLS)(
    '%s: sees of a draining site that its pool is up, and nothing else changes',
    async (protocol) => {
      const drained = await fetch(`${lab.east.opsUrl}/drain`, { method: 'POST' });
      await drained.text();
      try {
        await lab.east.waitForStatus(503);
        const body = async (request: RawRequest) => (await sendRaw(protocol, lab.east.url, request)).body;
        expect(await body({ path: STATUS_URI })).toBe('LOCAL POOL STATE: DOWN');
        expect(await body({ path: STATUS_URI, headers: [HOP] })).toBe('LOCAL POOL STATE: UP');
        expect(await outcomeOf(protocol, { headers: [HOP] })).toBe('east');
        expect(await outcomeOf(protocol, { headers: [HOP, WEST] })).toBe('east');
        expect(await outcomeOf(protocol, {})).toBe('east');
      } finally {
        const undrained = await fetch(`${lab.east.opsUrl}/undrain`, { method: 'POST' });
        await undrained.text();
        await lab.east.waitForStatus(200);
      }
    },
  );

  test('is refused where the local pool is down, and sent nowhere', async () => {
    await lab.east.stopPool();
    try {
      await lab.east.waitForStatus(503);
      const sent = await lab.east.stat('cluster.remote_pool.upstream_rq_total');
      const { heads } = await sendRaw('HTTP/1.1', lab.east.url, {
        headers: [HOP, WEST, ['x-site-pool', 'remote_pool']],
      });
      expect(heads).toEqual([expect.stringMatching(/^HTTP\/1\.1 503 [\s\S]*\r\nx-site-refused: east\r\n/)]);
      expect(heads[0]).not.toContain('set-cookie');
      expect(await lab.east.stat('cluster.remote_pool.upstream_rq_total')).toBe(sent);
      // Without it another site serves.
      expect(await outcomeOf('HTTP/1.1', {})).toBe('west');
    } finally {
      await lab.east.startPool();
      await lab.ready();
    }
  });
});

test('after all that both Envoys and the sidecars still run, and every line of their logs is JSON', () => {
  for (const site of lab.sites) {
    expect(site.sidecar().hasEnded).toBe(false);
    expect(site.envoy?.hasEnded).toBe(false);
    const lines = site.envoy?.lines.filter((line) => line.startsWith('{')) ?? [];
    expect(lines.length).toBeGreaterThan(100);
    for (const line of lines) expect(() => JSON.parse(line), line).not.toThrow();
  }
});

function head(requestLine: string, lines: readonly string[]): string {
  return headOpen(requestLine, ['Connection: close', ...lines]);
}

/** On a connection that stays open for a second request. */
function headOpen(requestLine: string, lines: readonly string[]): string {
  return `${[requestLine, 'Host: app', ...lines].join('\r\n')}\r\n\r\n`;
}

function hopByHop(named: string, ...lines: readonly string[]): string[] {
  return [`Connection: ${named}`, `Cookie: ${WEST_COOKIE}=x`, ...lines];
}

function upgrade(alsoNamed: string): string[] {
  return [`Connection: Upgrade, ${alsoNamed}`, 'Upgrade: other'];
}

/** Pieces that make up cookies that are nearly right. */
const cookieLine = fc
  .array(
    fc.constantFrom(
      ...[WEST_COOKIE, EAST_COOKIE, WEST_COOKIE.toLowerCase(), 'a', 'x'],
      ...['=', '=', '=', ';', '; ', '; ', ' ', ',', '"', '\t', '%3D', '\xff', '\xc3\xa4'],
    ),
    { maxLength: 12 },
  )
  // Leading and trailing spaces are no part of a header's value.
  .map((pieces) => pieces.join('').trim());

/** The status URI as it is, or spelt with escapes and in another case, with something before or after it. */
const nearStatusUri = fc
  .tuple(
    fc.constantFrom('', '', '', '/', '/.', '/x/..', '/%2e', '/;'),
    fc.array(fc.constantFrom('plain', 'plain', 'plain', 'plain', 'escaped', 'upper'), {
      minLength: STATUS_URI.length,
      maxLength: STATUS_URI.length,
    }),
    fc.constantFrom('', '', '', '?', '?a=%20', '/', ';', '%3f', '%', '%2', '.', 'x'),
  )
  .map(([before, spellings, after]) => {
    const letters = [...STATUS_URI].map((letter, index) => {
      // A path begins with a slash.
      const spelling = index === 0 ? 'plain' : spellings[index];
      if (spelling === 'upper') return letter.toUpperCase();
      return spelling === 'escaped' ? `%${letter.charCodeAt(0).toString(16)}` : letter;
    });
    return `${before}${letters.join('')}${after}`;
  });

const generatedRequest = fc.record({
  path: fc.oneof({ arbitrary: fc.constant('/'), weight: 3 }, { arbitrary: nearStatusUri, weight: 2 }),
  headers: fc
    .record({
      cookies: fc.array(cookieLine, { maxLength: 3 }),
      hops: fc.array(fc.constantFrom('west', '', 'x'), { maxLength: 1 }),
      pools: fc.array(fc.constantFrom('remote_pool', 'local_pool', ''), { maxLength: 2 }),
    })
    .map(({ cookies, hops, pools }) => [
      ...pools.map((pool) => ['x-site-pool', pool] as const),
      ...cookies.map((cookie) => ['cookie', cookie] as const),
      ...hops.map((hop) => ['x-site-hop', hop] as const),
    ]),
});

const policy = createPolicy(
  onlyApplication(
    `
site: east
local_pool: { cluster: local_pool, cookie: ${EAST_COOKIE} }
remote_pools: [{ site: west, cluster: remote_pool, cookie: ${WEST_COOKIE} }]
`,
  ),
);
const matcher = createRequestMatcher(policy, STATUS_URI);
const BOTH_UP = { health: { known: true, up: [true, true] }, draining: false } as const;

/** As the edge spells a path before anything reads it (RFC 3986, 6.2.2). */
function normalized(path: string): string {
  const [spelt = '', ...query] = path.replaceAll('\\', '/').split(/(?=\?)/);
  const plain = spelt.replace(/%([0-9a-f]{2})/gi, (escaped, hex: string) => {
    const character = String.fromCharCode(Number.parseInt(hex, 16));
    return /[\w.~-]/.test(character) ? character : escaped;
  });
  const segments: string[] = [];
  const parts = plain.split('/').slice(1);
  for (const [index, part] of parts.entries()) {
    if (part === '..') segments.pop();
    if (part !== '.' && part !== '..') segments.push(part);
    else if (index === parts.length - 1) segments.push('');
  }
  return `/${segments.join('/')}${query.join('')}`;
}

/** By the pure decision. */
function expectedOutcome(
  { path, headers }: { path: string; headers: readonly (readonly [string, string])[] },
  protocol: Protocol,
): Outcome {
  const lines = headers.filter(([name]) => name === 'cookie').map(([, value]) => value);
  const bytes = (text: string) => Buffer.from(text, 'latin1');
  const cookies = lines.reduce((sites, line) => {
    const read = bytes(line);
    return sites | matcher.cookieSites(read, 0, read.length);
  }, 0);
  const target = bytes(normalized(path));
  const isStatusUri = matcher.isStatusUri(target, 0, target.length);
  const hasHop = headers.some(([name]) => name === 'x-site-hop');
  const decision = decide(policy, BOTH_UP, { isStatusUri, hasHop, cookies });
  if (decision.reason === 'status') return 'status';
  if (!('pool' in decision)) throw new Error(`with both sites up a request over ${protocol} is decided`);
  return decision.pool === 0 ? 'east' : 'west';
}
