import { setTimeout as sleep } from 'node:timers/promises';
import type { AppAnswer } from '../../lab/app-server.ts';
import { Client, type RequestOptions, serverOf } from './client.ts';

export interface LoadOptions {
  readonly clients?: number;
  /** Where each client's session begins; round-robin. */
  readonly homes: readonly string[];
  /** Where each client sends its requests, in turn; looked at for each request, so that one may be taken out meanwhile. */
  readonly edges: readonly string[];
  readonly pauseMs?: number;
  readonly request?: RequestOptions;
  /** Each request comes from a client never seen before. */
  readonly forgetful?: boolean;
  readonly onLoss?: (client: number, reason: string) => void;
  /** A session was answered by another server than before: `site/server`. */
  readonly onMove?: (client: number, from: string, to: string) => void;
}

export interface LoadReport {
  readonly requests: number;
  /** Requests without an answer, or with a 5xx. */
  readonly lost: number;
  /** The most that one client lost. */
  readonly mostLostByOneClient: number;
  /** How long requests were being lost: the time between losses, where one follows another within 100 ms. */
  readonly windowMs: number;
  readonly slowerThan100Ms: number;
  /** As after a time-out, and not on a busy machine. */
  readonly slowerThan900Ms: number;
  /** How long the slowest answer or loss took. */
  readonly longestMs: number;
  /** Sessions whose server at the end is another one than at the start. */
  readonly moved: number;
  /** Sessions that came back to a site they had left. */
  readonly bounced: number;
  /** Sessions that were at another site at any time. */
  readonly leftTheSite: number;
  /** What was lost, for the message of a failed test. */
  readonly losses: readonly string[];
}

interface ClientState {
  readonly client: Client;
  readonly servers: string[];
  lost: number;
}

/** Clients that each keep a session and ask again a few milliseconds after each answer. */
export class Load {
  readonly clients: readonly Client[];
  readonly #options: LoadOptions;
  readonly #states: readonly ClientState[];
  readonly #lossTimes: number[] = [];
  readonly #losses: string[] = [];
  readonly #startedAt = performance.now();
  #requests = 0;
  #slow = 0;
  #verySlow = 0;
  #longestMs = 0;
  #isStopping = false;
  #running: Promise<unknown> = Promise.resolve();

  private constructor(options: LoadOptions, states: readonly ClientState[]) {
    this.#options = options;
    this.#states = states;
    this.clients = states.map((state) => state.client);
  }

  /** Begins the clients' sessions, then their requests. */
  static async start(options: LoadOptions): Promise<Load> {
    const states = await Promise.all(
      Array.from({ length: options.clients ?? 8 }, async (_, index): Promise<ClientState> => {
        const client = new Client();
        const headers = options.request?.headers ?? {};
        const first = await client.ask(options.homes[index % options.homes.length] ?? '', { headers });
        return { client, servers: [serverOf(first)], lost: 0 };
      }),
    );
    const load = new Load(options, states);
    load.#running = Promise.all(states.map((state, index) => load.#loop(state, index)));
    return load;
  }

  get requests(): number {
    return this.#requests;
  }

  get lost(): number {
    return this.#lossTimes.length;
  }

  /** The Cookie header that a client sends now. */
  cookieOfClient(index: number): string {
    return [...(this.clients[index]?.cookies ?? [])].map(([name, value]) => `${name}=${value}`).join('; ');
  }

  /** Resolves after every client has had this many more answers or losses. */
  async during(requests: number): Promise<void> {
    const until = this.#requests + requests;
    while (this.#requests < until) await sleep(10);
  }

  async stop(): Promise<LoadReport> {
    this.#isStopping = true;
    await this.#running;
    for (const { client } of this.#states) client.close();
    return {
      requests: this.#requests,
      lost: this.#lossTimes.length,
      mostLostByOneClient: Math.max(...this.#states.map((state) => state.lost)),
      windowMs: Math.round(timeOfLosing(this.#lossTimes)),
      slowerThan100Ms: this.#slow,
      slowerThan900Ms: this.#verySlow,
      longestMs: Math.round(this.#longestMs),
      moved: this.#states.filter(({ servers }) => servers.length > 1 && servers.at(-1) !== servers[0]).length,
      bounced: this.#states.filter(({ servers }) => hasReturned(servers.map(siteOf))).length,
      leftTheSite: this.#states.filter(({ servers }) => new Set(servers.map(siteOf)).size > 1).length,
      losses: this.#losses,
    };
  }

  async #loop(state: ClientState, index: number): Promise<void> {
    const { edges, request, pauseMs = 4, forgetful = false } = this.#options;
    for (let turn = index; !this.#isStopping; turn++) {
      const startedAt = performance.now();
      if (forgetful) state.client.cookies.clear();
      try {
        const answer = await state.client.request(edges[turn % edges.length] ?? '', request);
        if (answer.status !== 200) throw new Error(`${answer.status} ${answer.body.slice(0, 80)}`);
        const server = serverOf(JSON.parse(answer.body) as AppAnswer);
        const before = state.servers.at(-1);
        if (before !== server) {
          state.servers.push(server);
          if (before !== undefined) this.#options.onMove?.(index, before, server);
        }
      } catch (error) {
        state.lost++;
        this.#lossTimes.push(performance.now());
        const atMs = Math.round(performance.now() - this.#startedAt);
        const reason = error instanceof Error ? error.message : String(error);
        this.#losses.push(`client ${index} after ${atMs} ms: ${reason}`);
        this.#options.onLoss?.(index, reason);
      }
      this.#requests++;
      const tookMs = performance.now() - startedAt;
      if (tookMs > 100) this.#slow++;
      if (tookMs > 900) this.#verySlow++;
      this.#longestMs = Math.max(this.#longestMs, tookMs);
      await sleep(pauseMs);
    }
  }
}

function timeOfLosing(times: readonly number[]): number {
  const gaps = times.map((time, index) => time - (times[index - 1] ?? time));
  return gaps.filter((gap) => gap <= 100).reduce((sum, gap) => sum + gap, 0);
}

function siteOf(server: string): string {
  return server.split('/', 1)[0] ?? server;
}

function hasReturned(places: readonly string[]): boolean {
  const stays = places.filter((place, index) => place !== places[index - 1]);
  return new Set(stays).size < stays.length;
}
