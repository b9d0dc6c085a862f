import { DEFAULT_APPLICATION } from '../config/config.ts';
import { siteKey } from '../contract.ts';
import type { ChangeLog } from '../log/changes.ts';
import type { RuntimePart, RuntimeValues } from './envoy-runtime.ts';

const ON = '100';
const OFF = '0';

/**
 * `unused`: `envoy.fast_path` is false. `on`: requests that need no decision stay in Envoy. `off`: those that this site serves
 * ask the sidecar, for its local pool is down or moves its sessions away. `refused`: every request asks, since Envoy does not
 * let the keys be set.
 */
export const FAST_PATH_STATES = ['unused', 'on', 'off', 'refused'] as const;
export type FastPathState = (typeof FAST_PATH_STATES)[number];

/** The sites of one application, this one first. */
export interface ApplicationSites {
  readonly name: string;
  readonly sites: readonly string[];
}

export interface SiteKeysOptions {
  readonly isEnabled: boolean;
  readonly applications: readonly ApplicationSites[];
  /** Whether the site at this place is up for decisions of this application; null where that is not known. */
  readonly isUp: (application: string, site: number, siteName: string) => boolean | null;
  /** See `health.hold_up`. */
  readonly holdUpMs: number;
  readonly changes: ChangeLog;
}

interface Key {
  readonly application: string;
  readonly site: number;
  readonly siteName: string;
  readonly name: string;
  /** By this sidecar. */
  lastWritten: string | null;
  /** Since when it is off by another sidecar's doing while this one wants it on; null while that is not so. */
  heldSinceMs: number | null;
  /** For so long another sidecar's "off" stands against this one's "on". */
  patienceMs: number;
  wasRead: boolean;
  setAtMs: number;
  /** Its application is gone; forgotten as soon as Envoy has it off. */
  isLeaving: boolean;
}

const MIN_PATIENCE_MS = 2_000;
const MAX_PATIENCE_MS = 60_000;

/** When so many come or go together, as after a start, one line says it. */
const MAX_SAID_EACH = 3;

/**
 * A key for each application and site, on while the site is up: what Envoy's steady routes go by. Each sidecar of an Envoy writes them,
 * and where two disagree off wins, for then the sidecars are asked:
 * - off at once, by any that sees the site down;
 * - on at once where nobody has switched it off since Envoy's start but oneself, and otherwise only after a time that doubles
 *   with each time that another switches it off again;
 * - a sidecar that does not know health writes nothing.
 * Where the steady routes are not used it takes away what an earlier process may have left.
 */
export class SiteKeys implements RuntimePart {
  readonly #options: SiteKeysOptions;
  readonly #states = new Map<string, FastPathState>();
  #keys: Key[];
  #isClosing = false;
  #isPaused = false;
  #isRefused = false;
  #mayBeOn = false;

  constructor(options: SiteKeysOptions) {
    this.#options = options;
    this.#keys = options.applications.flatMap((application) => this.#keysOf(application));
  }

  state(application: string): FastPathState {
    if (!this.#options.isEnabled) return 'unused';
    if (!this.#keys.some((key) => key.application === application && !key.isLeaving)) return 'unused';
    return this.#isRefused ? 'refused' : (this.#states.get(application) ?? 'off');
  }

  /** From the next update on for these applications: the keys of what is gone are taken away, the others' stay as they are. */
  follow(applications: readonly ApplicationSites[]): void {
    const wanted = applications.flatMap((application) => this.#keysOf(application));
    const byName = new Map(this.#keys.map((key) => [key.name, key]));
    const names = new Set(wanted.map(({ name }) => name));
    const leaving = this.#keys.filter(({ name }) => !names.has(name)).map((key) => ({ ...key, isLeaving: true }));
    // Another place in the config is another site to ask for.
    this.#keys = [...wanted.map((key) => ({ ...(byName.get(key.name) ?? key), site: key.site })), ...leaving];
    for (const key of this.#keys) if (names.has(key.name)) key.isLeaving = false;
  }

  /** While it is so, whatever this site serves is asked for. */
  pause(isPaused: boolean): void {
    this.#isPaused = isPaused;
  }

  /** Nothing is to be decided by them any more, for nobody watches over them. */
  stop(): void {
    this.#isClosing = true;
  }

  keys(): readonly string[] {
    return this.#keys.map(({ name }) => name);
  }

  plan(values: RuntimeValues, nowMs: number): RuntimeValues {
    const toWrite = new Map<string, string>();
    for (const key of this.#keys) {
      const value = this.#valueFor(key, values.get(key.name), nowMs);
      if (value !== null) toWrite.set(key.name, value);
      key.wasRead = true;
    }
    this.#mayBeOn = this.#keys.some(({ name }) => (values.get(name) ?? OFF) !== OFF);
    return toWrite;
  }

  written(values: RuntimeValues): void {
    const nowMs = performance.now();
    for (const key of this.#keys) {
      const value = values.get(key.name);
      if (value === undefined) continue;
      if (value === ON && key.heldSinceMs !== null) {
        key.patienceMs = Math.min(Math.max(key.patienceMs * 2, MIN_PATIENCE_MS), MAX_PATIENCE_MS);
      }
      key.heldSinceMs = null;
      key.lastWritten = value;
      if (value === ON) key.setAtMs = nowMs;
    }
  }

  refused(why: string): boolean {
    if (!this.#options.isEnabled || this.#isClosing || this.#isRefused) return this.#mayBeOn;
    this.#isRefused = true;
    this.#options.changes.warn(
      `the fast path is off: Envoy does not let its runtime key ${this.#keys[0]?.name ?? ''} be set: ${why}. ` +
        'It takes an admin_layer in layered_runtime, as "site-persistence envoy" prints it',
    );
    return this.#mayBeOn;
  }

  #keysOf({ name: application, sites }: ApplicationSites): Key[] {
    return sites.map((siteName, site) => ({
      ...{ application, site, siteName, name: siteKey(application, siteName), lastWritten: null, heldSinceMs: null },
      // What an earlier sidecar has left off may be held back still.
      ...{ patienceMs: this.#options.holdUpMs, wasRead: false, setAtMs: Number.NEGATIVE_INFINITY, isLeaving: false },
    }));
  }

  /** What to write; null: nothing. */
  #valueFor(key: Key, value: string | undefined, nowMs: number): string | null {
    const { isEnabled, isUp } = this.#options;
    const isPaused = this.#isPaused && key.site === 0;
    const isUsed = isEnabled && !this.#isClosing && !key.isLeaving && !isPaused;
    const isWanted = isUsed ? isUp(key.application, key.site, key.siteName) : false;
    if (isWanted === null) return null;
    if (!isWanted) {
      key.heldSinceMs = null;
      return value === undefined || value === OFF ? null : OFF;
    }
    if (value === ON) {
      key.heldSinceMs = null;
      if (nowMs - key.setAtMs > MAX_PATIENCE_MS) key.patienceMs = MIN_PATIENCE_MS;
      return null;
    }
    const isHeldByAnother = value === OFF && key.lastWritten !== OFF;
    if (!isHeldByAnother) return ON;
    if (key.wasRead) key.patienceMs = Math.max(key.patienceMs, MIN_PATIENCE_MS);
    key.heldSinceMs ??= nowMs;
    return nowMs - key.heldSinceMs >= key.patienceMs ? ON : null;
  }

  /** Says which applications' fast path came or went, and forgets what is gone. */
  settled(values: RuntimeValues): void {
    this.#keys = this.#keys.filter(({ isLeaving, name }) => !isLeaving || (values.get(name) ?? OFF) !== OFF);
    if (!this.#options.isEnabled || this.#isClosing || this.#isPaused) return;
    this.#isRefused = false;
    const local = this.#keys.filter(({ site, isLeaving }) => site === 0 && !isLeaving);
    for (const next of ['on', 'off'] as const) {
      const entered = local.filter(({ name, application }) => {
        const is = values.get(name) === ON ? 'on' : 'off';
        return is === next && (this.#states.get(application) ?? 'off') !== next;
      });
      for (const { application } of entered) this.#states.set(application, next);
      if (entered.length > MAX_SAID_EACH) this.#say(next, ` of ${entered.length} applications`);
      else for (const { application } of entered) this.#say(next, this.#subject(application), application);
    }
  }

  #subject(application: string): string {
    const isOnly = this.#keys.every((key) => key.application === DEFAULT_APPLICATION);
    return isOnly ? '' : ` of application ${application}`;
  }

  #say(state: 'on' | 'off', of: string, application?: string): void {
    this.#options.changes.info(
      state === 'on'
        ? `the fast path${of} is on: requests that need no decision do not leave Envoy`
        : `the fast path${of} is off: requests for this site ask the sidecar`,
      application === undefined ? {} : { application },
    );
  }
}
