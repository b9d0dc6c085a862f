import type { Logger } from 'pino';

export const CHANGE_LEVELS = ['info', 'warn', 'error'] as const;
export type ChangeLevel = (typeof CHANGE_LEVELS)[number];

/** Something that became otherwise at this site: a pool's state, draining, whether health is known. */
export interface Change {
  /** In milliseconds since 1970. */
  readonly atMs: number;
  readonly level: ChangeLevel;
  /** The application it is about; null where it is about all of them. */
  readonly application: string | null;
  readonly message: string;
}

const MAX_KEPT = 50;

/** Of each application, however much others change since: about one for each of its pools, and why a server is down. */
const MAX_KEPT_OF_APPLICATION = 4;

/** The log gets the whole message; this one is held in memory, for status and the page. */
const MAX_CHARACTERS_KEPT = 500;

/** What a log line has beside its message. */
export interface ChangeFields {
  readonly application?: string;
  readonly [field: string]: unknown;
}

/** Each change of the site goes through here: into the log, and into the list of last changes. */
export class ChangeLog {
  readonly #logger: Logger;
  #last: readonly Change[] = [];
  readonly #listeners = new Set<() => void>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** The newest first. */
  get last(): readonly Change[] {
    return this.#last;
  }

  info(message: string, fields: ChangeFields = {}): void {
    this.#note('info', message, fields);
  }

  warn(message: string, fields: ChangeFields = {}): void {
    this.#note('warn', message, fields);
  }

  error(message: string, fields: ChangeFields = {}): void {
    this.#note('error', message, fields);
  }

  /** Calls the listener after each change that is noted from now on. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  #note(level: ChangeLevel, message: string, fields: ChangeFields): void {
    this.#logger[level](fields, message);
    const kept = message.length > MAX_CHARACTERS_KEPT ? `${message.slice(0, MAX_CHARACTERS_KEPT - 1)}…` : message;
    const application = fields.application ?? null;
    this.#last = [{ atMs: Date.now(), level, application, message: kept }, ...this.#last].filter(mayStay());
    for (const listener of this.#listeners) listener();
  }
}

/** Of the changes, the newest first, tells which are kept. */
function mayStay(): (change: Change, index: number) => boolean {
  const counts = new Map<string | null, number>();
  return ({ application }, index) => {
    const newer = counts.get(application) ?? 0;
    counts.set(application, newer + 1);
    return index < MAX_KEPT || (application !== null && newer < MAX_KEPT_OF_APPLICATION);
  };
}
