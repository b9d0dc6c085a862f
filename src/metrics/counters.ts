import { REASONS, type Reason } from '../decision/decide.ts';
import { DurationHistogram } from './duration-histogram.ts';

/** How often one decision was made of sessions of one owner. The hot path adds to `count` itself. */
export interface DecisionCounter {
  readonly reason: Reason;
  /** A site's name, or that of nobody: see `ownerName`. */
  readonly owner: string;
  count: number;
  /** Of these the requests that carried more than one site's cookie. */
  bothCookies: number;
}

/**
 * How a stream ended. `complete`: every phase that Envoy was to send was answered. `reset`: Envoy reset it or closed
 * it before that, as when the client went away. `malformed`: what came was not Envoy's.
 */
export const STREAM_ENDS = ['complete', 'reset', 'malformed'] as const;
export type StreamEnd = (typeof STREAM_ENDS)[number];

export type PollResult = 'ok' | 'error';

/** `rejected`: the file had errors, and the old config stays in force. */
export type ReloadResult = 'ok' | 'rejected';

/** From microseconds, which is what a decision takes, to what it takes where the machine is overloaded. */
const DECISION_BOUNDS_SECONDS = [
  0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1,
];

const POLL_BOUNDS_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

/** What is counted of one application. */
export class ApplicationCounters {
  /** Requests with this site's cookie more than once. */
  duplicateCookies = 0;
  /** Requests of this site's own sessions that got another server than theirs; null as long as Envoy has not said. */
  serverGone: number | null = null;
  readonly #decisions = new Map<string, Record<Reason, DecisionCounter>>();

  /** Begins to count each decision of sessions of this owner, unless that is so already. */
  addOwner(owner: string): Record<Reason, DecisionCounter> {
    let ofOwner = this.#decisions.get(owner);
    if (ofOwner === undefined) {
      ofOwner = forEachReason((reason) => ({ reason, owner, count: 0, bothCookies: 0 }));
      this.#decisions.set(owner, ofOwner);
    }
    return ofOwner;
  }

  decision(reason: Reason, owner: string): DecisionCounter {
    return this.addOwner(owner)[reason];
  }

  decisions(): readonly DecisionCounter[] {
    return [...this.#decisions.values()].flatMap((ofOwner) => REASONS.map((reason) => ofOwner[reason]));
  }

  /** By owner. */
  get owners(): ReadonlyMap<string, Readonly<Record<Reason, DecisionCounter>>> {
    return this.#decisions;
  }

  /** How many requests of this owner's sessions were decided. */
  requestsOf(owner: string): number {
    const ofOwner = this.#decisions.get(owner);
    if (ofOwner === undefined) return 0;
    return REASONS.reduce((sum, reason) => sum + (reason === 'status' ? 0 : ofOwner[reason].count), 0);
  }

  /** How often each decision was made, for all owners together. */
  totals(): Record<Reason, number> {
    const owners = [...this.#decisions.values()];
    return forEachReason((reason) => owners.reduce((sum, ofOwner) => sum + ofOwner[reason].count, 0));
  }
}

/**
 * What the sidecar counts, as plain numbers that are read when somebody asks. They go on through a reload of the
 * config: a site or an application that is no longer configured keeps its numbers until the process ends.
 */
export class Counters {
  readonly streams: Record<StreamEnd, number> = { complete: 0, reset: 0, malformed: 0 };
  readonly polls: Record<PollResult, number> = { ok: 0, error: 0 };
  readonly reloads: Record<ReloadResult, number> = { ok: 0, rejected: 0 };
  /** What became of the last one; at first the config that this started with. */
  lastReload: ReloadResult = 'ok';
  /** Requests whose host belongs to no application. */
  otherHosts = 0;
  /** From the opening of a stream to its decision handed over to gRPC. */
  readonly decisionTime = new DurationHistogram(DECISION_BOUNDS_SECONDS);
  /** From asking Envoy's admin interface to its answer, or to giving up. */
  readonly pollTime = new DurationHistogram(POLL_BOUNDS_SECONDS);
  readonly #applications = new Map<string, ApplicationCounters>();

  /** By name; made when it is first asked for. */
  ofApplication(name: string): ApplicationCounters {
    let counters = this.#applications.get(name);
    if (counters === undefined) {
      counters = new ApplicationCounters();
      this.#applications.set(name, counters);
    }
    return counters;
  }

  get applications(): ReadonlyMap<string, ApplicationCounters> {
    return this.#applications;
  }

  /** How often each decision was made, for all applications together. */
  decisionTotals(): Record<Reason, number> {
    const totals = [...this.#applications.values()].map((application) => application.totals());
    return forEachReason((reason) => totals.reduce((sum, total) => sum + total[reason], 0));
  }

  /** Of all applications together. */
  duplicateCookies(): number {
    return [...this.#applications.values()].reduce((sum, { duplicateCookies }) => sum + duplicateCookies, 0);
  }

  countPoll(result: PollResult, ms: number): void {
    this.polls[result]++;
    this.pollTime.add(ms);
  }

  countReload(result: ReloadResult): void {
    this.reloads[result]++;
    this.lastReload = result;
  }
}

/** An object with an entry for each reason. */
export function forEachReason<T>(make: (reason: Reason) => T): Record<Reason, T> {
  return {
    local: make('local'),
    forward: make('forward'),
    failover: make('failover'),
    adopt: make('adopt'),
    refuse: make('refuse'),
    unknown: make('unknown'),
    status: make('status'),
  };
}
