import { setTimeout as sleep } from 'node:timers/promises';
import type { Address } from '../config/address.ts';
import { createAdminClient } from '../envoy-admin/admin-client.ts';
import { AdminError } from '../envoy-admin/connection.ts';

/** Values by key; a key without one is in no layer of Envoy's runtime. */
export type RuntimeValues = ReadonlyMap<string, string>;

/** Something that this sidecar shares with the others of its Envoy. All of it is told the same values, as they were last read. */
export interface RuntimePart {
  /** Those that it reads and writes. */
  keys(): readonly string[];
  /** @returns what to write now. Called again and again: what has been written must not be returned once more */
  plan(values: RuntimeValues, nowMs: number): RuntimeValues;
  /** Envoy has these now, as this part wanted. */
  written?(values: RuntimeValues): void;
  /** Envoy has all of these, and there is nothing to write. */
  settled(values: RuntimeValues): void;
  /**
   * Envoy does not let its runtime be read or written.
   * @param why what it answered
   * @returns whether to try again at once, for what it has may be wrong
   */
  refused(why: string): boolean;
}

export interface EnvoyRuntimeOptions {
  readonly admin: Address;
  /** Envoy's runtime is read as often as its health: Envoy may have restarted, or another sidecar have changed something. */
  readonly pollIntervalMs: number;
  readonly parts: readonly RuntimePart[];
}

/** Envoy's administration is one thread; a change of health must not wait long for it. */
const TIMEOUT_MS = 1_000;

/** Health may be polled as seldom as once a day. */
const MAX_READ_INTERVAL_MS = 250;

/** Who asked for a change does not wait longer for an Envoy that hangs, and a sidecar that stops even less. */
const MAX_WAIT_MS = 1_000;
const MAX_CLOSE_MS = 500;

/** What Envoy refuses it will refuse again until its config is another one. */
const REFUSED_PAUSE_MS = 5_000;

/**
 * Envoy's runtime, where the sidecars of one Envoy keep what they share: it outlives each of them, and Envoy's routes go by it
 * without any.
 */
export class EnvoyRuntime {
  readonly #client;
  readonly #readEveryMs: number;
  readonly #parts: readonly RuntimePart[];
  /** As last read and written; null where that is to be asked. */
  #known: Map<string, string> | null = null;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  #updating: Promise<void> | null = null;
  #isUpdateDue = false;

  constructor({ admin, pollIntervalMs, parts }: EnvoyRuntimeOptions) {
    this.#client = createAdminClient(admin, TIMEOUT_MS);
    // Less, or a poll that comes a little early would not read, and the next one late.
    this.#readEveryMs = Math.min(pollIntervalMs, MAX_READ_INTERVAL_MS) * 0.8;
    this.#parts = parts;
  }

  /** Reads Envoy's runtime where that is due, and writes what is to change. Never throws; what fails is tried again with the next call. */
  async update(): Promise<void> {
    // A change that comes while Envoy is asked must not wait for the next poll.
    this.#isUpdateDue = true;
    this.#updating ??= (async () => {
      while (this.#isUpdateDue) {
        this.#isUpdateDue = false;
        await this.#updateOnce();
      }
      this.#updating = null;
    })();
    await this.#updating;
  }

  /** Another config is in force: there may be keys that have not been read. */
  async reread(): Promise<void> {
    this.#known = null;
    await this.update();
  }

  /** As {@link update}, which goes on where Envoy lets it wait. */
  async updateSoon(maxWaitMs = MAX_WAIT_MS): Promise<void> {
    await Promise.race([this.update(), sleep(maxWaitMs, undefined, { ref: false })]);
  }

  /** Writes what is to be written last, unless Envoy lets it wait. */
  async close(): Promise<void> {
    await this.updateSoon(MAX_CLOSE_MS);
    this.#client.close();
  }

  async #updateOnce(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs < this.#pausedUntilMs) return;
    try {
      // A known change is made at once; only what is not known has to be asked for.
      const hasWritten = this.#known !== null && (await this.#write(this.#known));
      if (this.#known === null || (!hasWritten && nowMs - this.#readAtMs >= this.#readEveryMs)) {
        this.#known = new Map(await this.#client.readRuntime(this.#parts.flatMap((part) => part.keys())));
        this.#readAtMs = nowMs;
        await this.#write(this.#known);
      }
      for (const part of this.#parts) part.settled(this.#known);
    } catch (error) {
      this.#known = null;
      // Where Envoy does not answer at all the health watcher says so, for it asks the same interface.
      if (!(error instanceof AdminError) || error.code !== 'ADMIN_BAD_ANSWER') return;
      const isUrgent = this.#parts.map((part) => part.refused(error.message)).includes(true);
      if (!isUrgent) this.#pausedUntilMs = performance.now() + REFUSED_PAUSE_MS;
    }
  }

  /** @returns whether there was anything to write */
  async #write(known: Map<string, string>): Promise<boolean> {
    const nowMs = performance.now();
    const planned = this.#parts.map((part) => part.plan(known, nowMs));
    const all = new Map(planned.flatMap((values) => [...values]));
    if (all.size === 0) return false;
    await this.#client.writeRuntime(all);
    for (const [key, value] of all) known.set(key, value);
    for (const [index, part] of this.#parts.entries()) part.written?.(planned[index] ?? new Map());
    return true;
  }
}
