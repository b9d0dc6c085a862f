import { connect } from 'node:net';

/** A request as it goes over the wire: each string stands for its bytes (latin1), and nothing is checked or added. */
export interface RawRequest {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: readonly (readonly [name: string, value: string])[];
}

export interface RawAnswer {
  /** Of HTTP/2, whose heads are compressed, only 200 is told from the others, which are 0. */
  readonly status: number;
  /** Every response head; HTTP/1.1 only. */
  readonly heads: readonly string[];
  /** Of the first answer; empty where the stream was reset. */
  readonly body: string;
}

export const PROTOCOLS = ['HTTP/1.1', 'HTTP/2'] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** One request on a connection of its own. */
export async function sendRaw(protocol: Protocol, url: string, request: RawRequest): Promise<RawAnswer> {
  return protocol === 'HTTP/2' ? await sendHttp2(url, request) : await sendBytes(url, http1(request));
}

function http1({ method = 'GET', path = '/', headers = [] }: RawRequest): string {
  const lines = [['Host', 'app'], ['Connection', 'close'], ...headers].map(([name, value]) => `${name}: ${value}`);
  return `${[`${method} ${path} HTTP/1.1`, ...lines].join('\r\n')}\r\n\r\n`;
}

/** The answer to these bytes. */
export async function sendBytes(url: string, bytes: string): Promise<RawAnswer> {
  return readHttp1(await exchange(url, Buffer.from(bytes, 'latin1'), (received) => readHttp1(received).isWhole));
}

/** All answers to these bytes, until the other side closes the connection or says nothing more. */
export async function sendBytesToTheEnd(url: string, bytes: string): Promise<RawAnswer> {
  return readHttp1(await exchange(url, Buffer.from(bytes, 'latin1'), () => false));
}

function readHttp1(bytes: Buffer): RawAnswer & { readonly isWhole: boolean } {
  const text = bytes.toString('latin1');
  const heads = text.match(/HTTP\/1\.[01] \d{3} [\s\S]*?\r\n\r\n/g) ?? [];
  const head = heads.find((one) => !one.startsWith('HTTP/1.1 100 '));
  if (head === undefined) return { status: 0, heads, body: '', isWhole: false };
  const status = Number(head.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length));
  const rest = text.slice(text.indexOf(head) + head.length);
  const isChunked = /\r\ntransfer-encoding: chunked\r\n/i.test(head);
  const length = Number(/\r\ncontent-length: (\d+)\r\n/i.exec(head)?.[1] ?? Number.POSITIVE_INFINITY);
  return {
    status,
    heads,
    body: isChunked ? joinChunks(rest) : rest.slice(0, length),
    isWhole: isChunked ? rest.endsWith('\r\n0\r\n\r\n') : rest.length >= length,
  };
}

function joinChunks(text: string): string {
  const lineEnd = text.indexOf('\r\n');
  const length = Number.parseInt(text, 16);
  if (lineEnd === -1 || !(length > 0)) return '';
  const start = lineEnd + 2;
  return text.slice(start, start + length) + joinChunks(text.slice(start + length + 2));
}

/** Nothing takes so long to be answered here: who has said nothing for so long waits for more. */
const SILENCE_MS = 3_000;

/** What comes back until the connection ends, in whatever way, or is enough. */
async function exchange(url: string, bytes: Buffer, isEnough: (received: Buffer) => boolean): Promise<Buffer> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.setTimeout(SILENCE_MS, () => socket.destroy());
  // Reset by a peer that did not want to read it all.
  socket.on('error', () => socket.destroy());
  let received = Buffer.alloc(0);
  socket.on('data', (part: Buffer) => {
    received = Buffer.concat([received, part]);
    if (isEnough(received)) socket.destroy();
  });
  socket.write(bytes);
  await new Promise((resolve) => socket.once('close', resolve));
  return received;
}

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const FRAME_HEADER_BYTES = 9;
const MAX_FRAME_BYTES = 16_384;
const WINDOW = 0x1000000;

/** Frame types of RFC 9113. */
const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const GOAWAY = 7;
const WINDOW_UPDATE = 8;
const CONTINUATION = 9;

const END_STREAM = 0x1;
const END_HEADERS = 0x4;
const INITIAL_WINDOW_SIZE = 4;

/** By hand, for Node's own client checks what it sends: any header block, each header literally and in its order. */
async function sendHttp2(url: string, { method = 'GET', path = '/', headers = [] }: RawRequest): Promise<RawAnswer> {
  const pseudo = [
    [':method', method],
    [':scheme', 'http'],
    [':authority', 'app'],
    [':path', path],
  ] as const;
  const block = Buffer.concat([...pseudo, ...headers].map(([name, value]) => literalHeader(name, value)));
  const sent = [
    Buffer.from(PREFACE),
    frame(SETTINGS, 0, 0, Buffer.concat([uint16(INITIAL_WINDOW_SIZE), uint32(WINDOW)])),
    frame(WINDOW_UPDATE, 0, 0, uint32(WINDOW)),
  ];
  for (let at = 0; at < block.length; at += MAX_FRAME_BYTES) {
    const part = block.subarray(at, at + MAX_FRAME_BYTES);
    const isLast = at + MAX_FRAME_BYTES >= block.length;
    const flags = (at === 0 ? END_STREAM : 0) | (isLast ? END_HEADERS : 0);
    sent.push(frame(at === 0 ? HEADERS : CONTINUATION, flags, 1, part));
  }
  return readStream(await exchange(url, Buffer.concat(sent), (received) => readStream(received).isWhole));
}

/** The entry of HPACK's static table for `:status: 200`, with which a head begins that is one. */
const STATUS_200 = 0x88;

/** The answer on the first stream, which is whole when the stream has ended, in whatever way. */
function readStream(bytes: Buffer): RawAnswer & { readonly isWhole: boolean } {
  const parts: Buffer[] = [];
  let status = 0;
  for (let at = 0; at + FRAME_HEADER_BYTES <= bytes.length; ) {
    const end = at + FRAME_HEADER_BYTES + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    const [type, flags, stream] = [bytes[at + 3], bytes[at + 4] ?? 0, bytes.readUInt32BE(at + 5)];
    if (type === GOAWAY || (type === RST_STREAM && stream === 1)) {
      return { status: 0, heads: [], body: '', isWhole: true };
    }
    if (type === HEADERS && bytes[at + FRAME_HEADER_BYTES] === STATUS_200) status = 200;
    if (type === DATA) parts.push(bytes.subarray(at + FRAME_HEADER_BYTES, end));
    if (stream === 1 && (type === DATA || type === HEADERS) && (flags & END_STREAM) !== 0) {
      return { status, heads: [], body: Buffer.concat(parts).toString('latin1'), isWhole: true };
    }
    at = end;
  }
  return { status: 0, heads: [], body: '', isWhole: false };
}

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** HPACK's plainest form (RFC 7541, 6.2.2): a new name, not indexed, not compressed. */
function literalHeader(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), hpackString(name), hpackString(value)]);
}

function hpackString(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>= 7) length.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

function uint16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}

function uint32(value: number): Buffer {
  return Buffer.concat([uint16(value >>> 16), uint16(value & 0xffff)]);
}
