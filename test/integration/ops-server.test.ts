import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { z } from 'zod';
import { waitUntil } from '../../lab/wait-until.ts';
import { type Address, formatAddress } from '../../src/config/address.ts';
import type { Config } from '../../src/config/config.ts';
import { MAX_EVENT_STREAMS } from '../../src/ops/event-streams.ts';
import { siteStateSchema } from '../../src/ops/state.ts';
import { type Sidecar, startSidecar } from '../../src/runtime/sidecar.ts';
import type { FakeAdmin, HostState } from '../support/fake-admin.ts';
import { sendBytesToTheEnd } from '../support/raw-http.ts';
import { Scrape } from '../support/scrape.ts';
import { EXT_PROC, ExtProcClient, grpcFrame, requestHeaders } from './ext-proc-client.ts';
import { configOf, EAST_COOKIE, eastFile, type SiteFile, startAdmin, TestLog, WEST_COOKIE } from './site.ts';

vi.setConfig({ testTimeout: 20_000 });

interface East {
  readonly admin: FakeAdmin;
  readonly config: Config;
  readonly url: string;
  readonly client: ExtProcClient;
  readonly sidecar: Sidecar;
}

const QUICK_TO_FORGET = { health: { poll_interval: '20ms', stale_after: '500ms' } };

/** Site east for the running test. */
async function startEast(changes: SiteFile = {}, prepare: (admin: FakeAdmin) => void = () => {}): Promise<East> {
  const admin = await startAdmin();
  prepare(admin);
  const config = configOf(await eastFile(admin, changes));
  const sidecar = await startSidecar(config, new TestLog().logger);
  onTestFinished(() => sidecar.close());
  const client = new ExtProcClient(config.listen);
  onTestFinished(() => client.close());
  await client.health(EXT_PROC);
  return { admin, config, url: `http://${formatAddress(config.opsListen)}`, client, sidecar };
}

const GET = (path: string, connection = 'keep-alive') =>
  `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: ${connection}\r\n\r\n`;

interface OpsAnswer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

async function ask(listen: Address, path: string, headers: Record<string, string> = {}, method = 'GET') {
  const target = listen.kind === 'unix' ? { socketPath: listen.path } : { host: listen.host, port: listen.port };
  return await new Promise<OpsAnswer>((resolve, reject) => {
    const call = request({ ...target, method, path, headers, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body }));
    });
    call.on('error', reject);
    call.end();
  });
}

async function probe(east: East, path: '/livez' | '/readyz'): Promise<string> {
  const { status, body } = await ask(east.config.opsListen, path);
  return `${status} ${body.trim()}`;
}

describe('the probes', () => {
  test('say ready while the sidecar serves and health is known, and why not where it is not', async () => {
    const east = await startEast(QUICK_TO_FORGET);
    expect([await probe(east, '/livez'), await probe(east, '/readyz')]).toEqual(['200 ok', '200 ready']);
    east.admin.mood = 'closing';
    await waitUntil(async () => (await probe(east, '/readyz')) !== '200 ready', { what: 'not to be ready' });
    expect(await probe(east, '/readyz')).toMatch(
      /^503 health is not known: no good answer from Envoy's admin interface for \d+\.\d s$/,
    );
    expect(await probe(east, '/livez')).toBe('200 ok');
    east.admin.mood = 'well';
    await waitUntil(async () => (await probe(east, '/readyz')) === '200 ready', { what: 'to be ready again' });
  });

  test('say not ready before the first poll, and ready while draining', async () => {
    const admin = await startAdmin();
    admin.mood = 'silent';
    const config = configOf(await eastFile(admin));
    const starting = startSidecar(config, new TestLog().logger);
    await waitUntil(() => admin.inFlight === 1, { what: 'a poll to hang' });
    const { status, body } = await ask(config.opsListen, '/readyz');
    expect([status, body]).toEqual([503, 'starting: no call is taken before the first poll of Envoy\n']);
    admin.mood = 'well';
    const sidecar = await starting;
    onTestFinished(() => sidecar.close());
    const unseen = 'starting: no Envoy has checked the health of this sidecar yet\n';
    await waitUntil(async () => (await ask(config.opsListen, '/readyz')).body === unseen, {
      what: 'health to be known',
    });
    const envoy = new ExtProcClient(config.listen);
    onTestFinished(() => envoy.close());
    expect(await envoy.health(EXT_PROC)).toBe('SERVING');
    await waitUntil(async () => (await ask(config.opsListen, '/readyz')).status === 200, {
      what: 'to be ready',
      timeoutMs: 2_000,
    });
    await ask(config.opsListen, '/drain', {}, 'POST');
    expect((await ask(config.opsListen, '/readyz')).status).toBe(200);
  });

  test('say ready without a health check of Envoy, whose config may have none, a while after health is known', async () => {
    const admin = await startAdmin();
    const config = configOf(await eastFile(admin));
    const sidecar = await startSidecar(config, new TestLog().logger);
    onTestFinished(() => sidecar.close());
    expect((await ask(config.opsListen, '/readyz')).status).toBe(503);
    await waitUntil(async () => (await ask(config.opsListen, '/readyz')).status === 200, { what: 'to be ready' });
  });

  test('say not ready while calls in flight are let end', async () => {
    const east = await startEast();
    const call = east.client.open();
    call.send(requestHeaders({ 'x-site-hop': 'west', cookie: `${WEST_COOKIE}=1` }));
    await call.reply(0);
    const closing = east.sidecar.close();
    expect(await probe(east, '/readyz')).toBe('503 stopping: no new call is taken');
    call.end();
    await closing;
  });

  test('are answered to HEAD, and nothing else is done by it', async () => {
    const east = await startEast();
    const { status, body } = await ask(east.config.opsListen, '/readyz', {}, 'HEAD');
    expect([status, body]).toEqual([200, '']);
    expect((await ask(east.config.opsListen, '/events', {}, 'HEAD')).status).toBe(405);
    expect((await ask(east.config.opsListen, '/drain', {}, 'HEAD')).status).toBe(404);
  });
});

describe('the metrics', () => {
  test('count streams by how they ended, and each once', async () => {
    const east = await startEast();
    const adopted = requestHeaders({ 'x-site-hop': 'west', cookie: `${WEST_COOKIE}=1` });
    await east.client.decide({});
    const [broken, closed, unasked, malformed] = Array.from({ length: 4 }, () => east.client.open());
    for (const call of [broken, closed]) {
      call?.send(adopted);
      await call?.reply(0);
    }
    broken?.cancel();
    closed?.end();
    unasked?.end();
    malformed?.send(Buffer.from('not of Envoy'));
    await loseConnection(east, adopted);
    await Promise.all([broken?.ended, closed?.ended, unasked?.ended, malformed?.ended]);
    const ends = ['complete', 'reset', 'malformed'];
    let counted: Record<string, number> = {};
    await waitUntil(
      async () => {
        const scrape = await Scrape.of(east.url);
        counted = Object.fromEntries(ends.map((end) => [end, scrape.value('streams_total', { end })]));
        return Object.values(counted).reduce((sum, count) => sum + count, 0) === 6;
      },
      { what: 'the streams to have ended' },
    );
    expect(counted).toEqual({ complete: 1, reset: 4, malformed: 1 });
    expect((await Scrape.of(east.url)).decisions()).toEqual({ 'local none': 1, 'adopt west': 3 });
  });

  test('say how polls go, and how old the last good one is', async () => {
    const east = await startEast(QUICK_TO_FORGET);
    await east.admin.waitForRequests(5);
    const well = await Scrape.of(east.url);
    const ok = well.value('polls_total', { result: 'ok' });
    expect(ok).toBeGreaterThanOrEqual(4);
    expect(well.value('polls_total', { result: 'error' })).toBe(0);
    expect(well.value('poll_duration_seconds_count')).toBe(ok);
    expect(well.value('last_good_poll_age_seconds')).toBeLessThan(0.5);
    const local = { site: 'east', cluster: 'local_pool' };
    expect([well.value('pool_up', local), well.value('pool_health_known', local)]).toEqual([1, 1]);

    east.admin.mood = 'html';
    await waitUntil(async () => (await Scrape.of(east.url)).value('pool_health_known', local) === 0, {
      what: 'health to be unknown',
    });
    await east.client.decide({ cookie: `${EAST_COOKIE}=1` });
    const ill = await Scrape.fresh(east.url);
    expect(ill.value('polls_total', { result: 'error' })).toBeGreaterThan(0);
    expect(ill.value('last_good_poll_age_seconds')).toBeGreaterThan(0.5);
    expect([ill.value('pool_up', local), ill.value('pool_servers', local)]).toEqual([0, 2]);
    expect(ill.decisions()).toEqual({ 'unknown east': 1 });
  });

  test('say of an Envoy that was never there that the last good poll is infinitely old', async () => {
    const east = await startEast({}, (admin) => {
      admin.mood = 'closing';
    });
    const scrape = await Scrape.of(east.url);
    expect(scrape.value('last_good_poll_age_seconds')).toBe(Number.POSITIVE_INFINITY);
    expect(scrape.value('pool_servers', { site: 'west', cluster: 'remote_pool' })).toBe(0);
  });

  test('say of a cluster that Envoy does not have that its health is not known', async () => {
    const east = await startEast({}, (admin) => admin.removePool('remote_pool'));
    const scrape = await Scrape.of(east.url);
    expect(scrape.value('pool_health_known', { site: 'west', cluster: 'remote_pool' })).toBe(0);
    expect(scrape.value('pool_health_known', { site: 'east', cluster: 'local_pool' })).toBe(1);
  });

  test('say draining, the version, and how the process is', async () => {
    const east = await startEast();
    expect((await Scrape.of(east.url)).value('draining')).toBe(0);
    await ask(east.config.opsListen, '/drain', {}, 'POST');
    const scrape = await Scrape.fresh(east.url);
    expect(scrape.value('draining')).toBe(1);
    expect(scrape.value('config_reloads_total', { result: 'refused' })).toBe(0);
    expect([...scrape.series.keys()]).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^site_persistence_build_info\{version="\d+\.\d+\.\d+",node="v\d+\.\d+\.\d+"\}$/),
        'process_cpu_seconds_total',
        'process_resident_memory_bytes',
        'nodejs_eventloop_lag_seconds',
      ]),
    );
  });

  const why =
    spawnSync('promtool', ['--version']).error === undefined
      ? null
      : "there is no promtool: install Debian's package prometheus";
  const isSkipped = why !== null && process.env.CI === undefined;
  if (isSkipped) console.warn(`the metrics are not checked by Prometheus: ${why}`);

  test.skipIf(isSkipped)("have nothing that Prometheus's linter complains of", async () => {
    expect(why).toBeNull();
    const east = await startEast();
    await east.client.decide({});
    const { headers, body } = await ask(east.config.opsListen, '/metrics');
    expect(headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
    const { status, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: body, encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, '']);
  });

  test('have as many series as the config asks for, whatever requests bring', async () => {
    const east = await startEast();
    const before = [...(await Scrape.of(east.url)).series.keys()].filter(isOwn);
    // 7 decisions of sessions of east, west or nobody.
    expect(before.filter((key) => key.includes('decisions_total'))).toHaveLength(7 * 3);
    const cookies = Array.from({ length: 200 }, (_, index) => [
      `${WEST_COOKIE}=value-${index}; name-${index}=1`,
      `${EAST_COOKIE}=value-${index}`,
      `UNKNOWN${index}=1`,
    ]).flat();
    await Promise.all(
      cookies.map((cookie, index) =>
        east.client.decide({
          cookie,
          ':path': `/path-${index}`,
          ...(index % 5 === 0 ? { 'x-site-hop': `${index}` } : {}),
        }),
      ),
    );
    await east.client.decide({ ':path': '/local_pool_status' });
    const after = await Scrape.fresh(east.url);
    expect(after.decisionCount).toBe(cookies.length + 1);
    expect([...after.series.keys()].filter(isOwn)).toEqual(before);
  });
});

/** Ends the connection of a call that has its decision and waits for its response headers. */
async function loseConnection({ config: { listen } }: East, message: object): Promise<void> {
  const socket = listen.kind === 'unix' ? connect(listen.path) : connect(listen.port, listen.host);
  const session = connectHttp2(`http://${formatAddress(listen)}`, { createConnection: () => socket });
  session.on('error', () => {});
  const call = session.request({
    ':method': 'POST',
    ':path': `/${EXT_PROC}/Process`,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  call.on('error', () => {});
  call.write(grpcFrame(message));
  await once(call, 'response');
  socket.destroy();
}

function isOwn(key: string): boolean {
  return key.startsWith('site_persistence_');
}

/** Events as they come. */
class EventReader {
  readonly events: { name: string; data: unknown }[] = [];
  readonly response: IncomingMessage;
  bytes = 0;
  #rest = '';

  constructor(response: IncomingMessage) {
    this.response = response;
    response.on('error', () => {});
    response.setEncoding('utf8').on('data', (text: string) => {
      this.bytes += text.length;
      const parts = (this.#rest + text).split('\n\n');
      this.#rest = parts.pop() ?? '';
      for (const part of parts) {
        const [, name = '', data = ''] = /^event: (\w+)\ndata: (.*)$/.exec(part) ?? [];
        this.events.push({ name, data: JSON.parse(data) });
      }
    });
  }

  get names(): string[] {
    return this.events.map(({ name }) => name);
  }

  /** The site's state as last said. */
  get state() {
    return siteStateSchema.parse(this.events.findLast(({ name }) => name === 'state')?.data);
  }
}

/** Opens `/events` for the running test, as a program that does not read it yet. */
async function openEvents({ config: { opsListen } }: East): Promise<IncomingMessage> {
  if (opsListen.kind !== 'tcp') throw new Error('not over TCP');
  const call: ClientRequest = request({ host: opsListen.host, port: opsListen.port, path: '/events', agent: false });
  onTestFinished(() => void call.destroy());
  call.on('error', () => {});
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    call.once('response', resolve);
    call.once('error', reject);
    call.end();
  });
  return response;
}

describe('the events', () => {
  const SENT_BYTES = 15_000_000;
  const tick = z.object({
    atMs: z.number(),
    health_age_ms: z.number(),
    perSecond: z.record(z.string(), z.number()),
    decisions: z.record(z.string(), z.object({ total: z.number(), per_second: z.number() })),
  });

  test('are the state and the rates so far, then a tick each second, and a state only where it changes', async () => {
    const east = await startEast();
    const reader = new EventReader(await openEvents(east));
    expect(reader.response.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    for (let count = 0; count < 10; count++) await east.client.decide({});
    await waitUntil(() => reader.names.filter((name) => name === 'tick').length >= 3, { what: 'three ticks' });
    expect(reader.names.slice(0, 2)).toEqual(['state', 'rates']);
    expect(reader.names.filter((name) => name === 'state').length).toBeLessThanOrEqual(2);
    const ticks = reader.events.filter(({ name }) => name === 'tick').map(({ data }) => tick.parse(data));
    expect(ticks.reduce((sum, { perSecond }) => sum + (perSecond.local ?? 0), 0)).toBeGreaterThan(8);
    expect(ticks.at(-1)?.decisions.local?.total).toBe(10);
    for (const [index, { atMs }] of ticks.entries()) {
      const before = ticks[index - 1];
      if (before !== undefined) expect(Math.abs(atMs - before.atMs - 1_000)).toBeLessThan(2_000);
    }
  });

  test('tell of a change at once', async () => {
    const east = await startEast();
    const reader = new EventReader(await openEvents(east));
    await waitUntil(() => reader.names.includes('tick'), { what: 'a tick' });
    const ticks = reader.names.length;
    await ask(east.config.opsListen, '/drain?for=1h', {}, 'POST');
    await waitUntil(() => reader.names.length > ticks, { what: 'an event', intervalMs: 5 });
    expect(reader.state).toMatchObject({ draining: true, changes: [{ level: 'warn' }, {}, {}] });
    east.admin.setPool('remote_pool', ['ejected']);
    await waitUntil(() => reader.state.pools[1]?.up === false, { what: 'the change to be told' });
    expect(reader.state.changes[0]?.message).toMatch(/^pool remote_pool \(west\) is down/);
  });

  test('are for so many readers and no more, and a place is free again when one goes', async () => {
    const east = await startEast();
    const opened = await Promise.all(Array.from({ length: MAX_EVENT_STREAMS }, () => openEvents(east)));
    expect(opened.map(({ statusCode }) => statusCode)).toEqual(opened.map(() => 200));
    expect((await ask(east.config.opsListen, '/events')).status).toBe(503);
    opened[0]?.destroy();
    await waitUntil(
      async () => {
        const next = await openEvents(east);
        return next.statusCode === 200;
      },
      { what: 'a place to be free' },
    );
  });

  test('of a reader that does not read are not kept: it gets the present state when it reads, or is let go', async () => {
    const east = await startEast({}, (admin) => admin.setPool('local_pool', manyHosts('up')));
    const [slow, watched] = [await openEvents(east), await openEvents(east)];
    await openEvents(east);
    const watching = new EventReader(watched);
    const states = () => watching.names.filter((name) => name === 'state').length;
    // More than the kernel takes for readers that do not read.
    for (let state: HostState = 'ejected'; watching.bytes < SENT_BYTES; state = state === 'up' ? 'ejected' : 'up') {
      const before = states();
      east.admin.setPool('local_pool', manyHosts(state));
      await waitUntil(() => states() > before, { what: 'the change to be told', intervalMs: 5 });
    }
    const reader = new EventReader(slow);
    const { up } = watching.state.pools[0] ?? {};
    await waitUntil(() => reader.names.at(-1) === 'tick' && reader.state.pools[0]?.up === up, {
      what: 'the slow reader to have the present state',
    });
    expect(reader.bytes).toBeLessThan(watching.bytes / 2);

    // Of all places that of the stuck reader is the one to be free.
    for (let open = 3; open < MAX_EVENT_STREAMS; open++) new EventReader(await openEvents(east));
    expect((await ask(east.config.opsListen, '/events')).status).toBe(503);
    await waitUntil(async () => (await openEvents(east)).statusCode === 200, {
      what: 'the stuck reader to be let go',
      intervalMs: 200,
    });
  }, 60_000);

  test('end at once when the sidecar stops', async () => {
    const east = await startEast();
    const reader = new EventReader(await openEvents(east));
    await waitUntil(() => reader.names.includes('state'), { what: 'the state' });
    const ended = new Promise((resolve) => reader.response.once('close', resolve));
    east.client.close();
    const from = performance.now();
    await east.sidecar.close();
    await ended;
    expect(performance.now() - from).toBeLessThan(2_000);
  });
});

describe('a client that asks as fast as it can', () => {
  test('gets the same text of the metrics for a second', async () => {
    const east = await startEast();
    const texts = await Promise.all(
      Array.from({ length: 50 }, async () => (await ask(east.config.opsListen, '/metrics')).body),
    );
    expect(new Set(texts).size).toBeLessThanOrEqual(2);
  });

  test('may send some requests ahead, and is answered in their order', async () => {
    const east = await startEast();
    const { heads } = await sendBytesToTheEnd(
      east.url,
      `${GET('/livez').repeat(3)}${GET('/nothing')}${GET('/readyz', 'close')}`,
    );
    expect(heads.map((head) => head.slice(9, 12))).toEqual(['200', '200', '200', '404', '200']);
  });

  test('loses its connection when it sends many ahead, and others are answered meanwhile', async () => {
    const east = await startEast();
    const { heads } = await sendBytesToTheEnd(east.url, GET('/livez').repeat(10_000));
    expect(heads.length).toBeLessThan(10);
    expect(await probe(east, '/livez')).toBe('200 ok');
  });

  test('opens many connections and says nothing: that of an operator is not closed for them', async () => {
    const east = await startEast();
    const reader = new EventReader(await openEvents(east));
    await waitUntil(() => reader.names.includes('state'), { what: 'the state' });
    let closed = 0;
    for (let opened = 0; opened < 150; opened++) {
      const socket = connect(Number(new URL(east.url).port), '127.0.0.1');
      onTestFinished(() => void socket.destroy());
      socket.on('error', () => {});
      socket.on('close', () => closed++);
      await once(socket, 'connect');
    }
    await waitUntil(() => closed >= 150 - 128 + 1, { what: 'old connections to be closed' });
    expect(await probe(east, '/livez')).toBe('200 ok');
    expect(reader.response.closed).toBe(false);
  });
});

describe('the listener', () => {
  test('forbids its pages what they do not need', async () => {
    const east = await startEast();
    const { headers } = await ask(east.config.opsListen, '/');
    expect(headers).toMatchObject({
      'content-type': 'text/html; charset=utf-8',
      'x-content-type-options': 'nosniff',
      'cross-origin-resource-policy': 'same-origin',
    });
    expect(headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self';/);
    expect(headers['content-security-policy']).not.toMatch(/unsafe|\*|http/);
    expect(headers).not.toHaveProperty('access-control-allow-origin');
  });

  test('refuses to read to a page whose name was made to lead to loopback', async () => {
    const east = await startEast();
    for (const path of ['/', '/api/state', '/events', '/metrics']) {
      const { status, body } = await ask(east.config.opsListen, path, { host: 'evil.example:9003' });
      expect([path, status, body]).toEqual([
        path,
        403,
        'this listener is on loopback and "evil.example" is no name of it: use localhost or the address\n',
      ]);
    }
    for (const host of ['localhost:9003', '127.0.0.1', '[::1]:9003']) {
      expect([host, (await ask(east.config.opsListen, '/api/state', { host })).status]).toEqual([host, 200]);
    }
  });

  test('refuses what a page of another web site loads through a browser, but not a link that is followed', async () => {
    const east = await startEast();
    const loads = [
      { origin: 'https://evil.example' },
      { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
      { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors' },
    ];
    for (const headers of loads) expect((await ask(east.config.opsListen, '/events', headers)).status).toBe(403);
    const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' };
    expect((await ask(east.config.opsListen, '/', link)).status).toBe(200);
  });

  test('does not drain by a form of another web site, even from a browser that names no origin', async () => {
    const east = await startEast();
    for (const site of ['cross-site', 'same-site']) {
      const form = { 'sec-fetch-site': site, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
      expect((await ask(east.config.opsListen, '/drain', form, 'POST')).status).toBe(403);
    }
    const { body } = await ask(east.config.opsListen, '/api/state');
    expect(siteStateSchema.parse(JSON.parse(body)).draining).toBe(false);
  });
});

/** A state of about 200 kB. */
/** Of long names, so that each state is large. */
function manyHosts(state: HostState) {
  return Array.from({ length: 1_000 }, (_, index) => ({ state, address: `/${'x'.repeat(300)}${index}` }));
}
