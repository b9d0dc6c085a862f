import { Agent, type IncomingHttpHeaders, request } from 'node:http';
import type { AppAnswer } from '../../lab/app-server.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly durationMs: number;
}

export interface RequestOptions {
  readonly method?: string;
  readonly body?: Buffer | string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly timeoutMs?: number;
  /** Where the request comes from; only for the first to a host, whose connection is kept. */
  readonly localAddress?: string;
}

/** A browser, as far as it matters here: one connection kept open for each host, and a cookie jar shared by all. */
export class Client {
  readonly cookies = new Map<string, string>();
  readonly #agent = new Agent({ keepAlive: true });

  /** @throws Error when no complete answer comes */
  async request(url: string, options: RequestOptions = {}): Promise<Answer> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const startedAt = performance.now();
    return await new Promise((resolve, reject) => {
      const call = request(
        url,
        {
          agent: this.#agent,
          method: options.method ?? 'GET',
          ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
          // As much as an edge lets through; Node's own limit is 16 kB.
          maxHeaderSize: 256 * 1024,
          timeout: options.timeoutMs ?? 10_000,
          headers: { ...(cookie === '' ? {} : { cookie }), ...options.headers },
        },
        (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.on('error', reject);
          response.on('end', () => {
            this.#keepCookies(response.headers['set-cookie'] ?? []);
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: Buffer.concat(parts).toString(),
              durationMs: performance.now() - startedAt,
            });
          });
        },
      );
      call.on('timeout', () => call.destroy(new Error('no answer in time')));
      call.on('error', reject);
      call.end(options.body);
    });
  }

  /** A request that the application answers with what it saw. */
  async ask(url: string, options: RequestOptions = {}): Promise<AppAnswer> {
    const answer = await this.request(url, options);
    if (answer.status !== 200) throw new Error(`${url} answered ${answer.status}: ${answer.body}`);
    return JSON.parse(answer.body) as AppAnswer;
  }

  close(): void {
    this.#agent.destroy();
  }

  #keepCookies(lines: readonly string[]): void {
    for (const line of lines) {
      const [pair = '', ...attributes] = line.split(';');
      const at = pair.indexOf('=');
      const name = pair.slice(0, at).trim();
      const isExpired = attributes.some((attribute) => attribute.trim().toLowerCase() === 'max-age=0');
      if (isExpired) this.cookies.delete(name);
      else this.cookies.set(name, pair.slice(at + 1));
    }
  }
}

/** `east/app-1` */
export function serverOf(answer: AppAnswer): string {
  return `${answer.site}/${answer.server}`;
}
