import { parseDurationMs } from '../config/duration.ts';
import type { ChangeLog } from '../log/changes.ts';

/** What a timer can hold. */
const MAX_DRAIN_MS = 24 * 24 * 3_600_000;

/** How long to drain, from text such as `30m`. @throws Error whose message says what to write instead */
export function parseDrainMs(text: string): number {
  const ms = parseDurationMs(text);
  if (ms < 1 || ms > MAX_DRAIN_MS) throw new Error('it must be more than 0 and at most 24d');
  return ms;
}

/**
 * Whether the site drains: the status URI tells the world to go elsewhere, while the other sites still send the
 * sessions that live here. Held in memory only, so a restart ends it; both the stop and the start say so.
 */
export class Drain {
  readonly #site: () => string;
  readonly #changes: ChangeLog;
  #isDraining = false;
  #sinceMs = 0;
  #untilMs: number | null = null;
  #timer: NodeJS.Timeout | undefined;
  readonly #onChange: () => void;

  /**
   * @param site its name, which a reload may change
   * @param onChange called when a drain has begun or ended
   */
  constructor(site: () => string, changes: ChangeLog, onChange: () => void = () => {}) {
    this.#site = site;
    this.#changes = changes;
    this.#onChange = onChange;
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** When it began and when it ends by itself, in milliseconds since 1970; null while it does not drain. */
  get times(): { readonly sinceMs: number; readonly untilMs: number | null } | null {
    return this.#isDraining ? { sinceMs: this.#sinceMs, untilMs: this.#untilMs } : null;
  }

  /** Drains from now on; a second call only changes the end. @param forMs null: until {@link end}; see {@link parseDrainMs} */
  start(forMs: number | null): void {
    clearTimeout(this.#timer);
    const nowMs = Date.now();
    if (!this.#isDraining) this.#sinceMs = nowMs;
    this.#isDraining = true;
    this.#untilMs = forMs === null ? null : nowMs + forMs;
    if (forMs !== null) {
      this.#timer = setTimeout(() => this.end('its time is over'), forMs);
      this.#timer.unref();
    }
    const until = this.#untilMs === null ? 'until undrain' : `until ${new Date(this.#untilMs).toISOString()}`;
    this.#changes.warn(`site ${this.#site()} is draining, ${until}: its status URI says DOWN to the world`);
    this.#onChange();
  }

  /** Ends the drain; nothing happens where there is none. */
  end(why: string): void {
    clearTimeout(this.#timer);
    if (!this.#isDraining) return;
    this.#isDraining = false;
    this.#untilMs = null;
    this.#changes.info(`site ${this.#site()} is no longer draining: ${why}`);
    this.#onChange();
  }

  close(): void {
    clearTimeout(this.#timer);
    if (this.#isDraining)
      this.#changes.warn(`site ${this.#site()} stops while draining: it does not drain after a restart`);
  }
}
