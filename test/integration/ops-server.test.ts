import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { waitUntil } from '../../lab/wait-until.ts';
import { type Address, formatAddress } from '../../src/config/address.ts';
import { DEFAULT_APPLICATION } from '../../src/config/config.ts';
import { MAX_EVENT_STREAMS } from '../../src/ops/event-streams.ts';
import { siteStateSchema } from '../../src/ops/state.ts';
import { startSidecar } from '../../src/runtime/sidecar.ts';
import { type East, startEast, stateOf } from '../support/east.ts';
import type { FakeAdmin, HostState } from '../support/fake-admin.ts';
import { freePorts } from '../support/free-ports.ts';
import { sendBytes, sendBytesToTheEnd } from '../support/raw-http.ts';
import { Scrape } from '../support/scrape.ts';
import { EXT_PROC, ExtProcClient, grpcFrame, requestHeaders } from './ext-proc-client.ts';
import {
  configOf,
  EAST_COOKIE,
  eastFile,
  manyApplications,
  type SiteFile,
  setPoolsOfMany,
  startAdmin,
  TestLog,
  temporaryDirectory,
  WEST_COOKIE,
} from './site.ts';

/** As an Envoy knows it, which asks for its health. */
interface CheckedEast extends East {
  readonly url: string;
}

const LOCAL = { site: 'east', cluster: 'local_pool', application: DEFAULT_APPLICATION };
const REMOTE = { site: 'west', cluster: 'remote_pool', application: DEFAULT_APPLICATION };

const STALE_AFTER_S = 2;
const QUICK_TO_FORGET = { health: { poll_interval: '20ms', stale_after: `${STALE_AFTER_S}s` } };

async function startCheckedEast(changes?: SiteFile, prepare?: (admin: FakeAdmin) => void): Promise<CheckedEast> {
  const east = await startEast(changes, prepare === undefined ? {} : { prepare });
  await east.client.health(EXT_PROC);
  return { ...east, url: `http://${formatAddress(east.config.opsListen)}` };
}

describe('metrics_listen', () => {
  test('has metrics and probes, and nothing that changes or tells more', async () => {
    const [port] = await freePorts(1);
    const metricsListen: Address = { kind: 'tcp', host: '127.0.0.1', port: port ?? 0 };
    await startCheckedEast({ metrics_listen: formatAddress(metricsListen) });
    const answers = await Promise.all(
      ['/metrics', '/livez', '/readyz'].map((path) => ask(metricsListen, path, { host: '127.0.0.1' })),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(answers[0]?.body).toContain('site_persistence_build_info');
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/api/state'],
      ['GET', '/events'],
      ['GET', '/page.js'],
      ['POST', '/drain'],
      ['POST', '/undrain'],
      ['POST', '/reload'],
      ['POST', '/metrics'],
    ] as const) {
      const { status, body } = await ask(metricsListen, path, { host: '127.0.0.1' }, method);
      expect([path, status, body]).toEqual([path, 404, `no ${method} ${path} here: GET /metrics, /livez, /readyz\n`]);
    }
    // As any other listener on loopback.
    expect((await ask(metricsListen, '/metrics', { host: 'rebound.example.com' })).status).toBe(403);
  });

  test('may be a Unix socket', async () => {
    const path = join(await temporaryDirectory(), 'metrics.sock');
    await startCheckedEast({ metrics_listen: `unix:${path}` });
    expect((await ask({ kind: 'unix', path }, '/metrics')).status).toBe(200);
  });
});

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

async function probe(east: CheckedEast, path: '/livez' | '/readyz'): Promise<string> {
  const { status, body } = await ask(east.config.opsListen, path);
  return `${status} ${body.trim()}`;
}

describe('the probes', () => {
  test('say ready while the sidecar serves and health is known, and why not where it is not', async () => {
    const east = await startCheckedEast(QUICK_TO_FORGET);
    expect([await probe(east, '/livez'), await probe(east, '/readyz')]).toEqual(['200 ok', '200 ready']);
    east.admin.mood = 'closing';
    await waitUntil(async () => (await probe(east, '/readyz')) !== '200 ready', { what: 'not to be ready' });
    expect(await probe(east, '/readyz')).toMatch(
      /^503 health is not known: no valid answer from Envoy's admin interface for \d+\.\d s$/,
    );
    expect(await probe(east, '/livez')).toBe('200 ok');
    east.admin.mood = 'well';
    await waitUntil(async () => (await probe(east, '/readyz')) === '200 ready', { what: 'to be ready again' });
  });

  test('say not ready before the first poll, and ready while draining', async () => {
    const admin = await startAdmin();
    admin.mood = 'silent';
    const config = configOf(await eastFile(admin));
    const starting = startSidecar(config, new TestLog().logger, async () => config);
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
    const sidecar = await startSidecar(config, new TestLog().logger, async () => config);
    onTestFinished(() => sidecar.close());
    expect((await ask(config.opsListen, '/readyz')).status).toBe(503);
    await waitUntil(async () => (await ask(config.opsListen, '/readyz')).status === 200, { what: 'to be ready' });
  });

  test('say not ready while calls in flight are let end', async () => {
    const east = await startCheckedEast();
    const call = east.client.open();
    call.send(requestHeaders({ 'x-site-hop': 'west', cookie: `${WEST_COOKIE}=1` }));
    await call.reply(0);
    const closing = east.sidecar.close();
    expect(await probe(east, '/readyz')).toBe('503 stopping: no new call is taken');
    call.end();
    await closing;
  });

  test('are answered to HEAD, and nothing else is done by it', async () => {
    const east = await startCheckedEast();
    const { status, body } = await ask(east.config.opsListen, '/readyz', {}, 'HEAD');
    expect([status, body]).toEqual([200, '']);
    expect((await ask(east.config.opsListen, '/events', {}, 'HEAD')).status).toBe(405);
    expect((await ask(east.config.opsListen, '/drain', {}, 'HEAD')).status).toBe(404);
  });
});

describe('the metrics', () => {
  test('count streams by how they ended, and each once', async () => {
    const east = await startCheckedEast();
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
    const east = await startCheckedEast(QUICK_TO_FORGET);
    await east.admin.waitForRequests(5);
    const well = await Scrape.of(east.url);
    const ok = well.value('polls_total', { result: 'ok' });
    expect(ok).toBeGreaterThanOrEqual(4);
    expect(well.value('polls_total', { result: 'error' })).toBe(0);
    expect(well.value('poll_duration_seconds_count')).toBe(ok);
    expect(well.value('last_good_poll_age_seconds')).toBeLessThan(STALE_AFTER_S);
    expect([well.value('pool_up', LOCAL), well.value('pool_health_known', LOCAL)]).toEqual([1, 1]);

    east.admin.mood = 'html';
    await waitUntil(async () => (await Scrape.of(east.url)).value('pool_health_known', LOCAL) === 0, {
      what: 'health to be unknown',
    });
    await east.client.decide({ cookie: `${EAST_COOKIE}=1` });
    const ill = await Scrape.fresh(east.url);
    expect(ill.value('polls_total', { result: 'error' })).toBeGreaterThan(0);
    expect(ill.value('last_good_poll_age_seconds')).toBeGreaterThan(STALE_AFTER_S);
    expect([ill.value('pool_up', LOCAL), ill.value('pool_servers', LOCAL)]).toEqual([0, 2]);
    expect(ill.decisions()).toEqual({ 'unknown east': 1 });
  });

  test('say of an Envoy that was never there that the last good poll is infinitely old', async () => {
    const east = await startCheckedEast({}, (admin) => {
      admin.mood = 'closing';
    });
    const scrape = await Scrape.of(east.url);
    expect(scrape.value('last_good_poll_age_seconds')).toBe(Number.POSITIVE_INFINITY);
    expect(scrape.value('pool_servers', REMOTE)).toBe(0);
  });

  test('say of a cluster that Envoy does not have that its health is not known', async () => {
    const east = await startCheckedEast({}, (admin) => admin.removePool('remote_pool'));
    const scrape = await Scrape.of(east.url);
    expect(scrape.value('pool_health_known', REMOTE)).toBe(0);
    expect(scrape.value('pool_health_known', LOCAL)).toBe(1);
  });

  test('say draining, the version, and how the process is', async () => {
    const east = await startCheckedEast();
    expect((await Scrape.of(east.url)).value('draining', { application: DEFAULT_APPLICATION })).toBe(0);
    await ask(east.config.opsListen, '/drain', {}, 'POST');
    const scrape = await Scrape.fresh(east.url);
    expect(scrape.value('draining', { application: DEFAULT_APPLICATION })).toBe(1);
    expect(scrape.value('config_reloads_total', { result: 'rejected' })).toBe(0);
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
    const east = await startCheckedEast();
    await east.client.decide({});
    const { headers, body } = await ask(east.config.opsListen, '/metrics');
    expect(headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
    const { status, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: body, encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, '']);
  });

  test('have as many series as the config asks for, whatever requests bring', async () => {
    const east = await startCheckedEast();
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
    // Own sessions have come, and this Envoy does not count what became of them.
    const isCounted = (key: string) => isOwn(key) && !key.includes('kind="server_gone"');
    expect([...after.series.keys()].filter(isOwn)).toEqual(before.filter(isCounted));
  });
});

describe('a site with several applications', () => {
  async function startSeveral(count = 3): Promise<CheckedEast> {
    return await startCheckedEast(manyApplications(count), (admin) => setPoolsOfMany(admin, count));
  }

  test('says of each how it stands, with its own pools, decisions and changes', async () => {
    const east = await startSeveral();
    await east.client.decide({ ':authority': 'app-2.example.com' });
    await east.client.decide({ ':authority': 'APP-2.example.com:443', cookie: 'WEST-app-2=1' });
    await east.client.decide({ ':authority': 'other.example.com' });
    east.admin.setPool('app-3_west', ['ejected']);
    await waitUntil(async () => (await stateOf(east.config)).applications[2]?.verdict_level === 'warn', {
      what: 'the pool to be down',
    });
    const state = await stateOf(east.config);
    expect(
      state.applications.map(({ name, hosts, verdict_level, verdict }) => [name, hosts, verdict_level, verdict]),
    ).toEqual([
      ['app-1', ['app-1.example.com'], 'ok', 'East serves its clients.'],
      ['app-2', ['app-2.example.com'], 'ok', 'East serves its clients.'],
      ['app-3', ['app-3.example.com'], 'warn', 'East serves its clients; west is down.'],
    ]);
    expect(state.pools.map(({ application, site, up }) => `${application} ${site} ${up ? 'up' : 'down'}`)).toEqual([
      ...['app-1 east up', 'app-1 west up', 'app-1 north up', 'app-2 east up', 'app-2 west up', 'app-2 north up'],
      ...['app-3 east up', 'app-3 west down', 'app-3 north up'],
    ]);
    const [first, second] = state.applications;
    expect([first?.decisions.local.total, second?.decisions.local.total, second?.decisions.forward.total]).toEqual([
      0, 1, 1,
    ]);
    expect([state.decisions.local.total, state.decisions.forward.total, state.other_hosts]).toEqual([1, 1, 1]);
    // It is in force before it is said.
    const isSaid = async () =>
      (await stateOf(east.config)).changes.some(
        ({ application, message }) => application === 'app-3' && message.includes('app-3_west (west) is down'),
      );
    await waitUntil(isSaid, { what: 'the change to be among the last ones' });
  });

  test('drains the applications that are named, or else all, and no others', async () => {
    const east = await startSeveral();
    const post = async (path: string) => {
      const { status, body } = await ask(east.config.opsListen, path, {}, 'POST');
      expect([path, status]).toEqual([path, 200]);
      const { draining, applications } = siteStateSchema.parse(JSON.parse(body));
      return [draining, ...applications.map((each) => [each.draining, each.draining_until !== null])];
    };
    expect(await post('/drain?application=app-1&application=app-3&for=30m')).toEqual([
      ...[false, [true, true], [false, false], [true, true]],
    ]);
    expect(await post('/drain')).toEqual([true, [true, false], [true, false], [true, false]]);
    expect(await post('/undrain?application=app-2')).toEqual([false, [true, false], [false, false], [true, false]]);
    const { status, body } = await ask(east.config.opsListen, '/drain?application=app-1&application=app-9', {}, 'POST');
    expect([status, body]).toEqual([
      400,
      'application=app-9: there is no such application; there are app-1, app-2, app-3\n',
    ]);
    expect(await post('/undrain')).toEqual([false, [false, false], [false, false], [false, false]]);
    expect(east.log.matching(/draining/).at(-1)).toMatch(/^info application app-3 of site east is no longer draining/);
  });

  test('holds a site for the applications that are named, or else for all that have it', async () => {
    const east = await startSeveral();
    const post = async (path: string) => {
      const { status, body } = await ask(east.config.opsListen, path, {}, 'POST');
      if (status !== 200) return `${status} ${body.trim()}`;
      const { pools } = siteStateSchema.parse(JSON.parse(body));
      return pools.flatMap(({ application, site, held }) => (held === null ? [] : [`${application} ${site}`])).join();
    };
    expect(await post('/hold?site=west&application=app-1&reason=x')).toBe('app-1 west');
    // Of app-3 west is down, and north is up.
    expect(await post('/hold?site=west&reason=x&for=1h')).toBe('app-1 west,app-2 west,app-3 west');
    const scrape = await Scrape.of(east.url);
    const value = (site: string) => scrape.value('pool_held', { site, cluster: `app-1_${site}`, application: 'app-1' });
    expect([value('west'), value('north')]).toEqual([1, 0]);
    expect(await post('/release?site=west&application=app-2')).toBe('app-1 west,app-3 west');
    expect(await post('/release?site=west')).toBe('');
    expect(await post('/release?site=west')).toBe('');
    expect(await post('/hold?site=west')).toBe('400 reason: say why the site is held: reason=TEXT');
    expect(await post('/hold?reason=x')).toBe('400 site: say which one: site=NAME');
    // What is misunderstood must not be taken for an order of everything.
    expect(await post('/drain?aplication=app-1')).toBe(
      '400 aplication: there is no such parameter; there are application, for, reason, evict, force',
    );
    expect(await post('/drain?application=app-1&evict=false')).toBe('400 evict=false: write evict, or leave it out');
    expect(await post('/hold?site=west&site=north&reason=x')).toBe('400 site: is given twice');
    expect(await post('/hold?site=west&reason=x&application=app-9')).toBe(
      '400 application=app-9: there is no such application; there are app-1, app-2, app-3',
    );
  });

  test('drains an application as long as the config says so', async () => {
    const { applications, ...rest } = manyApplications(2);
    const [first, second] = z.array(z.record(z.string(), z.unknown())).parse(applications);
    const east = await startCheckedEast({ ...rest, applications: [{ ...first, drain: true }, second] }, (admin) =>
      setPoolsOfMany(admin, 2),
    );
    await ask(east.config.opsListen, '/undrain', {}, 'POST');
    const state = await stateOf(east.config);
    expect(state.applications.map(({ draining, draining_by_config }) => [draining, draining_by_config])).toEqual([
      [true, true],
      [false, false],
    ]);
  });

  test('has an application in the labels of its metrics, and no host of a request', async () => {
    const east = await startSeveral();
    await east.client.decide({ ':authority': 'app-2.example.com' });
    await east.client.decide({ ':authority': 'other.example.com' });
    await ask(east.config.opsListen, '/drain?application=app-1', {}, 'POST');
    const scrape = await Scrape.fresh(east.url);
    expect(['app-1', 'app-2', 'app-3'].map((application) => scrape.decisions(application))).toEqual([
      ...[{}, { 'local none': 1 }, {}],
    ]);
    expect(['app-1', 'app-2'].map((application) => scrape.value('draining', { application }))).toEqual([1, 0]);
    expect(scrape.value('pool_up', { site: 'west', cluster: 'app-3_west', application: 'app-3' })).toBe(1);
    expect(scrape.value('duplicate_cookies_total', { application: 'app-3' })).toBe(0);
    expect(scrape.value('other_hosts_total')).toBe(1);
    expect([...scrape.series.keys()].filter((key) => key.includes('example.com'))).toEqual([]);
  });

  test('with 200 of them sends what they decide, and not the whole state each second', async () => {
    const east = await startSeveral(200);
    const reader = new EventReader(await openEvents(east));
    await waitUntil(() => reader.names.includes('tick'), { what: 'a tick' });
    const [states, bytes] = [reader.names.filter((name) => name === 'state').length, reader.bytes];
    const ticks = z.object({ applications: z.record(z.string(), z.unknown()) });
    const told = () =>
      reader.events.filter(({ name }) => name === 'tick').map(({ data }) => ticks.parse(data).applications);
    await east.client.decide({ ':authority': 'app-7.example.com' });
    await waitUntil(() => told().some((of) => 'app-7' in of), { what: 'the decision to be told' });
    const before = told().length;
    await waitUntil(() => told().length > before + 2, { what: 'more ticks' });
    expect(new Set(told().flatMap((of) => Object.keys(of)))).toEqual(new Set(['app-7']));
    expect(reader.names.filter((name) => name === 'state')).toHaveLength(states);
    expect(reader.bytes - bytes).toBeLessThan(10_000);
  });
});

/** Ends the connection of a call that has its decision and waits for its response headers. */
async function loseConnection({ config: { listen } }: CheckedEast, message: object): Promise<void> {
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
async function openEvents({ config: { opsListen } }: CheckedEast): Promise<IncomingMessage> {
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

describe('the history', () => {
  async function historyOf({ config }: Pick<CheckedEast, 'config'>, query = ''): Promise<string[]> {
    const answer = z.object({
      pools: z.array(z.object({ site: z.string(), history: z.array(z.object({ state: z.string() })) })),
    });
    const { body } = await ask(config.opsListen, `/api/history${query}`);
    return answer
      .parse(JSON.parse(body))
      .pools.map(({ site, history }) => `${site} ${history.map(({ state }) => state).join(' ')}`);
  }

  test('has how each pool was: up, down, held back, unknown, also from before it is asked for', async () => {
    const east = await startCheckedEast({ health: { ...QUICK_TO_FORGET.health, hold_up: '2s' } });
    east.admin.setPool('remote_pool', ['ejected']);
    await waitUntil(async () => (await stateOf(east.config)).pools[1]?.up === false, { what: 'west to be down' });
    east.admin.setPool('remote_pool', ['up']);
    await waitUntil(async () => (await stateOf(east.config)).pools[1]?.up === true, { what: 'west to be up' });
    await waitUntil(async () => (await historyOf(east))[1] === 'west up down held up', { what: 'the history' });
    east.admin.mood = 'closing';
    await waitUntil(async () => (await historyOf(east))[1] === 'west up down held up unknown', { what: 'unknown' });
    expect((await historyOf(east))[0]).toBe('east up unknown');
  });

  test('goes on after a reload', async () => {
    const admin = await startAdmin();
    const file = await eastFile(admin);
    const config = configOf(file);
    const next = configOf({ ...file, health: { ...QUICK_TO_FORGET.health, hold_up: '1m' } });
    const sidecar = await startSidecar(config, new TestLog().logger, async () => next);
    onTestFinished(() => sidecar.close());
    await waitUntil(async () => (await historyOf({ config }))[1]?.endsWith(' up') === true, { what: 'west to be up' });
    admin.setPool('remote_pool', ['ejected']);
    await waitUntil(async () => (await historyOf({ config }))[1]?.endsWith(' up down') === true, { what: 'down' });
    expect((await sidecar.reload()).isAccepted).toBe(true);
    admin.setPool('remote_pool', ['up']);
    await waitUntil(async () => (await historyOf({ config }))[1]?.endsWith(' up down held') === true, { what: 'held' });
  });

  test('is of the applications that are asked for', async () => {
    const east = await startCheckedEast(manyApplications(3), (admin) => setPoolsOfMany(admin, 3));
    await waitUntil(async () => (await historyOf(east)).length === 9, { what: 'the history of all' });
    expect(await historyOf(east, '?application=app-2')).toEqual(['east up', 'west up', 'north up']);
    expect(await ask(east.config.opsListen, '/api/history?application=app-9')).toMatchObject({
      status: 400,
      body: 'application=app-9: there is no such application; there are app-1, app-2, app-3\n',
    });
  });
});

describe('the events', () => {
  const SENT_BYTES = 15_000_000;
  const tick = z.object({
    atMs: z.number(),
    health_age_ms: z.number(),
    perSecond: z.record(z.string(), z.number()),
    decisions: z.record(z.string(), z.object({ total: z.number(), per_second: z.number() })),
  });

  test('are the state and the rates so far, then a tick each second, and a state only where it changes', async () => {
    const east = await startCheckedEast();
    const reader = new EventReader(await openEvents(east));
    expect(reader.response.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    for (let count = 0; count < 10; count++) await east.client.decide({});
    await waitUntil(() => reader.names.filter((name) => name === 'tick').length >= 3, { what: 'three ticks' });
    expect(reader.names.slice(0, 2)).toEqual(['state', 'rates']);
    expect(reader.names.filter((name) => name === 'state').length).toBeLessThanOrEqual(2);
    const ticks = reader.events.filter(({ name }) => name === 'tick').map(({ data }) => tick.parse(data));
    // Ten, over seconds that are longer on a busy machine.
    expect(ticks.reduce((sum, { perSecond }) => sum + (perSecond.local ?? 0), 0)).toBeGreaterThan(1);
    expect(ticks.at(-1)?.decisions.local?.total).toBe(10);
    for (const [index, { atMs }] of ticks.entries()) {
      const before = ticks[index - 1];
      if (before !== undefined) expect(Math.abs(atMs - before.atMs - 1_000)).toBeLessThan(2_000);
    }
  });

  test('tell of a change at once', async () => {
    const east = await startCheckedEast();
    const reader = new EventReader(await openEvents(east));
    await waitUntil(() => reader.names.includes('tick'), { what: 'a tick' });
    const ticks = reader.names.length;
    await ask(east.config.opsListen, '/drain?for=1h', {}, 'POST');
    await waitUntil(() => reader.names.length > ticks, { what: 'an event', intervalMs: 5 });
    expect(reader.state).toMatchObject({ draining: true, changes: [{ level: 'warn' }, {}, {}, {}] });
    east.admin.setPool('remote_pool', ['ejected']);
    await waitUntil(() => reader.state.pools[1]?.up === false, { what: 'the change to be told' });
    const isSaid = () => reader.state.changes[0]?.message.startsWith('pool remote_pool (west) is down') === true;
    await waitUntil(isSaid, { what: 'the change to be among the last ones' });
  });

  test('are for so many readers and no more, and a place is free again when one goes', async () => {
    const east = await startCheckedEast();
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
    const east = await startCheckedEast({}, (admin) => admin.setPool('local_pool', manyHosts('up')));
    const [slow, watched] = [await openEvents(east), await openEvents(east)];
    await openEvents(east);
    const watching = new EventReader(watched);
    const states = () => watching.names.filter((name) => name === 'state').length;
    const isUp = () => watching.state.pools[0]?.up;
    // More than the kernel takes for readers that do not read.
    for (let state: HostState = 'ejected'; watching.bytes < SENT_BYTES; state = state === 'up' ? 'ejected' : 'up') {
      const before = states();
      east.admin.setPool('local_pool', manyHosts(state));
      // An event may be of something else: a pool that changes back before a poll has seen it did not change.
      await waitUntil(() => states() > before && isUp() === (state === 'up'), {
        what: 'the change to be told',
        intervalMs: 5,
      });
    }
    const reader = new EventReader(slow);
    const up = isUp();
    const isPresent = () => reader.names.at(-1) === 'tick' && reader.state.pools[0]?.up === up;
    // Let go where all this took longer than a reader may be stuck.
    await waitUntil(() => isPresent() || slow.destroyed, { what: 'the slow reader to have the present state' });
    expect(reader.bytes).toBeLessThan(watching.bytes / 2);

    let places = 0;
    for (let next = await openEvents(east); next.statusCode === 200; next = await openEvents(east)) {
      new EventReader(next);
      places++;
    }
    expect(places).toBeGreaterThanOrEqual(MAX_EVENT_STREAMS - 3);
    if (places > MAX_EVENT_STREAMS - 3) return;
    // Of all places that of the stuck reader is the one to be free.
    await waitUntil(async () => (await openEvents(east)).statusCode === 200, {
      what: 'the stuck reader to be let go',
      intervalMs: 200,
    });
  });

  test('end at once when the sidecar stops', async () => {
    const east = await startCheckedEast();
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
    const east = await startCheckedEast();
    const texts = await Promise.all(
      Array.from({ length: 50 }, async () => (await ask(east.config.opsListen, '/metrics')).body),
    );
    expect(new Set(texts).size).toBeLessThanOrEqual(2);
  });

  test('may send some requests ahead, and is answered in their order', async () => {
    const east = await startCheckedEast();
    const { heads } = await sendBytesToTheEnd(
      east.url,
      `${GET('/livez').repeat(3)}${GET('/nothing')}${GET('/readyz', 'close')}`,
    );
    expect(heads.map((head) => head.slice(9, 12))).toEqual(['200', '200', '200', '404', '200']);
  });

  test.each([10, 20, 1_000, 10_000])('gets the first 9 answers when it sends %i requests at once', async (sent) => {
    const [port = 0] = await freePorts(1);
    const metricsListen: Address = { kind: 'tcp', host: '127.0.0.1', port };
    const east = await startCheckedEast({ metrics_listen: formatAddress(metricsListen) });
    for (const url of [east.url, `http://${formatAddress(metricsListen)}`]) {
      const { heads } = await sendBytesToTheEnd(
        url,
        `${GET('/livez')}${GET('/nothing')}${GET('/metrics').repeat(sent - 2)}`,
      );
      expect(heads.map((head) => head.slice(9, 12))).toEqual(['200', '404', ...Array.from({ length: 7 }, () => '200')]);
      const closing = heads.map((head) => head.includes('\r\nconnection: close\r\n'));
      expect(closing).toEqual([...Array.from({ length: 8 }, () => false), true]);
    }
    expect(await probe(east, '/livez')).toBe('200 ok');
  });

  test('is not waited for when it sends many requests behind one whose answer has no end', async () => {
    const east = await startCheckedEast();
    let closed = 0;
    for (let opened = 0; opened < 20; opened++) {
      const socket = connect(Number(new URL(east.url).port), '127.0.0.1').on('error', () => {});
      onTestFinished(() => void socket.destroy());
      socket.resume().on('close', () => closed++);
      socket.write(`${GET('/events')}${GET('/livez').repeat(100)}`);
    }
    await waitUntil(() => closed === 20, { what: 'all to be closed' });
    expect(await probe(east, '/livez')).toBe('200 ok');
  });

  test('opens many connections and says nothing: that of an operator is not closed for them', async () => {
    const east = await startCheckedEast();
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

describe('a request with a body', () => {
  const REFUSED = 'an order has no body: write its parameters into the query\n';

  test.each([
    ['of a given length', 'Content-Length: 6\r\n\r\n', 'for=5m'],
    ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n', '6\r\nfor=5m\r\n0\r\n\r\n'],
  ])('is refused with its reason, whenever the body comes: %s', async (_, head, body) => {
    const east = await startCheckedEast();
    const order = `POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\n${head}`;
    const { heads, ...answer } = await sendBytesToTheEnd(east.url, `${order}${body}${GET('/livez')}`);
    expect([answer.status, heads.length, answer.body]).toEqual([400, 1, REFUSED]);
    expect(heads[0]).toContain('\r\nconnection: close\r\n');
    const socket = connect(Number(new URL(east.url).port), '127.0.0.1');
    const received = text(socket);
    socket.write(order);
    await probe(east, '/livez');
    socket.write(body);
    expect(await received).toMatch(/^HTTP\/1\.1 400 /);
    expect((await stateOf(east.config)).draining).toBe(false);
  });

  test.each([
    ['of a given length', 'Content-Length: 9999999999\r\n\r\n', 'x'],
    ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n', '1\r\na\r\n'],
  ])('is answered and not read on when the body has no end: %s', async (_, head, part) => {
    const east = await startCheckedEast();
    for (const route of ['POST /drain', 'GET /livez']) {
      const socket = connect(Number(new URL(east.url).port), '127.0.0.1');
      onTestFinished(() => void socket.destroy());
      socket.on('error', () => {});
      socket.resume().once('close', () => clearInterval(sending));
      socket.write(`${route} HTTP/1.1\r\nHost: 127.0.0.1\r\n${head}`);
      const some = part.repeat(50_000);
      const sending = setInterval(() => {
        if (!socket.writableNeedDrain) socket.write(some);
      }, 1);
      await waitUntil(() => socket.destroyed, { what: `${route} to be answered and closed` });
    }
  });
});

describe('the listener', () => {
  test('forbids its pages what they do not need', async () => {
    const east = await startCheckedEast();
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
    const east = await startCheckedEast();
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

  test('refuses a request with two Host headers, of which one could be the right one', async () => {
    const east = await startCheckedEast();
    for (const route of ['POST /drain', 'GET /api/state']) {
      const bytes = `${route} HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n\r\n`;
      const { status, body } = await sendBytes(east.url, bytes);
      expect([route, status, body]).toEqual([route, 403, 'a request has one Host header\n']);
    }
    expect((await stateOf(east.config)).draining).toBe(false);
  });

  test('refuses what a page of another web site loads through a browser, but not a link that is followed', async () => {
    const east = await startCheckedEast();
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
    const east = await startCheckedEast();
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
