import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { request as requestOverTls } from 'node:https';
import type { ConnectionOptions } from 'node:tls';
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

/** Asks a server by HTTP/1.1. @returns the status. @throws Error where none comes */
export async function askByHttp1(target: TcpAddress, question: Question, signal: AbortSignal): Promise<number> {
  const { method, path, headers } = question;
  const tls = await tlsOptionsOf(question);
  return await within(question.timeoutMs, (resolve, reject) => {
    const { host, port } = target;
    const what = { host, port, method, path, headers, agent: false, signal } as const;
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
  return await within(timeoutMs, (resolve, reject) => {
    const session = openSession(target, tls, reject);
    const call = session.request(
      { ':method': method, ':path': path, ':authority': host ?? '', ...headers },
      { signal },
    );
    call.on('response', (answer) => resolve(answer[':status'] ?? 0));
    call.on('error', reject);
    call.on('close', () => reject(new NoAnswer('the stream was closed without an answer')));
    return () => session.destroy();
  });
}

/** Whether a server speaks HTTP/2. @throws Error where nothing tells */
export async function speaksHttp2(target: TcpAddress, question: Question, signal: AbortSignal): Promise<true> {
  const tls = await tlsOptionsOf(question);
  return await within(question.timeoutMs, (resolve, reject) => {
    const session = openSession(target, tls, reject);
    session.on('remoteSettings', () => resolve(true));
    session.on('close', () => reject(new NoAnswer('connection closed without an answer')));
    const onAbort = () => session.destroy();
    signal.addEventListener('abort', onAbort, { once: true });
    return () => {
      signal.removeEventListener('abort', onAbort);
      session.destroy();
    };
  });
}

function openSession({ host, port }: TcpAddress, tls: ConnectionOptions | null, onError: (error: Error) => void) {
  const name = host.includes(':') ? `[${host}]` : host;
  const session: ClientHttp2Session = connectHttp2(`${tls === null ? 'http' : 'https'}://${name}:${port}`, tls ?? {});
  session.on('error', onError);
  return session;
}

/** @param begin returns what ends it */
async function within<T>(
  timeoutMs: number,
  begin: (resolve: (value: T) => void, reject: (error: Error) => void) => () => void,
): Promise<T> {
  let end = () => {};
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<T>((resolve, reject) => {
      timer = setTimeout(() => reject(new NoAnswer(`no answer within ${timeoutMs} ms`)), timeoutMs);
      end = begin(resolve, reject);
    });
  } finally {
    clearTimeout(timer);
    end();
  }
}

async function tlsOptionsOf({ tls }: Question): Promise<ConnectionOptions | null> {
  return tls === null ? null : await tlsOptions(tls);
}

async function tlsOptions({ sni, caFile, certFile, keyFile }: TlsConfig): Promise<ConnectionOptions> {
  const read = async (file: string) => {
    try {
      return await readFile(file);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new NoAnswer(`not asked again: the sidecar cannot read ${file}: ${why}`);
    }
  };
  return {
    servername: sni,
    ca: await read(caFile ?? SYSTEM_CA_FILE),
    ...(certFile === null || keyFile === null ? {} : { cert: await read(certFile), key: await read(keyFile) }),
  };
}
