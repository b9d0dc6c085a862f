import type { Logger } from 'pino';

export const CHANGE_LEVELS = ['info', 'warn', 'error'] as const;
export type ChangeLevel = (typeof CHANGE_LEVELS)[number];

/** Something that became otherwise at this site: a pool's state, draining, whether health is known. */
export interface Change {
  /** In milliseconds since 1970. */
  readonly atMs: number;
  readonly level: ChangeLevel;
  readonly message: string;
}

const MAX_KEPT = 50;

/** The log gets the whole message; this one is held in memory, for status and the page. */
const MAX_CHARACTERS_KEPT = 500;

/** Each change of the site goes through here: into the log, and into the list of last changes. */
export class ChangeLog {
  readonly #logger: Logger;
  readonly #last: Change[] = [];
  readonly #listeners = new Set<() => void>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** The newest first. */
  get last(): readonly Change[] {
    return this.#last;
  }

  info(message: string, fields: object = {}): void {
    this.#note('info', message, fields);
  }

  warn(message: string, fields: object = {}): void {
    this.#note('warn', message, fields);
  }

  error(message: string, fields: object = {}): void {
    this.#note('error', message, fields);
  }

  /** Calls the listener after each change that is noted from now on. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  #note(level: ChangeLevel, message: string, fields: object): void {
    this.#logger[level](fields, message);
    const kept = message.length > MAX_CHARACTERS_KEPT ? `${message.slice(0, MAX_CHARACTERS_KEPT - 1)}…` : message;
    this.#last.unshift({ atMs: Date.now(), level, message: kept });
    this.#last.length = Math.min(this.#last.length, MAX_KEPT);
    for (const listener of this.#listeners) listener();
  }
}
