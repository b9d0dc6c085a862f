import { describe, expect, test } from 'vitest';
import { type Decision, decide, NO_OWNER, type RouteReason } from '../../../src/decision/decide.ts';
import { createPolicy, LOCAL_ALSO } from '../../../src/decision/policy.ts';
import { createReplies, type EncodeResponse, encodeUnchanged, type Reply } from '../../../src/ext-proc/replies.ts';
import { loadExtProcMethod } from '../../../src/ext-proc/service.ts';
import { ApplicationCounters } from '../../../src/metrics/counters.ts';
import { RENAMED_SITES, THREE_SITES } from './three-sites.ts';

const { responseSerialize, responseDeserialize } = loadExtProcMethod();
const policy = createPolicy(THREE_SITES);

const [EAST, WEST, NORTH] = [0, 1, 2];
const EXPIRES_WEST = 0b010;
const EXPIRES_NORTH = 0b100;
const EXPIRES_BOTH = 0b110;

const SET_COOKIE = {
  west: 'DDVHSLLQ=; Path=/app; Domain=example.com; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; SameSite=None',
  north: 'NNPOLEXY=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Strict',
};

describe('createReplies() sends a request to a pool', () => {
  test.each<[string, Decision, string, string]>([
    ['local', { reason: 'local', owner: NO_OWNER, pool: EAST, expire: 0 }, 'local_pool', 'none'],
    ['local', { reason: 'local', owner: EAST, pool: EAST, expire: 0 }, 'local_pool', 'east'],
    ['forward', { reason: 'forward', owner: WEST, pool: WEST, expire: 0 }, 'remote_pool', 'west'],
    ['forward', { reason: 'forward', owner: NORTH, pool: NORTH, expire: 0 }, 'north_pool', 'north'],
    ['failover', { reason: 'failover', owner: EAST, pool: WEST, expire: 0 }, 'remote_pool', 'east'],
    ['failover', { reason: 'failover', owner: NO_OWNER, pool: NORTH, expire: 0 }, 'north_pool', 'none'],
    ['adopt', { reason: 'adopt', owner: WEST, pool: EAST, expire: 0 }, 'local_pool', 'west'],
  ])('%s: %o by the pool header, and has the route chosen again', (reason, decision, cluster, owner) => {
    const reply = newReplies().forDecision(decision);
    expect(decoded(reply.bytes)).toEqual({ ...sentTo(cluster), ...metadata(reason, owner) });
    expect(reply.onResponse).toBeNull();
  });
});

describe('createReplies() expires cookies', () => {
  test.each<[string, number, string[]]>([
    ["west's", EXPIRES_WEST, [SET_COOKIE.west]],
    ["north's", EXPIRES_NORTH, [SET_COOKIE.north]],
    ['both', EXPIRES_BOTH, [SET_COOKIE.west, SET_COOKIE.north]],
  ])('%s: asks for the response, and adds a Set-Cookie for each to it', (_, expire, setCookies) => {
    const reply = newReplies().forDecision({ reason: 'adopt', owner: WEST, pool: EAST, expire });
    const SEND = 1;
    expect(decoded(reply.bytes)).toEqual({
      ...sentTo('local_pool'),
      ...metadata('adopt', 'west'),
      mode_override: { response_header_mode: SEND },
    });
    expect(decoded(reply.onResponse)).toEqual({
      response_headers: { response: { header_mutation: { set_headers: setCookies.map(added('set-cookie')) } } },
    });
  });
});

describe('createReplies() expires cookies that have other names', () => {
  const expired = (name: string) => `${name}=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly`;
  const west = ['DDVHSLLQ', 'XDDVHSLLQ'].map((name) => SET_COOKIE.west.replace('DDVHSLLQ', name));
  test.each<[string, number, string[]]>([
    ["another site's under each", EXPIRES_WEST, west],
    ["this site's under its others only", LOCAL_ALSO, [expired('OLDEAST'), expired('DDVH')]],
    ['both', EXPIRES_WEST | LOCAL_ALSO, [expired('OLDEAST'), expired('DDVH'), ...west]],
  ])('%s', (_, expire, setCookies) => {
    const application = RENAMED_SITES;
    const ofRenamed = { application, policy: createPolicy(application), encode: responseSerialize };
    const replies = createReplies({ ...ofRenamed, counters: new ApplicationCounters() });
    const reply = replies.forDecision({ reason: 'local', owner: EAST, pool: EAST, expire });
    expect(decoded(reply.onResponse)).toEqual({
      response_headers: { response: { header_mutation: { set_headers: setCookies.map(added('set-cookie')) } } },
    });
  });
});

describe('createReplies() answers a request itself', () => {
  test.each<[boolean, number, string, string]>([
    [true, 200, 'LOCAL POOL STATE: UP', 'site_persistence_status_up'],
    [false, 503, 'LOCAL POOL STATE: DOWN', 'site_persistence_status_down'],
  ])('the status URI, local pool up: %s, by %i and exactly the text', (up, code, body, details) => {
    const reply = newReplies().forDecision({ reason: 'status', owner: NO_OWNER, up });
    const headers = { set_headers: [set('content-type', 'text/html'), set('cache-control', 'no-store')] };
    expect(decoded(reply.bytes)).toEqual({
      immediate_response: { status: { code }, headers, body, details },
      ...metadata('status', 'none'),
    });
    expect(reply.onResponse).toBeNull();
  });

  test('a refusal by 503, with the name of the site that refuses', () => {
    const reply = newReplies().forDecision({ reason: 'refuse', owner: WEST });
    expect(decoded(reply.bytes)).toEqual({
      immediate_response: {
        status: { code: 503 },
        headers: { set_headers: [set('x-site-refused', 'east'), set('content-type', 'text/plain')] },
        body: expect.stringContaining('east'),
        details: 'site_persistence_refused',
      },
      ...metadata('refuse', 'west'),
    });
    expect(reply.onResponse).toBeNull();
  });
});

describe('createReplies() without an opinion', () => {
  test('takes the pool header away, has the route chosen again and sets nothing', () => {
    const reply = newReplies().forDecision({ reason: 'unknown', owner: NORTH });
    const response = { header_mutation: { remove_headers: ['x-site-pool'] }, clear_route_cache: true };
    expect(decoded(reply.bytes)).toEqual({ request_headers: { response }, ...metadata('unknown', 'north') });
    expect(reply.onResponse).toBeNull();
  });

  test.each([
    ['requestBody', { request_body: {} }],
    ['responseHeaders', { response_headers: {} }],
    ['responseBody', { response_body: {} }],
    ['requestTrailers', { request_trailers: {} }],
    ['responseTrailers', { response_trailers: {} }],
  ] as const)('answers %s with its own phase and no change', (phase, message) => {
    expect(decoded(encodeUnchanged(responseSerialize)[phase])).toEqual(message);
  });
});

describe('createReplies() encodes each reply once', () => {
  const all = everyDecision();

  test('the same decision gets the same reply', () => {
    const encoded: object[] = [];
    const replies = newReplies((message) => {
      encoded.push(message);
      return responseSerialize(message);
    });
    const first = all.map((decision) => replies.forDecision(decision));
    const encodedOnce = encoded.length;
    all.forEach((decision, index) => {
      expect(replies.forDecision({ ...decision })).toBe(first[index]);
    });
    expect(encoded).toHaveLength(encodedOnce);
  });

  test('no two different decisions of three sites share a reply', () => {
    const replies = newReplies();
    const objects = new Set(all.map((decision) => replies.forDecision(decision)));
    const contents = new Set(all.map((decision) => contentOf(replies.forDecision(decision))));
    expect(objects.size).toBe(all.length);
    expect(contents.size).toBe(all.length);
  });

  test('each decision that is made gets the reply that says so', () => {
    const replies = newReplies();
    for (const decision of madeDecisions()) {
      const owner = ['none', 'east', 'west', 'north'][decision.owner + 1] ?? '';
      expect(decoded(replies.forDecision(decision).bytes)).toMatchObject(metadata(decision.reason, owner));
    }
  });
});

function newReplies(encode: EncodeResponse = responseSerialize) {
  return createReplies({ application: THREE_SITES, policy, encode, counters: new ApplicationCounters() });
}

/** Every decision that can be written down for three sites, made or not. */
function everyDecision(): Decision[] {
  const owners = [NO_OWNER, EAST, WEST, NORTH];
  const reasons: readonly RouteReason[] = ['local', 'forward', 'failover', 'adopt'];
  return owners.flatMap((owner): Decision[] => [
    { reason: 'status', owner, up: true },
    { reason: 'status', owner, up: false },
    { reason: 'refuse', owner },
    { reason: 'unknown', owner },
    ...reasons.flatMap((reason) =>
      [EAST, WEST, NORTH].flatMap((pool) =>
        [0, EXPIRES_WEST, EXPIRES_NORTH, EXPIRES_BOTH].map((expire) => ({ reason, owner, pool, expire })),
      ),
    ),
  ]);
}

/** Every decision that is made for three sites: all cookies, pools, hops and settings. */
function madeDecisions(): Decision[] {
  const flags = [false, true];
  const sets = Array.from({ length: 8 }, (_, index) => index);
  const healths = [{ known: false } as const, ...sets.map((set) => ({ known: true, up: upPools(set) }) as const)];
  return (['adopt', 'keep', 'refuse'] as const).flatMap((onOwnerDown) =>
    healths.flatMap((health) =>
      flags.flatMap((isStatusUri) =>
        flags.flatMap((hasHop) =>
          sets.map((cookies) =>
            decide({ ...policy, onOwnerDown }, { health, draining: false }, { isStatusUri, hasHop, cookies }),
          ),
        ),
      ),
    ),
  );
}

function upPools(set: number): boolean[] {
  return [EAST, WEST, NORTH].map((site) => (set & (1 << site)) !== 0);
}

function contentOf(reply: Reply): string {
  return `${reply.bytes.toString('hex')} ${reply.onResponse?.toString('hex') ?? 'no response'}`;
}

function sentTo(cluster: string) {
  const header_mutation = { set_headers: [set('x-site-pool', cluster)] };
  return { request_headers: { response: { header_mutation, clear_route_cache: true } } };
}

function metadata(decision: string, owner: string) {
  const fields = { decision: { stringValue: decision }, owner: { stringValue: owner } };
  return { dynamic_metadata: { fields: { site_persistence: { structValue: { fields } } } } };
}

/** Without `append`: replaces a header of the same name. */
function set(key: string, raw_value: string) {
  return { header: { key, raw_value } };
}

function added(key: string) {
  return (value: string) => ({ ...set(key, value), append: { value: true } });
}

/** As Envoy reads it, with bytes as text. */
function decoded(bytes: Buffer | null): unknown {
  return bytes === null ? null : readable(responseDeserialize(bytes));
}

function readable(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString();
  if (Array.isArray(value)) return value.map(readable);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, readable(inner)]));
}
