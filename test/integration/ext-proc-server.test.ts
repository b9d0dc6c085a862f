import { once } from 'node:events';
import { access, readFile, writeFile } from 'node:fs/promises';
import { connect as connectHttp2, constants } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ManagedProcess } from '../../lab/managed-process.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { type Address, formatAddress } from '../../src/config/address.ts';
import type { Config } from '../../src/config/config.ts';
import { ListenError } from '../../src/listener/listen.ts';
import { type Sidecar, startSidecar } from '../../src/runtime/sidecar.ts';
import { askOps, clientOf, type East, startEast, stateOf } from '../support/east.ts';
import type { AdminMood, FakeAdmin } from '../support/fake-admin.ts';
import { freePorts } from '../support/free-ports.ts';
import {
  EXT_PROC,
  type ExtProcClient,
  grpcFrame,
  type Headers,
  type Reply,
  requestHeaders,
  responseHeaders,
} from './ext-proc-client.ts';
import {
  configOf,
  EAST_COOKIE,
  eastFile,
  type SiteFile,
  startAdmin,
  TestLog,
  temporaryDirectory,
  WEST_COOKIE,
} from './site.ts';

/** Makes these the pools that are up, and waits until the sidecar knows. */
async function setUp({ admin, config }: East, up: { local: boolean; remote: boolean }): Promise<void> {
  admin.setPool('local_pool', up.local ? ['up', 'up'] : ['failed health check', 'failed health check']);
  admin.setPool('remote_pool', [up.remote ? 'up' : 'failed health check']);
  await waitUntil(
    async () => {
      const [local, remote] = (await stateOf(config)).pools;
      return local?.up === up.local && remote?.up === up.remote;
    },
    { what: 'the pools to be seen so', intervalMs: 5 },
  );
}

/** Makes health unknown. */
async function loseHealth({ admin, config }: East): Promise<void> {
  admin.mood = 'closing';
  await waitUntil(async () => !(await stateOf(config)).health_known, { what: 'health to be unknown', intervalMs: 5 });
}

/** A reply in a few words: the decision, the owner, and where the request goes. */
function summary(reply: Reply): string {
  const [header] = reply.setHeaders;
  const to = reply.phase === 'immediate_response' ? `${reply.status} ${reply.body?.trim()}` : header?.value;
  return [reply.decision, `owner ${reply.owner}`, to ?? 'no opinion', reply.wantsResponseHeaders ? 'and expires' : '']
    .filter((part) => part !== '')
    .join(', ');
}

const east = { cookie: `${EAST_COOKIE}="abc"` };
const west = { cookie: `a=b; ${WEST_COOKIE}=xyz` };
const both = { cookie: `${EAST_COOKIE}=1; ${WEST_COOKIE}=2` };
const hop = { 'x-site-hop': 'west' };
const statusUri = { ':path': '/local_pool_status' };

const UP = '200 LOCAL POOL STATE: UP';
const DOWN = '503 LOCAL POOL STATE: DOWN';
const REFUSED = '503 Site east does not serve this request now.';

type Case = readonly [what: string, headers: Headers, expected: string];

const BOTH_UP: readonly Case[] = [
  ['a new client is local', {}, 'local, owner none, local_pool'],
  ['a session of this site is local', east, 'local, owner east, local_pool'],
  ["another site's session is forwarded", west, 'forward, owner west, remote_pool'],
  ["with both cookies it is the other site's", both, 'forward, owner west, remote_pool'],
  ['a forwarded request is local', hop, 'local, owner none, local_pool'],
  ['a forwarded session is adopted', { ...hop, ...west }, 'adopt, owner west, local_pool, and expires'],
  ['a forwarded session with both cookies', { ...hop, ...both }, 'local, owner east, local_pool, and expires'],
  ['the status URI says UP', statusUri, `status, owner none, ${UP}`],
  ['a POST to the status URI too', { ...statusUri, ':method': 'POST' }, `status, owner none, ${UP}`],
  ['the status URI with a query', { ':path': '/local_pool_status?a=b' }, `status, owner none, ${UP}`],
  ['the status URI with escapes', { ':path': '/local%5fpool%5Fstatus' }, `status, owner none, ${UP}`],
  ['a longer path is no status URI', { ':path': '/local_pool_status/x' }, 'local, owner none, local_pool'],
  ['a look-alike cookie is none', { cookie: `X${WEST_COOKIE}=1` }, 'local, owner none, local_pool'],
  ['several cookie lines', { cookie: ['a=b', `${WEST_COOKIE}=1`] }, 'forward, owner west, remote_pool'],
];

const LOCAL_DOWN: readonly Case[] = [
  ['a new client goes to the other site', {}, 'failover, owner none, remote_pool'],
  ['a session of this site too', east, 'failover, owner east, remote_pool'],
  ["another site's session is forwarded", west, 'forward, owner west, remote_pool'],
  ['a forwarded request is refused', hop, `refuse, owner none, ${REFUSED}`],
  ['a forwarded session is refused', { ...hop, ...west }, `refuse, owner west, ${REFUSED}`],
  ['the status URI says DOWN', statusUri, `status, owner none, ${DOWN}`],
];

const REMOTE_DOWN: readonly Case[] = [
  ['a new client is local', {}, 'local, owner none, local_pool'],
  ["another site's session is adopted", west, 'adopt, owner west, local_pool, and expires'],
  ['with both cookies it is local', both, 'local, owner east, local_pool, and expires'],
  ['the status URI says UP', statusUri, `status, owner none, ${UP}`],
];

const BOTH_DOWN: readonly Case[] = [
  ['a new client is local', {}, 'local, owner none, local_pool'],
  ["another site's session is local and keeps its cookie", west, 'local, owner west, local_pool'],
  ['a forwarded request is refused', hop, `refuse, owner none, ${REFUSED}`],
  ['the status URI says DOWN', statusUri, `status, owner none, ${DOWN}`],
];

const UNKNOWN: readonly Case[] = [
  ['there is no opinion on a new client', {}, 'unknown, owner none, no opinion'],
  ['there is no opinion on a session', west, 'unknown, owner west, no opinion'],
  ['there is no opinion on a forwarded request', hop, 'unknown, owner none, no opinion'],
  ['the status URI is left to Envoy', statusUri, 'unknown, owner none, no opinion'],
];

async function decideAll(client: ExtProcClient, cases: readonly Case[]): Promise<Case[]> {
  return await Promise.all(
    cases.map(async ([what, headers]): Promise<Case> => [what, headers, summary(await client.decide(headers))]),
  );
}

describe.each(['TCP', 'a Unix socket'])('over %s', (kind) => {
  async function startListening(changes: SiteFile = {}): Promise<East> {
    if (kind === 'TCP') return await startEast(changes);
    return await startEast({ listen: `unix:${await temporaryDirectory()}/ext_proc.sock`, ...changes });
  }

  test('each kind of request gets its decision, as the pools come and go', async () => {
    const site = await startListening();
    expect(await decideAll(site.client, BOTH_UP)).toEqual(BOTH_UP);
    await setUp(site, { local: false, remote: true });
    expect(await decideAll(site.client, LOCAL_DOWN)).toEqual(LOCAL_DOWN);
    await setUp(site, { local: true, remote: false });
    expect(await decideAll(site.client, REMOTE_DOWN)).toEqual(REMOTE_DOWN);
    await setUp(site, { local: false, remote: false });
    expect(await decideAll(site.client, BOTH_DOWN)).toEqual(BOTH_DOWN);
    await loseHealth(site);
    expect(await decideAll(site.client, UNKNOWN)).toEqual(UNKNOWN);
  });

  test('grpc.health.v1 says SERVING, of the server and of the service', async () => {
    const { client } = await startListening();
    expect(await client.health('')).toBe('SERVING');
    expect(await client.health(EXT_PROC)).toBe('SERVING');
    expect(await client.health('another.Service')).toBe('NOT_FOUND');
  });

  test('1,000 calls, 50 of them at once, are all answered, each with its own decision', async () => {
    const { client } = await startListening();
    const kinds = [BOTH_UP[0], BOTH_UP[1], BOTH_UP[2], BOTH_UP[5], BOTH_UP[7]].filter((each) => each !== undefined);
    const cases = Array.from({ length: 200 }, () => kinds).flat();
    // Node's own client counts a call as over a moment before the server does, so that it is refused at the limit of 100.
    for (let at = 0; at < cases.length; at += 50) {
      const some = cases.slice(at, at + 50);
      expect(await decideAll(client, some)).toEqual(some);
    }
  });

  test('close() ends the calls, refuses new ones and gives the address back', async () => {
    const { client, config, log, sidecar } = await startListening();
    await client.decide({});
    const closedAt = performance.now();
    await sidecar.close();
    expect(performance.now() - closedAt).toBeLessThan(3_000);
    expect(await clientOf(config).health()).toBe('UNAVAILABLE');
    expect(await isTaken(config.listen)).toBe(false);
    expect(await isTaken(config.opsListen)).toBe(false);
    if (config.listen.kind === 'unix') await expect(access(config.listen.path)).rejects.toThrow('ENOENT');
    expect(log.matching(/cut off/)).toEqual([]);
  });
});

test('until it has asked Envoy once the sidecar turns its clients away, to another one if there is', async () => {
  const admin = await startAdmin();
  admin.mood = 'silent';
  const config = configOf(await eastFile(admin));
  const started = startSidecar(config, new TestLog().logger, async () => config);
  onTestFinished(async () => (await started).close());
  await admin.waitForRequests(1);
  const client = clientOf(config);
  expect(await client.health()).toBe('UNAVAILABLE');
  await started;
  await waitUntil(async () => (await client.health()) === 'SERVING', { what: 'the client to be served' });
});

describe('from its first call on', () => {
  async function startWith(mood: AdminMood): Promise<string> {
    const admin = await startAdmin();
    admin.mood = mood;
    admin.slowMs = 200;
    const config = configOf(await eastFile(admin));
    const started = startSidecar(config, new TestLog().logger, async () => config);
    onTestFinished(async () => (await started).close());
    await started;
    return summary(await clientOf(config).decide(west));
  }

  test.each<[AdminMood, string]>([
    ['well', 'forward, owner west, remote_pool'],
    ['slow', 'forward, owner west, remote_pool'],
    ['closing', 'unknown, owner west, no opinion'],
    ['silent', 'unknown, owner west, no opinion'],
  ])('the sidecar knows what an Envoy that answers "%s" lets it know', async (mood, expected) => {
    const from = performance.now();
    expect(await startWith(mood)).toBe(expected);
    // An Envoy that does not answer, or that comes up later, must not keep the sidecar from coming up.
    expect(performance.now() - from).toBeLessThan(4_000);
  });
});

test('a decision sets only the pool header, and has Envoy choose the route again', async () => {
  const { client } = await startEast();
  expect(await client.decide(west)).toMatchObject({
    phase: 'request_headers',
    setHeaders: [{ name: 'x-site-pool', value: 'remote_pool', append: false }],
    removedHeaders: [],
    clearsRouteCache: true,
  });
});

test('no opinion takes away a pool header that came from outside', async () => {
  const site = await startEast({ health: { poll_interval: '20ms', stale_after: '1s' } });
  await loseHealth(site);
  expect(await site.client.decide({ 'x-site-pool': 'remote_pool' })).toMatchObject({
    setHeaders: [],
    removedHeaders: ['x-site-pool'],
    clearsRouteCache: true,
  });
});

test('the answers that the sidecar makes itself are complete', async () => {
  const site = await startEast();
  await setUp(site, { local: false, remote: true });
  expect(await site.client.decide(statusUri)).toMatchObject({
    status: 503,
    body: 'LOCAL POOL STATE: DOWN',
    setHeaders: [
      { name: 'content-type', value: 'text/html' },
      { name: 'cache-control', value: 'no-store' },
    ],
  });
  expect(await site.client.decide(hop)).toMatchObject({
    status: 503,
    setHeaders: [
      { name: 'x-site-refused', value: 'east' },
      { name: 'content-type', value: 'text/plain' },
    ],
  });
});

test('a draining site says DOWN to the world and UP to the other sites, and serves on', async () => {
  const { client, config } = await startEast();
  await askOps(config, 'POST', '/drain');
  expect(summary(await client.decide(statusUri))).toBe(`status, owner none, ${DOWN}`);
  expect(summary(await client.decide({ ...statusUri, ...hop }))).toBe(`status, owner none, ${UP}`);
  expect(summary(await client.decide({}))).toBe('local, owner none, local_pool');
  await askOps(config, 'POST', '/undrain');
  expect(summary(await client.decide(statusUri))).toBe(`status, owner none, ${UP}`);
});

test('each policy of the config is followed', async () => {
  const keep = await startEast({ on_owner_down: 'keep', both_cookies: 'local' });
  expect(summary(await keep.client.decide(both))).toBe('local, owner east, local_pool, and expires');
  await setUp(keep, { local: true, remote: false });
  expect(summary(await keep.client.decide(west))).toBe('local, owner west, local_pool');

  const refuse = await startEast({ on_owner_down: 'refuse', status_uri: '/up' });
  expect(summary(await refuse.client.decide({ ':path': '/up' }))).toBe(`status, owner none, ${UP}`);
  await setUp(refuse, { local: true, remote: false });
  expect(summary(await refuse.client.decide(west))).toBe(`refuse, owner west, ${REFUSED}`);
});

describe('a call that waits for the response headers', () => {
  const served = { ':status': '200', 'x-envoy-upstream-service-time': '3' };

  /** The reply to the response headers of an adopted session. */
  async function adopted(headers: Headers): Promise<Reply> {
    const { client } = await startEast();
    const call = client.open();
    call.send(requestHeaders({ ...hop, ...west }));
    expect((await call.reply(0)).wantsResponseHeaders).toBe(true);
    // The sidecar must not end what it has asked for.
    expect(await client.health()).toBe('SERVING');
    expect(call.hasEnded).toBe(false);
    call.send(responseHeaders(headers));
    expect((await call.ended).code).toBe(status.OK);
    expect(call.replies.map((reply) => reply.phase)).toEqual(['request_headers', 'response_headers']);
    return await call.reply(1);
  }

  const expired = [
    {
      name: 'set-cookie',
      value: `${WEST_COOKIE}=; Path=/app; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly`,
      append: true,
    },
  ];

  test.each<[string, Headers, readonly object[]]>([
    ["expires the other site's cookie, beside what the application sets", served, expired],
    ["expires it on an application's own 503", { ...served, ':status': '503' }, expired],
    ['expires it where the Envoy headers are switched off', { ':status': '200' }, expired],
    ["leaves the cookie on Envoy's own errors, which served nobody: 503", { ':status': '503' }, []],
    ["leaves the cookie on Envoy's own 408", { ':status': '408' }, []],
    ["leaves the cookie on Envoy's own gRPC error, which is a 200", { ':status': '200', 'grpc-status': '14' }, []],
    ["expires it on a server's gRPC error", { ...served, 'grpc-status': '14' }, expired],
    ["leaves the cookie on another site's refusal", { ...served, ':status': '503', 'x-site-refused': 'west' }, []],
  ])('%s', async (_, headers, expected) => {
    const reply = await adopted(headers);
    expect(reply.setHeaders).toEqual(expected);
    expect(reply.clearsRouteCache).toBe(false);
  });

  test('expires the cookie of each other site that the request carried, and no other', async () => {
    const remote_pools = ['west', 'north', 'south'].map((site) => ({
      site,
      cluster: `${site}_pool`,
      cookie: { name: `C_${site}`, domain: `${site}.example.com`, same_site: 'None', secure: true },
    }));
    const { client } = await startEast({ remote_pools });
    const call = client.open();
    call.send(requestHeaders({ ...hop, cookie: 'C_south=1; C_west=2' }));
    await call.reply(0);
    call.send(responseHeaders(served));
    const { setHeaders } = await call.reply(1);
    expect(setHeaders.map((header) => header.value)).toEqual([
      'C_west=; Path=/; Domain=west.example.com; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; SameSite=None',
      'C_south=; Path=/; Domain=south.example.com; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; SameSite=None',
    ]);
    expect(setHeaders.every((header) => header.append)).toBe(true);
  });
});

describe('each phase is answered once', () => {
  const body = { request_body: { body: Buffer.from('a=b'), end_of_stream: true } };
  const responseBody = { response_body: { body: Buffer.from('<html>') } };
  const trailers = { request_trailers: { trailers: { headers: [] } } };
  const responseTrailers = {
    response_trailers: { trailers: { headers: [{ key: 'a', raw_value: Buffer.from('b') }] } },
  };
  const adopt = requestHeaders({ ...hop, ...west });
  const local = requestHeaders({});
  const answered = responseHeaders({ ':status': '200' });

  test.each<[string, object[], string[]]>([
    ['request headers', [local], ['request_headers']],
    [
      'request body and trailers, while the response headers are waited for',
      [adopt, body, body, trailers, answered],
      ['request_headers', 'request_body', 'request_body', 'request_trailers', 'response_headers'],
    ],
    ['what comes after the last answer gets none', [local, body, trailers, answered, local], ['request_headers']],
    [
      'what comes after the last answer to a response gets none',
      [adopt, answered, responseBody, responseTrailers, answered],
      ['request_headers', 'response_headers'],
    ],
    ['response headers first', [answered, responseBody], ['response_headers']],
    ['two request headers', [local, local], ['request_headers']],
    [
      'two request headers, while the response headers are waited for',
      [adopt, adopt, answered],
      ['request_headers', 'request_headers', 'response_headers'],
    ],
  ])('%s', async (_, messages, phases) => {
    const { client, log } = await startEast();
    const call = client.open();
    call.send(...messages);
    // Nothing is said by this side: the sidecar ends the call.
    expect((await call.ended).code).toBe(status.OK);
    expect(call.replies.map((reply) => reply.phase)).toEqual(phases);
    expect(log.matching(/not from Envoy/)).toEqual([]);
  });

  test.each<[string, object[], string[]]>([
    ['nothing at all', [], []],
    [
      'bodies and trailers without headers',
      [body, trailers, responseBody, responseTrailers],
      ['request_body', 'request_trailers', 'response_body', 'response_trailers'],
    ],
    ['a response that never comes', [adopt], ['request_headers']],
  ])('%s, and then the end', async (_, messages, phases) => {
    const { client } = await startEast();
    const call = client.open();
    call.send(...messages);
    call.end();
    expect((await call.ended).code).toBe(status.OK);
    expect(call.replies.map((reply) => reply.phase)).toEqual(phases);
  });
});

describe('what is not of Envoy', () => {
  const garbage = {
    'an empty message': Buffer.alloc(0),
    'random bytes': Buffer.from('b5c0ffee00112233445566778899aabbccddeeff', 'hex'),
    'a text': Buffer.from('GET / HTTP/1.1\r\nHost: east\r\n\r\n'),
    'a message cut short': Buffer.from([0x12, 0x7f, 0x0a, 0x20]),
    'a length that lies': Buffer.from([0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    'another field': Buffer.from([0x7a, 0x01, 0x00]),
    'a phase that is a number': Buffer.from([0x10, 0x01]),
    zeros: Buffer.alloc(100_000),
  };

  test('gets no answer, is said once in all, and does not keep others from being served', async () => {
    const { client, log } = await startEast();
    const served = Array.from({ length: 50 }, () => client.decide(west));
    for (const [what, bytes] of Object.entries(garbage)) {
      const call = client.open();
      call.send(bytes);
      expect([what, (await call.ended).code, call.replies]).toEqual([what, status.OK, []]);
    }
    expect(new Set((await Promise.all(served)).map(summary))).toEqual(new Set(['forward, owner west, remote_pool']));
    expect(log.matching(/not from Envoy/)).toHaveLength(1);
  });

  test('ends a call that waited for the response headers', async () => {
    const { client } = await startEast();
    const call = client.open();
    call.send(requestHeaders({ ...hop, ...west }), garbage['a text'], responseHeaders({}));
    expect((await call.ended).code).toBe(status.OK);
    expect(call.replies).toHaveLength(1);
  });

  test('a message of more than 1 MB fails its own call only', async () => {
    const { client } = await startEast();
    const call = client.open();
    call.send(Buffer.alloc(1024 * 1024 + 1));
    expect((await call.ended).code).toBe(status.RESOURCE_EXHAUSTED);
    expect(summary(await client.decide({}))).toBe('local, owner none, local_pool');
  });

  test('a header block as large as Envoy takes one is decided', async () => {
    const { client } = await startEast();
    const cookie = `${'a=b; '.repeat(200_000)}${WEST_COOKIE}=1`;
    expect(summary(await client.decide({ cookie }))).toBe('forward, owner west, remote_pool');
  });

  test('a connection that does not speak HTTP/2 is dropped, and others are served', async () => {
    const { client, config } = await startEast();
    const call = client.open();
    call.send(requestHeaders({ ...hop, ...west }));
    await call.reply(0);
    const socket = connect(tcpPort(config.listen), '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(socket, 'close');
    call.send(responseHeaders({ ':status': '200' }));
    expect((await call.ended).code).toBe(status.OK);
  });

  test('a call that its client breaks off is no trouble, and not logged', async () => {
    const { client, log } = await startEast();
    // The connection is logged with its first call.
    await client.decide({});
    const lines = log.lines.length;
    const calls = Array.from({ length: 20 }, () => client.open());
    for (const call of calls) call.send(requestHeaders({ ...hop, ...west }));
    await Promise.all(calls.map((call) => call.reply(0)));
    for (const call of calls) call.cancel();
    await Promise.all(calls.map((call) => call.ended));
    expect(summary(await client.decide({}))).toBe('local, owner none, local_pool');
    expect(log.lines.slice(lines).filter((line) => line.message !== 'decision')).toEqual([]);
  });

  test('streams that end by a reset with an error are said once, with what to set in Envoy', async () => {
    const { config, log } = await startEast();
    const session = connectHttp2(`http://${formatAddress(config.listen)}`);
    onTestFinished(() => session.destroy());
    for (let count = 0; count < 3; count++) {
      const stream = session.request({
        ':method': 'POST',
        ':path': `/${EXT_PROC}/Process`,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      stream.on('error', () => {});
      stream.write(grpcFrame(requestHeaders({ ...hop, ...west })));
      await once(stream, 'response');
      const closed = new Promise((resolve) => stream.once('close', resolve));
      stream.close(constants.NGHTTP2_INTERNAL_ERROR);
      await closed;
    }
    await waitUntil(() => log.matching(/by reset/).length > 0, { what: 'the reset to be said', intervalMs: 5 });
    expect(log.matching(/by reset/)).toEqual([
      expect.stringMatching(/^warn Envoy ends its ext_proc streams by reset: .*ext_proc_graceful_grpc_close: true$/),
    ]);
  });
});

describe('an address that another process has', () => {
  /** A process of its own that listens on a Unix socket, and is killed if so wanted. */
  async function listenOn(path: string): Promise<ManagedProcess> {
    const child = new ManagedProcess({
      name: 'socket holder',
      command: process.execPath,
      args: ['-e', 'net.createServer().listen(process.argv[1], () => console.log("listening"))', path],
    });
    onTestFinished(async () => void (await child.stop('SIGKILL')));
    await child.waitForLine(/listening/);
    return child;
  }

  async function start(changes: SiteFile): Promise<{ started: Promise<Sidecar>; config: Config; admin: FakeAdmin }> {
    const admin = await startAdmin();
    const config = configOf(await eastFile(admin, changes));
    const started = startSidecar(config, new TestLog().logger, async () => config);
    onTestFinished(async () => (await started.catch(() => undefined))?.close());
    return { started, config, admin };
  }

  async function refusal(started: Promise<Sidecar>): Promise<string> {
    const error: unknown = await started.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ListenError);
    return error instanceof Error ? error.message : '';
  }

  test.each(['listen', 'ops_listen'])(
    '%s: a socket file that a killed process left behind is taken over',
    async (key) => {
      const path = join(await temporaryDirectory(), 'left.sock');
      await (await listenOn(path)).stop('SIGKILL');
      await access(path);
      const { started, config } = await start({ [key]: `unix:${path}` });
      await started;
      expect(await clientOf(config).health()).toBe('SERVING');
      expect((await stateOf(config)).site).toBe('east');
    },
  );

  test.each(['listen', 'ops_listen'])(
    '%s: a socket that somebody listens on is refused and left alone',
    async (key) => {
      const path = join(await temporaryDirectory(), 'held.sock');
      await listenOn(path);
      const { started } = await start({ [key]: `unix:${path}` });
      expect(await refusal(started)).toBe(
        `cannot listen on unix:${path} (${key}): it is in use: stop the process that has it, or choose another address`,
      );
      expect(await isTaken({ kind: 'unix', path })).toBe(true);
    },
  );

  test.each(['listen', 'ops_listen'])('%s: a TCP port that somebody listens on is refused', async (key) => {
    const first = await startEast();
    const address = formatAddress(key === 'listen' ? first.config.listen : first.config.opsListen);
    const { started } = await start({ [key]: address });
    expect(await refusal(started)).toBe(
      `cannot listen on ${address} (${key}): it is in use: stop the process that has it, or choose another address`,
    );
    expect(summary(await first.client.decide({}))).toBe('local, owner none, local_pool');
  });

  test('after a refusal nothing is left running', async () => {
    const first = await startEast();
    const { started, config, admin } = await start({ listen: formatAddress(first.config.listen) });
    await refusal(started);
    expect(await isTaken(config.opsListen)).toBe(false);
    const polls = admin.requests.length;
    await first.admin.waitForRequests(5);
    expect(admin.requests).toHaveLength(polls);
  });

  test.each(['listen', 'ops_listen'])('%s: a directory that does not exist is said so', async (key) => {
    const path = join(await temporaryDirectory(), 'nowhere', 'x.sock');
    const { started } = await start({ [key]: `unix:${path}` });
    expect(await refusal(started)).toMatch(/its directory does not exist: create it first$/);
  });

  test('an address of another machine is said so', async () => {
    const [port] = await freePorts(1);
    const { started } = await start({ listen: `192.0.2.1:${port}`, insecure: true });
    expect(await refusal(started)).toMatch(/this machine has no such address$/);
  });

  test.each(['listen', 'ops_listen'])('%s: a file that is no socket is not removed', async (key) => {
    const path = join(await temporaryDirectory(), 'notes.txt');
    await writeFile(path, 'precious');
    const { started } = await start({ [key]: `unix:${path}` });
    await refusal(started);
    expect(await readFile(path, 'utf8')).toBe('precious');
  });

  test.each(['listen', 'ops_listen'])('%s: a directory is refused', async (key) => {
    const path = await temporaryDirectory();
    const { started } = await start({ [key]: `unix:${path}` });
    await refusal(started);
  });
});

function tcpPort(address: Address): number {
  if (address.kind === 'unix') throw new Error('no TCP address');
  return address.port;
}

/** Whether somebody listens there. */
async function isTaken(address: Address): Promise<boolean> {
  const socket = connect(address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
