import { once } from 'node:events';
import { type ClientHttp2Stream, connect, type IncomingHttpHeaders } from 'node:http2';
import { Client, credentials, status } from '@grpc/grpc-js';
import { describe, expect, onTestFinished, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { formatAddress } from '../../src/config/address.ts';
import { type East, startEast } from '../support/east.ts';
import { EXT_PROC, grpcFrame, requestHeaders, responseHeaders } from './ext-proc-client.ts';
import { WEST_COOKIE } from './site.ts';

interface RawCall {
  readonly stream: ClientHttp2Stream;
  /** The status, and how many bytes of replies there were. */
  readonly ended: Promise<{ readonly grpcStatus: string | undefined; readonly replyBytes: number }>;
}

/** A call whose HTTP/2 frames the test writes itself. */
function openCall({ config }: East, headers: Readonly<Record<string, string>> = {}): RawCall {
  const session = connect(`http://${formatAddress(config.listen)}`);
  onTestFinished(() => session.destroy());
  const stream = session.request({
    ':method': 'POST',
    ':path': `/${EXT_PROC}/Process`,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  stream.on('error', () => {});
  let grpcStatus: string | undefined;
  let replyBytes = 0;
  const readStatus = (received: IncomingHttpHeaders) => {
    const value = received['grpc-status'];
    if (typeof value === 'string') grpcStatus = value;
  };
  stream.on('response', readStatus);
  stream.on('trailers', readStatus);
  stream.on('data', (chunk: Buffer) => {
    replyBytes += chunk.length;
  });
  const ended = once(stream, 'close').then(() => ({ grpcStatus, replyBytes }));
  return { stream, ended };
}

const local = grpcFrame(requestHeaders({}));
const adopted = grpcFrame(requestHeaders({ 'x-site-hop': 'west', cookie: `${WEST_COOKIE}=1` }));
const OK = String(status.OK);

describe('a call is answered however its messages are cut into HTTP/2 frames:', () => {
  test('a frame for each byte', async () => {
    const call = openCall(await startEast());
    for (const byte of local) {
      call.stream.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    call.stream.end();
    expect(await call.ended).toEqual({ grpcStatus: OK, replyBytes: expect.any(Number) });
    expect((await call.ended).replyBytes).toBeGreaterThan(5);
  });

  test('two messages in one frame', async () => {
    const call = openCall(await startEast());
    call.stream.end(Buffer.concat([adopted, grpcFrame(responseHeaders({ ':status': '200' }))]));
    const both = await call.ended;
    const one = openCall(await startEast());
    one.stream.end(adopted);
    expect(both.grpcStatus).toBe(OK);
    expect(both.replyBytes).toBeGreaterThan((await one.ended).replyBytes);
  });

  test('a message and a half, and then the rest', async () => {
    const call = openCall(await startEast());
    const response = grpcFrame(responseHeaders({ ':status': '200' }));
    call.stream.write(Buffer.concat([adopted, response.subarray(0, 7)]));
    await once(call.stream, 'data');
    call.stream.end(response.subarray(7));
    expect((await call.ended).grpcStatus).toBe(OK);
  });
});

describe('a call that is not as gRPC has it ends with a status, and its stream is closed:', () => {
  const withPrefix = (compressed: number, length: number) => {
    const prefix = Buffer.alloc(5);
    prefix[0] = compressed;
    prefix.writeUInt32BE(length, 1);
    return prefix;
  };

  test('a compressed message though no compression was agreed on', async () => {
    const call = openCall(await startEast());
    call.stream.write(Buffer.concat([withPrefix(1, 3), Buffer.from('abc')]));
    expect(await call.ended).toEqual({ grpcStatus: String(status.INTERNAL), replyBytes: 0 });
  });

  test('a length of 4 GB, at its prefix', async () => {
    const call = openCall(await startEast());
    call.stream.write(withPrefix(0, 0xffffffff));
    expect(await call.ended).toEqual({ grpcStatus: String(status.RESOURCE_EXHAUSTED), replyBytes: 0 });
  });

  test('another content type is refused by its HTTP status', async () => {
    const call = openCall(await startEast(), { 'content-type': 'text/plain' });
    const [headers] = await once(call.stream, 'response');
    expect(headers[':status']).toBe(415);
  });
});

test('a call with compressed messages is left to grpc-js, and decided the same', async () => {
  const { config } = await startEast();
  const client = new Client(formatAddress(config.listen), credentials.createInsecure(), {
    // gzip
    'grpc.default_compression_algorithm': 2,
  });
  onTestFinished(() => client.close());
  const asIs = (bytes: Buffer) => bytes;
  const call = client.makeBidiStreamRequest(`/${EXT_PROC}/Process`, asIs, asIs);
  call.on('error', () => {});
  const replies: Buffer[] = [];
  call.on('data', (reply: Buffer) => replies.push(reply));
  call.write(local.subarray(5));
  const [end] = await once(call, 'status');
  expect(end.code).toBe(status.OK);
  expect(replies.map((reply) => reply.toString('latin1'))).toEqual([expect.stringContaining('local_pool')]);
});

test('a client that does not read its replies is not heard further, and others are', async () => {
  const east = await startEast();
  const slow = openCall(east);
  slow.stream.write(adopted);
  await once(slow.stream, 'data');
  slow.stream.pause();
  const body = grpcFrame({ request_body: {} });
  let sent = 0;
  const bodies = Buffer.concat(Array.from({ length: 1_000 }, () => body));
  // As long as the other side takes them; a reply is as large as what it answers.
  while (slow.stream.write(bodies) || sent < 100) {
    sent++;
    await new Promise((resolve) => setImmediate(resolve));
    if (sent >= 1_000) break;
  }
  expect(slow.stream.writableLength).toBeGreaterThan(0);
  const other = openCall(east);
  other.stream.end(local);
  expect((await other.ended).grpcStatus).toBe(OK);
  slow.stream.resume();
  slow.stream.end();
  await waitUntil(() => slow.stream.writableLength === 0, { what: 'the rest to be taken' });
});
