import type { ServerResponse } from 'node:http';
import { isDeepStrictEqual } from 'node:util';
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

type Decisions = SiteStateReport['decisions'];
type Application = SiteStateReport['applications'][number];
type Sessions = Application['sessions'];
type CountedOf = Pick<Application, 'decisions' | 'sessions'>;
type Counted = Pick<SiteStateReport, 'health_age_ms' | 'decisions' | 'duplicate_cookies' | 'other_hosts'>;

/** What one more second brought. */
export interface TickReport extends RateSample, Counted {
  /** By application: the decisions whose total or rate is another than in the tick before. */
  readonly applications: Readonly<Record<string, Partial<Decisions>>>;
  /** The same of what became of its sessions. */
  readonly sessions: Readonly<Record<string, Partial<Sessions>>>;
}

interface Reader {
  readonly response: ServerResponse;
  /** Since when it takes nothing; null while it does. */
  stuckSinceMs: number | null;
}

/**
 * Server-sent events for the status page. `state` is the site's state, sent at once and whenever it changes; `rates`
 * is the history of decisions a second, sent at once; `tick` is one more second of it, the age of the last poll and what
 * else is counted.
 */
export class EventStreams {
  readonly #options: EventStreamsOptions;
  readonly #readers = new Set<Reader>();
  #lastState = '';
  /** By application, as of the last tick. */
  #last: ReadonlyMap<string, CountedOf> = new Map();
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
    const state = this.#options.state();
    this.#sendState(state);
    const { health_age_ms, decisions, duplicate_cookies, other_hosts } = state;
    const counted: Counted = { health_age_ms, decisions, duplicate_cookies, other_hosts };
    const tick: TickReport = { ...sample, ...counted, ...this.#others(state) };
    this.#send(event('tick', tick));
  }

  #others({ applications }: SiteStateReport): Pick<TickReport, 'applications' | 'sessions'> {
    const before = this.#last;
    this.#last = new Map(applications.map((of) => [of.name, of]));
    const others = <Of extends object>(read: (of: CountedOf) => Of) =>
      Object.fromEntries(
        applications.flatMap((of) => {
          const was = before.get(of.name);
          const other = otherThan(was === undefined ? {} : read(was), read(of));
          return Object.keys(other).length > 0 ? [[of.name, other] as const] : [];
        }),
      );
    return { applications: others(({ decisions }) => decisions), sessions: others(({ sessions }) => sessions) };
  }

  #sendChanges(): void {
    this.#changeTimer = undefined;
    if (this.#readers.size > 0) this.#sendState(this.#options.state());
  }

  /** Where something else than what is counted has changed. */
  #sendState(state: SiteStateReport): void {
    const comparable = JSON.stringify(withoutCounted(state));
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

/** What is otherwise each second, and so in the ticks or counted down by the reader, is left out. */
function withoutCounted({ applications, pools, ...state }: SiteStateReport): object {
  return {
    ...state,
    health_age_ms: null,
    not_ready: state.not_ready !== null,
    decisions: null,
    duplicate_cookies: null,
    other_hosts: null,
    pools: pools.map((pool) => ({ ...pool, hold_up_left_ms: null })),
    applications: applications.map((application) => ({
      ...{ ...application, decisions: null, sessions: null, duplicate_cookies: null, last_own_request: null },
      // Who drains wants to see it.
      ...(application.draining ? {} : { own_requests_last_minute: null }),
    })),
  };
}

const NEVER_YET = { total: 0, per_second: 0 };

function otherThan<Of extends object>(before: Partial<Of>, now: Of): Partial<Of> {
  const others: Partial<Of> = { ...now };
  for (const kind in now)
    if (isDeepStrictEqual(now[kind], kind in before ? before[kind] : NEVER_YET)) delete others[kind];
  return others;
}

function event(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
