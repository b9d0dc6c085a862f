import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** No client of today sends requests ahead of the answers; of one that does so many wait for their turn. */
const MAX_WAITING = 8;

/** No route has a body. One that small is read, so that its sender gets the answer and not a reset. */
const MAX_BODY_BYTES = 1_024;

/** What a connection that is to be closed has for its answers. */
const CLOSE_MS = 5_000;

/** Node holds each request that came in one piece with those that were taken, thousands of them: megabytes a connection. */
const MAX_CLOSING = 4;

export type Answer = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

interface Job {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/**
 * Answers one request at a time, over all connections, and between two of them lets everything else in the process have
 * its turn: whatever comes here, a decision waits for one answer at most. The next request of a connection waits until
 * its client has taken the answer before. A connection that sends too many ahead, or a body, gets the answers to what was
 * taken and is closed; what else it sends is not read. Where too many are being closed it is reset at once.
 */
export class RequestQueue {
  readonly #answer: Answer;
  readonly #due: Job[] = [];
  /** Of each connection with an unfinished answer those that wait for it. */
  readonly #waiting = new WeakMap<Socket, Job[]>();
  /** Those of which no further request is taken. */
  readonly #closing = new Set<Socket>();
  #isRunning = false;

  /** @param answer never throws */
  constructor(answer: Answer) {
    this.#answer = answer;
  }

  add(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    // What came in one piece with the last request that was taken.
    if (socket.destroyed || this.#closing.has(socket)) return;
    const job = { request, response };
    const last = this.#waiting.get(socket)?.[MAX_WAITING - 1];
    if (last !== undefined) {
      this.#closeAfter(last);
      stopReading(socket);
    } else if (hasBody(request.headers)) {
      this.#closeAfter(job);
      readSmallBody(request, () => {
        stopReading(socket);
        this.#take(job);
      });
    } else {
      request.resume();
      this.#take(job);
    }
  }

  #closeAfter({ request: { socket }, response }: Job): void {
    if (this.#closing.size >= MAX_CLOSING) {
      socket.destroy();
      return;
    }
    this.#closing.add(socket);
    response.setHeader('connection', 'close');
    const deadline = setTimeout(() => socket.destroy(), CLOSE_MS);
    socket.once('close', () => {
      clearTimeout(deadline);
      this.#closing.delete(socket);
    });
  }

  #take(job: Job): void {
    const { socket } = job.request;
    const waiting = this.#waiting.get(socket);
    if (waiting !== undefined) waiting.push(job);
    else {
      this.#waiting.set(socket, []);
      this.#begin(job);
    }
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

export function hasBody(headers: IncomingHttpHeaders): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/** @param onRead called once: with all of it there, or too much */
function readSmallBody(request: IncomingMessage, onRead: () => void): void {
  let leftBytes = MAX_BODY_BYTES;
  const count = (part: Buffer) => {
    leftBytes -= part.length;
    if (leftBytes < 0) end();
  };
  const end = () => {
    // What else is there of it flows on and is lost.
    request.off('data', count).off('end', end);
    onRead();
  };
  request.on('data', count).on('end', end);
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) end();
}

/** For good: Node resumes reading by itself, after each request for one. */
function stopReading(socket: Socket): void {
  socket.on('resume', () => socket.pause());
  socket.pause();
}
