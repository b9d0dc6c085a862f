import { type Agent, type IncomingMessage, request } from 'node:http';
import { request as requestOverTls } from 'node:https';
import type { ConnectionOptions } from 'node:tls';
import type { Address } from '../config/address.ts';
import { formatBytes } from '../config/format-bytes.ts';

/** Enough for most questions. */
const DEFAULT_MAX_BYTES = 1024 * 1024;

export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  /** Path and query. */
  readonly path: string;
  readonly timeoutMs: number;
  /**
   * What the answer's body may have at most, by what the question can need: whatever answers, reading it holds up
   * everything else in this process. 1 MiB by default.
   */
  readonly maxBytes?: number;
  readonly agent?: Agent;
  /** For HTTPS. */
  readonly tls?: ConnectionOptions;
  readonly signal?: AbortSignal;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

/** No complete answer: the connection failed (`cause` has the reason), or it took too long. */
export class HttpRequestError extends Error {
  readonly code: 'HTTP_UNREACHABLE' | 'HTTP_TIMEOUT' | 'HTTP_TOO_LONG';

  constructor(code: HttpRequestError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'HttpRequestError';
    this.code = code;
  }
}

/** One request to an address of this project's own config, over TCP or a Unix socket. @throws HttpRequestError */
export function httpRequest(address: Address, options: HttpRequest): Promise<HttpAnswer> {
  const { method, path, timeoutMs, maxBytes = DEFAULT_MAX_BYTES, agent, tls, signal } = options;
  const target = address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port };
  return new Promise((resolve, reject) => {
    const fail = (code: HttpRequestError['code'], message: string, cause?: Error) => {
      clearTimeout(timer);
      reject(new HttpRequestError(code, message, { cause }));
      call.destroy();
    };
    const timer = setTimeout(() => fail('HTTP_TIMEOUT', `no answer within ${timeoutMs} ms`), timeoutMs);
    const failAsTooLong = () => fail('HTTP_TOO_LONG', `an answer of more than ${formatBytes(maxBytes)}`);
    const onResponse = (response: IncomingMessage) => {
      if (Number(response.headers['content-length']) > maxBytes) return failAsTooLong();
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > maxBytes) failAsTooLong();
        else parts.push(part);
      });
      response.on('error', (error) => fail('HTTP_UNREACHABLE', error.message, error));
      response.on('end', () => {
        clearTimeout(timer);
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString() });
      });
    };
    const what = {
      ...target,
      method,
      path,
      ...(agent === undefined ? {} : { agent }),
      ...(signal === undefined ? {} : { signal }),
    };
    const call = tls === undefined ? request(what, onResponse) : requestOverTls({ ...what, ...tls }, onResponse);
    call.on('error', (error) => fail('HTTP_UNREACHABLE', reasonOf(error), error));
    call.end();
  });
}

/** Node gives an error without a message where a host name has several addresses and none answers. */
function reasonOf(error: Error): string {
  return error.message !== '' ? error.message : 'code' in error ? String(error.code) : error.name;
}
