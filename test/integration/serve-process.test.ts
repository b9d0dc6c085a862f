import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { ManagedProcess } from '../../lab/managed-process.ts';
import { CLI, NODE_ARGS } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { parseAddress } from '../../src/config/address.ts';
import { siteStateSchema } from '../../src/ops/state.ts';
import type { FakeAdmin } from '../support/fake-admin.ts';
import { freePorts } from '../support/free-ports.ts';
import { linesOf, runCli, STACK_LINE, startServe } from './cli-process.ts';
import { ExtProcClient, type ExtProcStream, requestHeaders, responseHeaders } from './ext-proc-client.ts';
import {
  eastFile,
  parseLogLine,
  type SiteFile,
  startAdmin,
  temporaryDirectory,
  WEST_COOKIE,
  writeSiteFile,
} from './site.ts';

/** What the sidecar promises to need at most for its stop. */
const STOP_MS = 5_000;

interface Serving {
  readonly serve: ManagedProcess;
  readonly admin: FakeAdmin;
  readonly configFile: string;
  readonly listen: string;
  readonly opsListen: string;
}

/** A sidecar process for the running test, once it knows how its pools are. */
async function startServing(changes: SiteFile = {}, env: Readonly<Record<string, string>> = {}): Promise<Serving> {
  const admin = await startAdmin();
  const file = await eastFile(admin, changes);
  const configFile = await writeSiteFile(file);
  const serve = await startServe(configFile, { env });
  const serving = { serve, admin, configFile, listen: String(file.listen), opsListen: String(file.ops_listen) };
  await waitUntil(async () => (await stateOf(serving))?.health_known === true, { what: 'health to be known' });
  return serving;
}

async function stateOf({ opsListen }: Serving) {
  const answer = await fetch(`http://${opsListen}/api/state`).catch(() => undefined);
  return answer === undefined ? undefined : siteStateSchema.parse(await answer.json());
}

function clientOf(listen: string): ExtProcClient {
  const client = new ExtProcClient(parseAddress(listen));
  onTestFinished(() => client.close());
  return client;
}

const adopted = requestHeaders({ 'x-site-hop': 'west', cookie: `${WEST_COOKIE}=1` });

/** A call that has its decision and waits for its response headers. */
async function openCall(client: ExtProcClient): Promise<ExtProcStream> {
  const call = client.open();
  call.send(adopted);
  expect((await call.reply(0)).wantsResponseHeaders).toBe(true);
  return call;
}

/** Waits until a new client of the sidecar is turned away. */
async function untilRefused({ listen }: Serving): Promise<void> {
  await waitUntil(async () => (await clientOf(listen).health()) !== 'SERVING', {
    what: 'new calls to be refused',
    timeoutMs: 2_000,
  });
}

interface Stop {
  readonly code: number | null;
  readonly tookMs: number;
}

/** Sends the signal and waits for the end; a process that does not end is killed, and has no code. */
async function stopWith({ serve }: Serving, signal: NodeJS.Signals): Promise<Stop> {
  const from = performance.now();
  serve.signal(signal);
  const stuck = setTimeout(() => serve.signal('SIGKILL'), STOP_MS + 1_000);
  const { code } = await serve.ended;
  clearTimeout(stuck);
  return { code, tookMs: performance.now() - from };
}

/** A plain TCP connection for the running test. */
async function openSocket(address: string): Promise<Socket> {
  const [host = '', port = ''] = address.split(':');
  const socket = connect(Number(port), host);
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** The messages logged so far; throws where a line is not JSON. */
function messages({ lines }: ManagedProcess): string[] {
  return lines.map((line) => parseLogLine(line).message);
}

describe.each<NodeJS.Signals>(['SIGTERM', 'SIGINT'])('%s', (signal) => {
  test('lets a call in flight end, takes no other, and exits 0 as soon as it has ended', async () => {
    const serving = await startServing();
    const call = await openCall(clientOf(serving.listen));
    const from = performance.now();
    const stopped = stopWith(serving, signal);
    await untilRefused(serving);
    expect([call.hasEnded, serving.serve.hasEnded]).toEqual([false, false]);

    call.send(responseHeaders({ ':status': '200', 'x-envoy-upstream-service-time': '1' }));
    expect((await call.reply(1)).setHeaders).toMatchObject([{ name: 'set-cookie' }]);
    expect((await call.ended).code).toBe(status.OK);
    const endedMs = performance.now() - from;
    const { code, tookMs } = await stopped;
    expect(code).toBe(0);
    expect(tookMs - endedMs).toBeLessThan(3_000);
    expect(messages(serving.serve).slice(-2)).toEqual([
      'stopping: in-flight calls get up to 3.5 s to finish',
      'stopped',
    ]);
  });
});

describe('a stop', () => {
  test('is quick where no call is in flight, though Envoy keeps its connections open', async () => {
    const serving = await startServing();
    const client = clientOf(serving.listen);
    await client.decide({});
    const idle = await openSocket(serving.opsListen);
    idle.write('GET /api/state HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(idle, 'data');
    await openSocket(serving.opsListen);
    const { code, tookMs } = await stopWith(serving, 'SIGTERM');
    expect(code).toBe(0);
    expect(tookMs).toBeLessThan(3_000);
    expect(messages(serving.serve)).not.toContain('stop timeout: calls still in flight were reset');
  });

  test('is quick where Envoy does not answer', async () => {
    const serving = await startServing();
    serving.admin.mood = 'silent';
    await waitUntil(() => serving.admin.inFlight === 1, { what: 'a poll to hang' });
    const { code, tookMs } = await stopWith(serving, 'SIGTERM');
    expect(code).toBe(0);
    expect(tookMs).toBeLessThan(3_000);
    expect(messages(serving.serve).filter((message) => message.startsWith('cannot read health'))).toEqual([]);
  });

  test('exits 0 within 5 s whatever stays open, and says that it cut calls off', async () => {
    const endings = {
      'a call that never ends': () => stopWithOpenCall('SIGTERM'),
      'a call in flight at Ctrl-C': () => stopWithOpenCall('SIGINT'),
      'somebody who watches its health': stopWithHealthWatch,
      'a connection without a request': stopWithIdleConnection,
    };
    for (const [what, stop] of Object.entries(endings)) {
      const { code, tookMs, cutOff } = await stop();
      expect([what, code, tookMs < STOP_MS, cutOff]).toEqual([what, 0, true, true]);
    }
  });

  interface CutOff extends Stop {
    readonly cutOff: boolean;
  }

  async function stopAndLook(serving: Serving, signal: NodeJS.Signals): Promise<CutOff> {
    const stop = await stopWith(serving, signal);
    return {
      ...stop,
      cutOff: messages(serving.serve).includes('stop timeout: calls still in flight were reset'),
    };
  }

  async function stopWithOpenCall(signal: NodeJS.Signals): Promise<CutOff> {
    const serving = await startServing();
    const call = await openCall(clientOf(serving.listen));
    const stop = await stopAndLook(serving, signal);
    expect((await call.ended).code).not.toBe(status.OK);
    return stop;
  }

  async function stopWithHealthWatch(): Promise<CutOff> {
    const serving = await startServing();
    const said = clientOf(serving.listen).watchHealth();
    await waitUntil(() => said.length === 1, { what: 'the health to be said' });
    const stopped = stopAndLook(serving, 'SIGTERM');
    await waitUntil(() => said.length === 2, { what: 'its change to be said', timeoutMs: 3_000 });
    expect(said).toEqual(['SERVING', 'NOT_SERVING']);
    return await stopped;
  }

  async function stopWithIdleConnection(): Promise<CutOff> {
    const serving = await startServing();
    await openSocket(serving.listen);
    return await stopAndLook(serving, 'SIGTERM');
  }

  test('leaves a drain to the next sidecar, and says so', async () => {
    const serving = await startServing();
    await fetch(`http://${serving.opsListen}/drain`, { method: 'POST' });
    await waitUntil(() => serving.admin.runtime.has('site_persistence.drain.default'), { what: 'Envoy to know of it' });
    await stopWith(serving, 'SIGTERM');
    const says = 'site east goes on draining: this sidecar stops, and Envoy knows of the drain';
    expect(messages(serving.serve)).toContain(says);
    const next = await startServe(serving.configFile);
    const drains = /^site east: deciding on .*, draining, as Envoy's runtime says$/;
    expect(messages(next)).toContainEqual(expect.stringMatching(drains));
  });

  test('says that a drain ends with it where Envoy does not take it', async () => {
    const serving = await startServing();
    serving.admin.hasAdminLayer = false;
    await fetch(`http://${serving.opsListen}/drain`, { method: 'POST' });
    await serving.admin.waitForRequests(3);
    await stopWith(serving, 'SIGTERM');
    const says = 'site east stops while draining, and the drain ends with this sidecar: Envoy could not store it';
    expect(messages(serving.serve)).toContain(says);
    const next = await startServe(serving.configFile);
    expect(messages(next)).toContainEqual(expect.stringMatching(/^site east: deciding on .*, not draining$/));
  });

  test('is possible before Envoy was ever there', async () => {
    const [port] = await freePorts(1);
    const admin = await startAdmin();
    const configFile = await writeSiteFile(await eastFile(admin, { envoy: { admin: `http://127.0.0.1:${port}` } }));
    const serve = await startServe(configFile);
    await serve.waitForLine(/cannot read health.*ECONNREFUSED/);
    serve.signal('SIGTERM');
    expect((await serve.ended).code).toBe(0);
  });
});

describe('a second sidecar', () => {
  test.each([
    ['listen', 'ops_listen'],
    ['ops_listen', 'listen'],
  ])('on the same %s says so in one line and exits 1', async (key, other) => {
    const first = await startServing();
    const [port] = await freePorts(1);
    const address = key === 'listen' ? first.listen : first.opsListen;
    const otherFlag = other === 'listen' ? '--listen' : '--ops-listen';
    const second = await runCli(['serve', '--config', first.configFile, otherFlag, `127.0.0.1:${port}`]);
    expect(second).toEqual({
      code: 1,
      stdout: '',
      stderr: `cannot listen on ${address} (${key}): it is in use: stop the process that has it, or choose another address\n`,
    });
    expect(first.serve.hasEnded).toBe(false);
  });

  test('takes part in the same file with --listen and --ops-listen', async () => {
    const first = await startServing();
    const socket = `unix:${await temporaryDirectory()}/second.sock`;
    const [port] = await freePorts(1);
    const second = await startServe(first.configFile, {
      args: ['--listen', socket, '--ops-listen', `127.0.0.1:${port}`],
    });
    expect(messages(second)).toContain(`site east: deciding on ${socket}, not draining`);
    expect(await clientOf(socket).health()).toBe('SERVING');
    expect(await clientOf(first.listen).health()).toBe('SERVING');
    expect((await fetch(`http://127.0.0.1:${port}/api/state`)).status).toBe(200);
  });

  test('on a socket whose owner was killed takes it over', async () => {
    const listen = `unix:${await temporaryDirectory()}/ext_proc.sock`;
    const first = await startServing({ listen });
    await first.serve.stop('SIGKILL');
    await startServe(first.configFile);
    expect(await clientOf(listen).health()).toBe('SERVING');
  });
});

describe('the log', () => {
  test('is JSON lines with a time, a level and a message', async () => {
    const { serve, listen } = await startServing();
    await serve.waitForLine(/deciding on/);
    const lines = serve.lines.map(parseLogLine);
    expect(lines.map(({ level, message }) => [level, message])).toEqual([
      ['info', 'the fast path is on: requests that need no decision do not leave Envoy'],
      ['info', 'pool local_pool (east) is up: 2 of 2 servers up'],
      ['info', 'pool remote_pool (west) is up: 1 of 1 servers up'],
      ['info', `site east: deciding on ${listen}, not draining`],
    ]);
    for (const { fields } of lines) {
      expect(fields).toMatchObject({ time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/), pid: serve.pid });
    }
  });

  test('says nothing of a request at info', async () => {
    const { serve, listen } = await startServing();
    await serve.waitForLine(/pool remote_pool/);
    const client = clientOf(listen);
    await client.decide({});
    await serve.waitForLine(/Envoy connected/);
    const before = [...serve.lines];
    await Promise.all(Array.from({ length: 50 }, () => client.decide({})));
    expect(serve.lines).toEqual(before);
  });

  test('says each decision at debug', async () => {
    const serving = await startServing({}, { LOG_LEVEL: 'debug' });
    const client = clientOf(serving.listen);
    await Promise.all(Array.from({ length: 10 }, () => client.decide({ cookie: `${WEST_COOKIE}=1` })));
    await client.decide({ ':path': '/local_pool_status' });
    const decisions = () => serving.serve.lines.map(parseLogLine).filter((line) => line.message === 'decision');
    await waitUntil(() => decisions().length >= 11, { what: 'the decisions to be logged' });
    expect(decisions().map(({ level, fields }) => [level, fields.decision, fields.owner, fields.pool])).toEqual([
      ...Array.from({ length: 10 }, () => ['debug', 'forward', 'west', 'remote_pool']),
      ['debug', 'status', 'none', undefined],
    ]);
  });

  test.each(['warn', 'ERROR'])('says no more than LOG_LEVEL=%s lets it', async (level) => {
    const serving = await startServing({}, { LOG_LEVEL: level });
    serving.admin.removePool('remote_pool');
    await serving.serve.waitForLine(/no cluster/);
    expect(serving.serve.lines.map((line) => parseLogLine(line).level)).toEqual(['error']);
  });

  test('is refused with a LOG_LEVEL that is none', async () => {
    const configFile = await writeSiteFile(await eastFile(await startAdmin()));
    const { code, stdout, stderr } = await runCli(['serve', '-c', configFile], { env: { LOG_LEVEL: 'loud' } });
    expect([code, stdout]).toEqual([2, '']);
    expect(linesOf(stderr)).toEqual([expect.stringMatching(/^LOG_LEVEL is "loud": it must be one of .*info, debug/)]);
    expect(stderr).not.toMatch(STACK_LINE);
  });

  test('may have nobody who reads it', async () => {
    const file = await eastFile(await startAdmin());
    const child = spawn(process.execPath, [CLI, 'serve', '-c', await writeSiteFile(file)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'close');
    onTestFinished(() => void child.kill('SIGKILL'));
    await once(child.stdout, 'data');
    child.stdout.destroy();
    for (const path of ['drain', 'undrain']) await fetch(`http://${file.ops_listen}/${path}`, { method: 'POST' });
    expect(await clientOf(String(file.listen)).health()).toBe('SERVING');
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
  });
});

test.each(['a TCP port', 'a Unix socket'])(
  "runs under Node's permission model on %s, with no more than its own files, its config and its sockets",
  async (where) => {
    const directory = await temporaryDirectory();
    const sockets = { listen: `unix:${directory}/ext_proc.sock`, ops_listen: `unix:${directory}/ops.sock` };
    const file = await eastFile(await startAdmin(), where === 'a TCP port' ? {} : sockets);
    const configFile = await writeSiteFile(file);
    const major = Number.parseInt(process.versions.node, 10);
    // Before Node 22 a directory is written with an asterisk.
    const whole = (path: string) => (major >= 22 ? path : `${path}*`);
    const nodeArgs = [
      major >= 22 ? '--permission' : '--experimental-permission',
      `--allow-fs-read=${whole(CLI.replace(/dist\/main\.js$/, ''))}`,
      `--allow-fs-read=${configFile}`,
      ...(where === 'a TCP port'
        ? []
        : ['read', 'write'].map((what) => `--allow-fs-${what}=${whole(`${directory}/`)}`)),
    ];
    const serve = await startServe(configFile, { nodeArgs: [...nodeArgs, '--allow-worker'] });
    const reply = await clientOf(String(file.listen)).decide({ cookie: `${WEST_COOKIE}=1` });
    expect(reply.decision).toBe('forward');
    serve.signal('SIGHUP');
    await serve.waitForLine(/config reloaded: nothing changed/);
    await serve.stop('SIGTERM');

    const without = await startServe(configFile, { nodeArgs });
    without.signal('SIGHUP');
    await without.waitForLine(/lets no thread be started: add --allow-worker: the old config stays/);
  },
);

test('memory is bounded by the same options in the image, in the command, and in what is measured', async () => {
  const options = NODE_ARGS.join(' ');
  expect((await readFile(CLI, 'utf8')).split('\n', 1)).toEqual([`#!/usr/bin/env -S node ${options}`]);
  const image = await readFile(new URL('../../Dockerfile', import.meta.url), 'utf8');
  expect(image).toContain(
    `ENTRYPOINT ${JSON.stringify(['node', ...NODE_ARGS, '/app/dist/main.js']).replaceAll(',', ', ')}`,
  );
  expect(await readFile(new URL('../../docs/containers.md', import.meta.url), 'utf8')).toContain(options);
});
