import { once } from 'node:events';
import { type ClientHttp2Session, connect, createServer, type Http2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { replaceSessionTables } from '../../../src/ext-proc/session-tables.ts';

/** A server whose sessions have their tables replaced, and a client of it. */
async function startPair(): Promise<{ client: ClientHttp2Session; session: Http2Session; isReplaced: boolean }> {
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    if (stream.session?.destroyed === false) stream.respond({ ':status': 200 });
    stream.on('data', () => {});
    stream.on('end', () => stream.end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const replaced = new Promise<[Http2Session, boolean]>((resolve) => {
    server.on('session', (session) => resolve([session, replaceSessionTables(session)]));
  });
  const { port }: Partial<AddressInfo> = Object(server.address());
  const client = connect(`http://127.0.0.1:${port}`);
  client.on('error', () => {});
  onTestFinished(() => {
    client.destroy();
    server.close();
  });
  const [session, isReplaced] = await replaced;
  return { client, session, isReplaced };
}

test('the tables of this Node are known', async () => {
  expect((await startPair()).isReplaced).toBe(true);
});

test('a session that looks otherwise is left alone', () => {
  const state = { streams: new Map([[1, {}]]), pendingStreams: new Set() };
  const session = { [Symbol('state')]: state };
  expect(replaceSessionTables(session)).toBe(false);
  expect(state.streams).toBeInstanceOf(Map);
  expect(replaceSessionTables({})).toBe(false);
});

test('streams come and go, and a session that closes waits for those that are open', async () => {
  const { client, session } = await startPair();
  const open = () => {
    const stream = client.request({ ':method': 'POST' });
    stream.on('error', () => {});
    stream.resume();
    return stream;
  };
  const finish = async (stream: ReturnType<typeof open>) => {
    stream.end();
    await once(stream, 'close');
  };
  for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 20 }, () => finish(open())));
  const last = open();
  await once(last, 'response');
  let isClosed = false;
  session.close(() => {
    isClosed = true;
  });
  // A round trip of the session itself.
  await new Promise((resolve) => client.ping(resolve));
  expect(isClosed).toBe(false);
  const closed = once(session, 'close');
  await finish(last);
  await closed;
});

test('a session that is destroyed ends its open streams', async () => {
  const { client, session } = await startPair();
  const streams = Array.from({ length: 5 }, () => client.request({ ':method': 'POST' }));
  for (const stream of streams) stream.on('error', () => {});
  await Promise.all(streams.map((stream) => once(stream, 'response')));
  const closed = Promise.all(streams.map((stream) => once(stream, 'close')));
  session.destroy();
  await closed;
});
