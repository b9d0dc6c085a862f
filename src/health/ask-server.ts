import { setMaxListeners } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { request as requestOverTls } from 'node:https';
import { connect } from 'node:net';
import { type ConnectionOptions, connect as connectOverTls, createSecureContext, type SecureContext } from 'node:tls';
import type { TcpAddress } from '../config/address.ts';
import type { TlsConfig } from '../config/config.ts';
import { SYSTEM_CA_FILE } from '../envoy-config/tls.ts';

/** Its message says it all. */
export class NoAnswer extends Error {}

export interface Question {
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
  /** In lower case; `host` among them. */
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  /** Null: clear text. */
  readonly tls: TlsConfig | null;
}

/** Connects as a TCP check does; over TLS the handshake is part of it. @throws Error where that fails */
export async function tryConnection(
  target: TcpAddress,
  question: Pick<Question, 'timeoutMs' | 'tls'>,
  signal: AbortSignal,
): Promise<void> {
  const tls = await tlsOptionsOf(question);
  const limits = { timeoutMs: question.timeoutMs, missing: tls === null ? 'connection' : 'TLS connection', signal };
  await within<void>(limits, (resolve, reject) => {
    const { host, port } = target;
    const socket = tls === null ? connect({ host, port }, resolve) : connectOverTls({ host, port, ...tls }, resolve);
    socket.on('error', reject);
    socket.on('close', () => reject(new NoAnswer('connection closed without an answer')));
    return () => socket.destroy();
  });
}

/** Asks a server by HTTP/1.1. @returns the status. @throws Error where none comes */
export async function askByHttp1(target: TcpAddress, question: Question, signal: AbortSignal): Promise<number> {
  const { method, path, headers, timeoutMs } = question;
  const tls = await tlsOptionsOf(question);
  return await within({ timeoutMs, missing: 'answer', signal }, (resolve, reject) => {
    const { host, port } = target;
    const what = { host, port, method, path, headers, agent: false } as const;
    const onResponse = ({ statusCode = 0 }: IncomingMessage) => resolve(statusCode);
    const call = tls === null ? request(what, onResponse) : requestOverTls({ ...what, ...tls }, onResponse);
    call.on('error', reject);
    call.end();
    return () => call.destroy();
  });
}

/** The same by HTTP/2, in clear text without an upgrade. */
export async function askByHttp2(target: TcpAddress, question: Question, signal: AbortSignal): Promise<number> {
  const { method, path, timeoutMs } = question;
  const { host, ...headers } = question.headers;
  const tls = await tlsOptionsOf(question);
  return await within({ timeoutMs, missing: 'answer', signal }, (resolve, reject) => {
    const session = openSession(target, tls, reject);
    const call = session.request({ ':method': method, ':path': path, ':authority': host ?? '', ...headers });
    call.on('response', (answer) => resolve(answer[':status'] ?? 0));
    call.on('error', reject);
    call.on('close', () => reject(new NoAnswer('the stream was closed without an answer')));
    return () => session.destroy();
  });
}

/** Whether a server speaks HTTP/2. @throws Error where nothing tells */
export async function speaksHttp2(target: TcpAddress, question: Question, signal: AbortSignal): Promise<true> {
  const { timeoutMs } = question;
  const tls = await tlsOptionsOf(question);
  return await within({ timeoutMs, missing: 'answer', signal }, (resolve, reject) => {
    const session = openSession(target, tls, reject);
    session.on('remoteSettings', () => resolve(true));
    session.on('close', () => reject(new NoAnswer('connection closed without an answer')));
    return () => session.destroy();
  });
}

function openSession({ host, port }: TcpAddress, tls: ConnectionOptions | null, onError: (error: Error) => void) {
  const name = host.includes(':') ? `[${host}]` : host;
  const session: ClientHttp2Session = connectHttp2(`${tls === null ? 'http' : 'https'}://${name}:${port}`, tls ?? {});
  session.on('error', onError);
  return session;
}

interface Limits {
  readonly timeoutMs: number;
  /** What did not come when time is up. */
  readonly missing: string;
  readonly signal: AbortSignal;
}

/** A timeout is waited for in so many steps, of which a process that gets no CPU for a while loses one. */
const STEPS_OF_TIMEOUT = 10;

/** @param begin returns what ends it */
async function within<T>(
  { timeoutMs, missing, signal }: Limits,
  begin: (resolve: (value: T) => void, reject: (error: Error) => void) => () => void,
): Promise<T> {
  let end = () => {};
  let onAbort = () => {};
  let timer: NodeJS.Timeout | undefined;
  signal.throwIfAborted();
  // One for each question under way: many are no leak.
  setMaxListeners(0, signal);
  try {
    return await new Promise<T>((resolve, reject) => {
      let steps = 0;
      timer = setInterval(() => {
        steps += 1;
        if (steps < STEPS_OF_TIMEOUT) return;
        clearInterval(timer);
        // Timers come before what sockets have: an answer that is there is read first.
        setImmediate(() => reject(new NoAnswer(`no ${missing} within ${timeoutMs} ms`)));
      }, timeoutMs / STEPS_OF_TIMEOUT);
      onAbort = () => reject(new NoAnswer('not asked to the end'));
      signal.addEventListener('abort', onAbort, { once: true });
      end = begin(resolve, reject);
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
    clearInterval(timer);
    end();
  }
}

async function tlsOptionsOf({ tls }: Pick<Question, 'tls'>): Promise<ConnectionOptions | null> {
  return tls === null ? null : { servername: tls.sni, secureContext: await secureContextOf(tls) };
}

/** Files as they were read, and what was made of them: to read the system's CAs takes 20 ms of CPU. */
interface KnownContext {
  readonly files: readonly Buffer[];
  readonly secureContext: SecureContext;
}

/** By the names of the files, which pools mostly share. With the system's CAs one takes a megabyte and more: a few are kept. */
const knownContexts = new Map<string, KnownContext>();
const MAX_KNOWN_CONTEXTS = 8;

async function secureContextOf(tls: TlsConfig): Promise<SecureContext> {
  const { caFile, certFile, keyFile } = tls;
  const names = [caFile ?? SYSTEM_CA_FILE, ...(certFile === null || keyFile === null ? [] : [certFile, keyFile])];
  const files = await Promise.all(names.map(readTlsFile));
  const key = names.join('\n');
  const known = knownContexts.get(key);
  if (known?.files.every((file, index) => files[index]?.equals(file))) return known.secureContext;
  const [ca, cert, privateKey] = files;
  const secureContext = createSecureContext({ ca, cert, key: privateKey });
  knownContexts.delete(key);
  knownContexts.set(key, { files, secureContext });
  for (const oldest of [...knownContexts.keys()].slice(0, -MAX_KNOWN_CONTEXTS)) knownContexts.delete(oldest);
  return secureContext;
}

async function readTlsFile(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new NoAnswer(`not asked again: the sidecar cannot read ${file}: ${why}`);
  }
}
