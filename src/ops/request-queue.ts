import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** No client of today sends requests ahead of the answers; of one that does so many wait for their turn. */
const MAX_WAITING = 8;

export type Answer = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

interface Job {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/**
 * Answers one request at a time, over all connections, and between two of them lets everything else in the process have
 * its turn: whatever comes here, a decision waits for one answer at most. The next request of a connection waits until
 * its client has taken the answer before; a connection that sends too many ahead is closed.
 */
export class RequestQueue {
  readonly #answer: Answer;
  readonly #due: Job[] = [];
  /** Of each connection with an unfinished answer those that wait for it. */
  readonly #waiting = new WeakMap<Socket, Job[]>();
  #isRunning = false;

  /** @param answer never throws */
  constructor(answer: Answer) {
    this.#answer = answer;
  }

  add(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    // What came in one piece with the requests that were too many.
    if (socket.destroyed) return;
    const waiting = this.#waiting.get(socket);
    if (waiting === undefined) {
      this.#waiting.set(socket, []);
      this.#begin({ request, response });
    } else if (waiting.length < MAX_WAITING) waiting.push({ request, response });
    else socket.destroy();
  }

  #begin(job: Job): void {
    job.response.once('close', () => this.#beginNext(job.request.socket));
    this.#due.push(job);
    if (!this.#isRunning) void this.#run();
  }

  #beginNext(socket: Socket): void {
    const next = this.#waiting.get(socket)?.shift();
    if (next === undefined) this.#waiting.delete(socket);
    else this.#begin(next);
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let job = this.#due.shift(); job !== undefined; job = this.#due.shift()) {
      if (job.request.socket.destroyed) continue;
      await this.#answer(job.request, job.response);
      await nextTurn();
    }
    this.#isRunning = false;
  }
}
