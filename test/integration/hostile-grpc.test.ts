import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { formatAddress } from '../../src/config/address.ts';
import { loadConfig } from '../../src/config/load.ts';
import { MAX_CALLS_OF_CONNECTION } from '../../src/contract.ts';
import { Connections } from '../../src/listener/connections.ts';
import { type East, startEast } from '../support/east.ts';
import { startServe } from './cli-process.ts';
import { EXT_PROC, ExtProcClient, grpcFrame, requestHeaders } from './ext-proc-client.ts';
import { eastFile, startAdmin, WEST_COOKIE, writeSiteFile } from './site.ts';

async function expectServed({ client: envoy }: East): Promise<void> {
  const reply = await envoy.decide({ cookie: `${WEST_COOKIE}=1` });
  expect([reply.decision, reply.owner]).toEqual(['forward', 'west']);
  expect(await envoy.health(EXT_PROC)).toBe('SERVING');
}

/** At most once a minute, which a busy machine may take for it. */
function expectSaidRarely({ log }: East, pattern: RegExp): void {
  const { length: times } = log.matching(pattern);
  expect(times).toBeGreaterThan(0);
  expect(times).toBeLessThan(4);
}

function connectTo({ config }: East): Socket {
  if (config.listen.kind !== 'tcp') throw new Error('not a TCP address');
  const socket = connect(config.listen.port, config.listen.host);
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  return socket;
}

/** Sends bytes, and goes when the sidecar has said something or hung up. */
async function sendAndLeave(east: East, bytes: Buffer): Promise<void> {
  const socket = connectTo(east);
  const heard = new Promise<void>((resolve) => {
    socket.on('data', () => resolve());
    socket.on('close', () => resolve());
  });
  socket.write(bytes);
  await heard;
  socket.destroy();
}

function openSession({ config }: East): ClientHttp2Session {
  const session = connectHttp2(`http://${formatAddress(config.listen)}`);
  session.on('error', () => {});
  onTestFinished(() => session.destroy());
  return session;
}

const CALL = {
  ':method': 'POST',
  ':path': `/${EXT_PROC}/Process`,
  'content-type': 'application/grpc',
  te: 'trailers',
};

function openStream(session: ClientHttp2Session, headers: Readonly<Record<string, string>> = {}) {
  const stream = session.request({ ...CALL, ...headers });
  stream.on('error', () => {});
  stream.resume();
  return stream;
}

/** However it ends. */
async function closeOf(stream: ReturnType<typeof openStream>): Promise<void> {
  await new Promise<void>((resolve) => void stream.on('close', () => resolve()));
}

/** The same bytes in each run. */
function* pseudoRandomBytes(seed: number): Generator<Buffer> {
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  };
  for (;;) yield Buffer.from(Array.from({ length: 1 + next() * 4 }, next));
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const NO_SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

describe('others keep their answers while a client', () => {
  test.each([
    ['sends bytes that mean nothing', Buffer.alloc(0)],
    ['sends them after a right beginning of HTTP/2', Buffer.concat([PREFACE, NO_SETTINGS])],
  ])('%s', async (_, beginning) => {
    const east = await startEast();
    const random = pseudoRandomBytes(1);
    for (let round = 0; round < 100; round++) {
      await sendAndLeave(east, Buffer.concat([beginning, random.next().value]));
    }
    await expectServed(east);
  });

  test('sends frames that HTTP/2 does not know, or of a length that is not theirs', async () => {
    const east = await startEast();
    for (let type = 0; type < 256; type += 5) {
      const frame = Buffer.from([0, 0, 3, type, 0xff, 0, 0, 0, type % 3, 1, 2, 3]);
      await sendAndLeave(east, Buffer.concat([PREFACE, NO_SETTINGS, frame]));
    }
    await expectServed(east);
  });

  test('opens 12,000 calls and never uses them: old ones make room, and that is said once', async () => {
    const east = await startEast();
    let closed = 0;
    for (let connection = 0; connection < 120; connection++) {
      const session = openSession(east);
      await once(session, 'remoteSettings');
      for (let count = 0; count < MAX_CALLS_OF_CONNECTION; count++) openStream(session).on('close', () => closed++);
      // So that they do not all wait in this process.
      await new Promise((resolve) => session.ping(resolve));
    }
    await expectServed(east);
    await waitUntil(() => closed >= 2_000, { what: '2,000 calls to be broken off' });
    expect(closed).toBeLessThan(4_000);
    expectSaidRarely(east, /limit of open calls reached/);
    await expectServed(east);
  });

  test('opens 3,000 watches of health', async () => {
    const east = await startEast();
    let closed = 0;
    for (let connection = 0; connection < 30; connection++) {
      const session = openSession(east);
      await once(session, 'remoteSettings');
      for (let count = 0; count < MAX_CALLS_OF_CONNECTION; count++) {
        const stream = openStream(session, { ':path': '/grpc.health.v1.Health/Watch' });
        stream.on('close', () => closed++);
        stream.end(Buffer.alloc(5));
      }
    }
    await waitUntil(() => closed >= 2_000, { what: 'old ones to be broken off' });
    await expectServed(east);
  });

  test('opens more calls on one connection than may be open at once: the others are refused', async () => {
    const east = await startEast();
    const session = openSession(east);
    const [settings] = await once(session, 'remoteSettings');
    expect(settings).toMatchObject({ maxConcurrentStreams: MAX_CALLS_OF_CONNECTION });

    // By hand, for Node's own client keeps to it.
    const socket = connectTo(east);
    const literal = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);
    const fields = Object.entries({ ...CALL, ':scheme': 'http', ':authority': 'east' }).sort();
    const block = Buffer.concat(
      fields.flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(String(value))]),
    );
    const headers = Array.from({ length: 3 * MAX_CALLS_OF_CONNECTION }, (_, index) => {
      return Buffer.concat([Buffer.from([0, 0, block.length, 1, 4, 0, 0, 0, 0]), block]).fill(
        Buffer.from([0, 0, (2 * index + 1) >> 8, (2 * index + 1) & 255]),
        5,
        9,
      );
    });
    let received = Buffer.alloc(0);
    socket.on('data', (part: Buffer) => {
      received = Buffer.concat([received, part]);
    });
    socket.write(Buffer.concat([PREFACE, NO_SETTINGS, ...headers]));
    const refused = () => resetCodes(received).length;
    await waitUntil(() => refused() >= 2 * MAX_CALLS_OF_CONNECTION, { what: 'the others to be refused' });
    expect(new Set(resetCodes(received))).toEqual(new Set([constants.NGHTTP2_REFUSED_STREAM]));
    expect(refused()).toBe(2 * MAX_CALLS_OF_CONNECTION);
    await expectServed(east);
  });

  test('resets 5,000 calls as fast as it can', async () => {
    const east = await startEast();
    for (let round = 0; round < 10; round++) {
      const session = openSession(east);
      await once(session, 'connect');
      const ended = Array.from({ length: 500 }, () => {
        const stream = openStream(session);
        stream.write(grpcFrame(requestHeaders({})));
        stream.close(constants.NGHTTP2_CANCEL);
        return closeOf(stream);
      });
      await Promise.all(ended);
      await expectServed(east);
    }
  });

  test('begins messages of 1 MB and does not end them: calls that hold most are reset, and not one that holds little', async () => {
    const east = await startEast();
    const session = openSession(east);
    await once(session, 'connect');
    const statuses: string[] = [];
    const open = () => {
      const stream = openStream(session);
      const note = (headers: Readonly<Record<string, unknown>>) => {
        if (headers['grpc-status'] !== undefined) statuses.push(String(headers['grpc-status']));
      };
      stream.on('response', note);
      stream.on('trailers', note);
      return stream;
    };
    const message = grpcFrame(requestHeaders({}));
    const small = open();
    small.write(message.subarray(0, 10));
    const beginning = Buffer.alloc(5 + 1024 * 1024 - 1);
    beginning.writeUInt32BE(1024 * 1024, 1);
    const streams = Array.from({ length: 80 }, () => {
      const stream = open();
      stream.write(beginning);
      return stream;
    });
    await waitUntil(() => statuses.length > 0, { what: 'one to be reset', timeoutMs: 20_000 });
    expect(new Set(statuses)).toEqual(new Set([String(status.RESOURCE_EXHAUSTED)]));
    small.write(message.subarray(10));
    await waitUntil(() => statuses.includes(String(status.OK)), { what: 'the small one to be decided' });
    for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL);
    await expectServed(east);
  });

  test('opens 1,100 connections and keeps them busy with pings: that of an Envoy is not ended for them', async () => {
    const east = await startEast();
    const session = openSession(east);
    const call = openStream(session);
    call.write(grpcFrame(requestHeaders({})));
    await once(call, 'response');
    let isClosed = false;
    session.on('close', () => {
      isClosed = true;
    });
    const ping = Buffer.concat([Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0]), Buffer.alloc(8)]);
    const busy = Buffer.concat([PREFACE, NO_SETTINGS, ...Array.from({ length: 200 }, () => ping)]);
    for (let opened = 0; opened < 1_100; opened++) {
      const socket = connectTo(east);
      socket.write(busy);
      await once(socket, 'data');
    }
    await new Promise((resolve) => session.ping(resolve));
    expect(isClosed).toBe(false);
    expectSaidRarely(east, /limit of open connections reached/);
    await expectServed(east);
  });

  test.each([
    ['a call', {}],
    ['a call with compressed messages', { 'grpc-encoding': 'gzip' }],
    ['a health check', { ':path': '/grpc.health.v1.Health/Check' }],
    ['a method that there is not', { ':path': `/${EXT_PROC}/Other` }],
  ])('begins 500 messages of 4 MB, each of %s, and does not end them: the memory is bounded', async (_, headers) => {
    const configFile = await writeSiteFile(await eastFile(await startAdmin(), {}));
    const { listen } = await loadConfig(configFile);
    const { pid } = await startServe(configFile);
    const envoy = new ExtProcClient(listen);
    onTestFinished(() => envoy.close());
    expect((await envoy.decide({})).decision).toBe('local');
    const before = await residentMb(pid);
    const beginning = Buffer.alloc(5 + 4 * 1024 * 1024 - 1);
    // Compressed, where that is said.
    beginning[0] = 'grpc-encoding' in headers ? 1 : 0;
    beginning.writeUInt32BE(4 * 1024 * 1024, 1);
    const session = connectHttp2(`http://${formatAddress(listen)}`);
    session.on('error', () => {});
    onTestFinished(() => session.destroy());
    await once(session, 'connect');
    for (let count = 0; count < 500; count++) openStream(session, headers).write(beginning);
    let most = 0;
    for (let round = 0; round < 40; round++) {
      expect((await envoy.decide({})).decision).toBe('local');
      most = Math.max(most, await residentMb(pid));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(most - before).toBeLessThan(250);
  });

  test('sends 10,000 headers with its call', async () => {
    const east = await startEast();
    const session = openSession(east);
    const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`x-${index}`, 'y']));
    await closeOf(openStream(session, many));
    await expectServed(east);
  });

  test('asks for methods and services that there are not', async () => {
    const east = await startEast();
    const session = openSession(east);
    for (const path of ['/', '', '/x', `/${EXT_PROC}/`, `/${EXT_PROC}/Process/`, '/../Process', '*']) {
      const stream = openStream(session, { ':path': path });
      stream.end();
      await closeOf(stream);
    }
    await expectServed(east);
  });
});

test('a request with 10,000 headers is decided by its own', async () => {
  const { client: envoy } = await startEast();
  const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`x-${index}`, 'y']));
  expect((await envoy.decide({ ...many, cookie: `${WEST_COOKIE}=1` })).decision).toBe('forward');
});

test('a message nested 10,000 deep is no trouble', async () => {
  const { client: envoy } = await startEast();
  let nested = Buffer.alloc(0);
  for (let depth = 0; depth < 10_000; depth++) {
    const length: number[] = [];
    let rest = nested.length;
    for (; rest > 127; rest = Math.floor(rest / 128)) length.push((rest % 128) + 128);
    nested = Buffer.concat([Buffer.from([0x12, ...length, rest]), nested]);
  }
  const call = envoy.open();
  call.send(nested);
  call.end();
  await call.ended;
  expect((await envoy.decide({})).decision).toBe('local');
});

describe('one connection more than there may be', () => {
  test.each([
    ['the one that has said least', 'an Envoy with much to say', ''],
    ['one that never asked for a decision', 'asked', 'who says much, but never asks'],
  ])('ends %s', async (_, first, second) => {
    let crowded = 0;
    const connections = new Connections(3, () => crowded++);
    const server = createServer((socket) => {
      connections.add(socket);
      socket.on('error', () => {});
      socket.on('data', (text) => {
        if (text.toString() === 'asked') connections.preferToKeep(socket);
      });
      socket.pipe(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const { port }: Partial<AddressInfo> = Object(server.address());
    const open = async (text: string) => {
      const socket = connect(port ?? 0, '127.0.0.1');
      onTestFinished(() => void socket.destroy());
      await once(socket, 'connect');
      if (text !== '') {
        socket.write(text);
        await once(socket, 'data');
      }
      return socket;
    };
    await open(first);
    const other = await open(second);
    await waitUntil(async () => (await count(server)) === 2, { what: 'both to be accepted' });
    await open(second === '' ? 'another Envoy' : 'asked');
    const closed = once(other.resume(), 'close');
    await open('a third Envoy');
    await closed;
    expect(crowded).toBe(1);
    connections.endAll();
  });
});

/** Of each RST_STREAM frame among these bytes. */
function resetCodes(bytes: Buffer): number[] {
  const codes: number[] = [];
  for (let at = 0; at + 9 + 4 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === 3) codes.push(bytes.readUInt32BE(at + 9));
  }
  return codes;
}

async function residentMb(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
}

async function count(server: ReturnType<typeof createServer>): Promise<number> {
  return await new Promise((resolve, reject) =>
    server.getConnections((error, connections) => (error === null ? resolve(connections) : reject(error))),
  );
}
