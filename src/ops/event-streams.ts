import type { ServerResponse } from 'node:http';
import type { ChangeLog } from '../log/changes.ts';
import type { DecisionRates, RateSample } from './decision-rates.ts';
import type { SiteStateReport } from './state.ts';

/** Enough for every screen in a control room, and a bound for whatever opens streams without reading them. */
export const MAX_EVENT_STREAMS = 32;

/** A reader that took nothing for so long is gone, or as good as. */
const STUCK_MS = 10_000;

/** Changes come in groups, such as of both pools at once. */
const CHANGE_DELAY_MS = 50;

export interface EventStreamsOptions {
  readonly state: () => SiteStateReport;
  readonly rates: DecisionRates;
  readonly changes: ChangeLog;
}

interface Reader {
  readonly response: ServerResponse;
  /** Since when it takes nothing; null while it does. */
  stuckSinceMs: number | null;
}

/**
 * Server-sent events for the status page. `state` is the site's state, sent at once and whenever it changes; `rates`
 * is the history of decisions a second, sent at once; `tick` is one more second of it and the age of the last poll.
 */
export class EventStreams {
  readonly #options: EventStreamsOptions;
  readonly #readers = new Set<Reader>();
  #lastState = '';
  #changeTimer: NodeJS.Timeout | undefined;

  constructor(options: EventStreamsOptions) {
    this.#options = options;
    options.rates.onSample((sample) => this.#tick(sample));
    options.changes.onChange(() => {
      if (this.#readers.size > 0) this.#changeTimer ??= setTimeout(() => this.#sendChanges(), CHANGE_DELAY_MS);
    });
  }

  get isFull(): boolean {
    return this.#readers.size >= MAX_EVENT_STREAMS;
  }

  /** Makes a response a stream of events, until its reader goes or {@link close}. */
  open(response: ServerResponse): void {
    const reader: Reader = { response, stuckSinceMs: null };
    this.#readers.add(reader);
    response.on('close', () => this.#readers.delete(reader));
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(this.#beginning());
  }

  /** Ends every stream at once. */
  close(): void {
    clearTimeout(this.#changeTimer);
    for (const { response } of this.#readers) response.destroy();
    this.#readers.clear();
  }

  #beginning(): string {
    return event('state', this.#options.state()) + event('rates', this.#options.rates.samples);
  }

  #tick(sample: RateSample): void {
    if (this.#readers.size === 0) return;
    this.#sendChanges();
    const { health_age_ms, decisions } = this.#options.state();
    this.#send(event('tick', { ...sample, health_age_ms, decisions }));
  }

  #sendChanges(): void {
    this.#changeTimer = undefined;
    if (this.#readers.size === 0) return;
    const state = this.#options.state();
    // What is otherwise each time is in the ticks.
    const comparable = JSON.stringify({
      ...state,
      health_age_ms: null,
      not_ready: state.not_ready !== null,
      decisions: null,
    });
    if (comparable === this.#lastState) return;
    this.#lastState = comparable;
    this.#send(event('state', state));
  }

  /** What a slow reader has not taken is not added to: it misses events, and gets the whole state when it reads again. */
  #send(text: string): void {
    const nowMs = performance.now();
    for (const reader of this.#readers) {
      const { response } = reader;
      if (response.writableNeedDrain) {
        reader.stuckSinceMs ??= nowMs;
        if (nowMs - reader.stuckSinceMs > STUCK_MS) response.destroy();
      } else if (reader.stuckSinceMs === null) {
        response.write(text);
      } else {
        reader.stuckSinceMs = null;
        response.write(this.#beginning());
      }
    }
  }
}

function event(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
