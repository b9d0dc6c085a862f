import { parseDurationMs } from '../config/duration.ts';
import { NO_END } from '../contract.ts';
import type { RuntimeValues } from './envoy-runtime.ts';

// What an operator orders for some time, whatever the order is: a drain, a hold.

/** What a timer can hold. */
const MAX_ORDER_MS = 24 * 24 * 3_600_000;

/** How long an order is to last, from text such as `30m`. @throws Error whose message says what to write instead */
export function parseOrderMs(text: string): number {
  const ms = parseDurationMs(text);
  if (ms < 1 || ms > MAX_ORDER_MS) throw new Error('it must be more than 0 and at most 24d');
  return ms;
}

/** It stands in a URL, in log lines and on the page. */
const MAX_REASON_LENGTH = 200;

/** A reason that somebody gave. @throws Error whose message says what is allowed */
export function checkReason(text: string): string {
  if (text.length > MAX_REASON_LENGTH || /\p{Cc}/u.test(text)) {
    throw new Error(`it must be one line of at most ${MAX_REASON_LENGTH} characters`);
  }
  return text.trim();
}

/** One application's. Times are in milliseconds since 1970. */
export interface Order {
  readonly sinceMs: number;
  /** Null: until it is ended. */
  readonly untilMs: number | null;
  /** Empty: none was given. */
  readonly reason: string;
}

/** One order to a text for its end, such as `until undrain`. @param command that ends it */
export function describeEnd({ untilMs }: Pick<Order, 'untilMs'>, command: string): string {
  return `until ${untilMs === null ? command : new Date(untilMs).toISOString()}`;
}

/** Where orders of one kind stand in Envoy's runtime, and what is said of them. */
export interface OrderKind<O extends Order> {
  /** The end in seconds since 1970, {@link NO_END} without one; `0` once it has ended. */
  readonly endKey: (application: string) => string;
  /** When it began, in seconds since 1970; when it was last changed, in milliseconds; and its reason; with a space between. */
  readonly noteKey: (application: string) => string;
  /** What else Envoy is to know of it; null: once it has ended. */
  readonly more: (application: string, order: O | null) => RuntimeValues;
  /** Makes one of what Envoy's runtime has. */
  readonly read: (order: Order, application: string, values: RuntimeValues) => O;
  /** Says that one began or was changed. @param isAlone whether Envoy does not take it, so that the other sidecars know nothing of it */
  readonly begun: (application: string, order: O, isAlone: boolean) => void;
  readonly ended: (application: string, why: string) => void;
  /** Says that this sidecar stops meanwhile. @param isShared whether Envoy knows of the order */
  readonly left: (application: string, isShared: boolean) => void;
}

/** An application's order as of its last change. */
interface Changed<O> {
  /** Null: it has ended. */
  readonly order: O | null;
  /** In milliseconds since 1970; 0 where Envoy's runtime does not say. */
  readonly changedMs: number;
}

interface Known<O> extends Changed<O> {
  readonly timer: NodeJS.Timeout | undefined;
}

interface OrderOfAll<O> {
  /** When it was given. */
  readonly nowMs: number;
  readonly untilMs: number | null;
  readonly make: (sinceMs: number) => O;
}

/**
 * The orders of one kind, one an application. They stand in Envoy's runtime, for all sidecars of that Envoy: each reads what the
 * others have begun or ended, and each sets again what Envoy has lost. Envoy keeps what comes last, which may be an older order
 * that a sidecar was about to set again; so each says when it was changed, and the last change is in force. Where Envoy does not
 * take it, an order is this sidecar's alone and ends with it.
 */
export class Orders<O extends Order> {
  readonly #kind: OrderKind<O>;
  readonly #onChange: () => void;
  /** By application, also what has ended. */
  readonly #known = new Map<string, Known<O>>();
  /** It holds for every application, also one that a reload adds; null: there is none such. */
  #ofAll: (OrderOfAll<O> & { readonly begunFor: Set<string> }) | null = null;
  /** Whether Envoy has it; null: that is not known yet. */
  #isShared: boolean | null = null;

  /** @param onChange called when one has begun or ended */
  constructor(kind: OrderKind<O>, onChange: () => void) {
    this.#kind = kind;
    this.#onChange = onChange;
  }

  /** That of an application; null while there is none. */
  of(application: string): O | null {
    return this.#known.get(application)?.order ?? null;
  }

  /**
   * In force from now on; a second call changes the order.
   * @param applications by name
   * @param order with `isOfAll`: also of what a reload adds
   */
  start(applications: readonly string[], order: OrderOfAll<O> & { readonly isOfAll: boolean }): void {
    if (order.isOfAll) this.#ofAll = { ...order, begunFor: new Set(applications) };
    for (const application of applications) this.#begin(application, order);
    this.#onChange();
  }

  /** Other applications are in the config: what is gone has no order, and one of all is one of what came. */
  follow(applications: readonly string[]): void {
    const gone = [...this.#known.keys()].filter((application) => !applications.includes(application));
    this.#end(gone, 'it is no longer in the config');
    const ofAll = this.#ofAll;
    if (ofAll === null || isOver(ofAll, Date.now())) return;
    for (const application of applications) {
      // What was said to be over does not come back.
      if (ofAll.begunFor.has(application)) continue;
      ofAll.begunFor.add(application);
      if (this.of(application) === null) this.#begin(application, ofAll);
    }
  }

  /** Ends those of these applications, null: all; nothing happens where there is none. */
  end(applications: readonly string[] | null, why: string): void {
    this.#ofAll = null;
    this.#end(applications ?? [...this.#known.keys()], why);
    this.#onChange();
  }

  #timeIsOver(application: string): void {
    this.#end([application], 'its time is over');
    this.#onChange();
  }

  close(): void {
    for (const [application, { order, timer }] of this.#known) {
      clearTimeout(timer);
      if (order !== null) this.#kind.left(application, this.#isShared === true);
    }
  }

  /** The applications of the config, and those no longer in it of whose end Envoy does not know yet. */
  names(applications: readonly string[]): ReadonlySet<string> {
    return new Set([...applications, ...this.#known.keys()]);
  }

  /** @param applications of the config */
  keys(applications: readonly string[]): string[] {
    const { endKey, noteKey, more } = this.#kind;
    return [...this.names(applications)].flatMap((name) => [endKey(name), ...more(name, null).keys(), noteKey(name)]);
  }

  /** @returns what to write now. @param applications of the config */
  plan(applications: readonly string[], values: RuntimeValues): Map<string, string> {
    const toWrite = new Map<string, string>();
    for (const application of this.names(applications)) {
      const told = this.#read(values, application);
      const known = this.#known.get(application);
      if (known !== undefined && this.#isLost(known, told)) this.#write(application, known, toWrite);
      else if (!applications.includes(application)) this.#known.delete(application);
      else if (told !== null) this.#adopt(application, told, toWrite);
    }
    return toWrite;
  }

  settled(): void {
    this.#isShared = true;
  }

  refused(): void {
    this.#isShared = false;
  }

  /** Whether Envoy has an older order, or has restarted and has none. */
  #isLost({ order, changedMs }: Changed<O>, told: Changed<O> | null): boolean {
    return told === null ? order !== null : told.changedMs < changedMs;
  }

  #write(application: string, { order, changedMs }: Changed<O>, toWrite: Map<string, string>): void {
    const { endKey, noteKey, more } = this.#kind;
    const sinceMs = order?.sinceMs ?? changedMs;
    toWrite.set(endKey(application), order === null ? '0' : String(endSeconds(order)));
    for (const [key, value] of more(application, order)) toWrite.set(key, value);
    toWrite.set(noteKey(application), `${Math.floor(sinceMs / 1_000)} ${changedMs} ${order?.reason ?? ''}`);
  }

  /** What another sidecar has changed is changed here. */
  #adopt(application: string, told: Changed<O>, toWrite: Map<string, string>): void {
    const before = this.of(application);
    if (told.order !== null && isOver(told.order, Date.now())) {
      const ended = { order: null, changedMs: Math.max(this.#nextChangeMs(application), told.changedMs + 1) };
      this.#know(application, ended);
      this.#write(application, ended, toWrite);
      if (before !== null) this.#kind.ended(application, 'its time is over');
      return;
    }
    const isSame = this.#isSame(application, before, told.order);
    if (isSame && this.#known.get(application)?.changedMs === told.changedMs) return;
    this.#know(application, told);
    if (isSame) return;
    if (told.order !== null) this.#kind.begun(application, told.order, this.#isShared === false);
    else this.#kind.ended(application, 'another sidecar ended it');
  }

  #begin(application: string, { nowMs, make }: OrderOfAll<O>): void {
    const order = make(this.of(application)?.sinceMs ?? nowMs);
    this.#know(application, { order, changedMs: this.#nextChangeMs(application) });
    this.#kind.begun(application, order, this.#isShared === false);
  }

  #end(applications: readonly string[], why: string): void {
    for (const application of applications) {
      if (this.of(application) === null) continue;
      this.#know(application, { order: null, changedMs: this.#nextChangeMs(application) });
      this.#kind.ended(application, why);
    }
  }

  /** Later than the last change, also where the clock has been set back. */
  #nextChangeMs(application: string): number {
    return Math.max(Date.now(), (this.#known.get(application)?.changedMs ?? 0) + 1);
  }

  #know(application: string, { order, changedMs }: Changed<O>): void {
    clearTimeout(this.#known.get(application)?.timer);
    const leftMs = order === null || order.untilMs === null ? null : Math.max(0, order.untilMs - Date.now());
    const timer =
      leftMs === null || leftMs > MAX_ORDER_MS ? undefined : setTimeout(() => this.#timeIsOver(application), leftMs);
    timer?.unref();
    this.#known.set(application, { order, changedMs, timer });
  }

  /** What Envoy's runtime has; null: nothing of the application. */
  #read(values: RuntimeValues, application: string): Changed<O> | null {
    const { endKey, noteKey, read } = this.#kind;
    const end = values.get(endKey(application));
    if (end === undefined) return null;
    const note = /^(\d{1,12})(?: (\d{13,15}))?(?: (.*))?$/s.exec(values.get(noteKey(application)) ?? '') ?? [];
    const [, since, changed = '0', reason = ''] = note;
    const changedMs = Number(changed);
    if (!isSet(end)) return { order: null, changedMs };
    const order = {
      sinceMs: since === undefined ? Date.now() : Number(since) * 1_000,
      untilMs: Number(end) >= NO_END ? null : Number(end) * 1_000,
      reason: reason.replace(/\p{Cc}/gu, ' ').slice(0, MAX_REASON_LENGTH),
    };
    return { order: read(order, application, values), changedMs };
  }

  #isSame(application: string, running: O | null, told: O | null): boolean {
    if (running === null || told === null) return running === told;
    const { more } = this.#kind;
    const toldMore = more(application, told);
    return (
      endSeconds(running) === endSeconds(told) &&
      running.reason === told.reason &&
      [...more(application, running)].every(([key, value]) => toldMore.get(key) === value)
    );
  }
}

/** As {@link OrderKind.endKey} has it. */
export function endSeconds({ untilMs }: Pick<Order, 'untilMs'>): number {
  return untilMs === null ? NO_END : Math.ceil(untilMs / 1_000);
}

function isOver({ untilMs }: Pick<Order, 'untilMs'>, nowMs: number): boolean {
  return untilMs !== null && untilMs <= nowMs;
}

export function isSet(value: string | undefined): boolean {
  return Number(value ?? 0) > 0;
}
