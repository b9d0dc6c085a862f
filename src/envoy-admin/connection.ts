import { Agent } from 'node:http';
import type { Address } from '../config/address.ts';
import { formatBytes } from '../config/format-bytes.ts';
import { type HttpAnswer, HttpRequestError, httpRequest } from './http-request.ts';

/** An answer that could not be had from Envoy's admin interface, or could not be used. */
export class AdminError extends Error {
  readonly code: 'ADMIN_UNREACHABLE' | 'ADMIN_TIMEOUT' | 'ADMIN_BAD_ANSWER';

  constructor(code: AdminError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AdminError';
    this.code = code;
  }
}

/** To one Envoy's admin interface. */
export interface AdminConnection {
  /**
   * One request, of whatever status the answer is.
   * @param maxBytes what the answer can have at most, by what the question can need
   * @throws AdminError
   */
  readonly ask: (method: 'GET' | 'POST', path: string, maxBytes: number) => Promise<HttpAnswer>;
  /** Drops the connection and whatever is being asked. */
  readonly close: () => void;
}

/** Kept open, with one request at a time, for Envoy's administration is one thread. Each request is given up after `timeoutMs`. */
export function openAdminConnection(admin: Address, timeoutMs: number): AdminConnection {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const closing = new AbortController();
  return {
    async ask(method, path, maxBytes) {
      try {
        return await httpRequest(admin, { method, path, timeoutMs, maxBytes, agent, signal: closing.signal });
      } catch (error) {
        if (!(error instanceof HttpRequestError)) throw error;
        if (error.code === 'HTTP_TOO_LONG') {
          const what = `its answer to ${method} ${pathOf(path)} is longer than the limit of ${formatBytes(maxBytes)}`;
          throw new AdminError('ADMIN_BAD_ANSWER', what, { cause: error });
        }
        const code = error.code === 'HTTP_TIMEOUT' ? 'ADMIN_TIMEOUT' : 'ADMIN_UNREACHABLE';
        throw new AdminError(code, error.message, { cause: error });
      }
    },
    close() {
      closing.abort();
      agent.destroy();
    },
  };
}

/** As an operator knows it: without the query. */
export function pathOf(pathAndQuery: string): string {
  return pathAndQuery.replace(/\?.*/s, '');
}
