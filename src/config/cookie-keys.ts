/** The keys of an opaque cookie, from the file that the config file names. */
export interface CookieKeys {
  /** In a comparison of configs it is one value, as an address is. */
  readonly kind: 'cookie_keys';
  /** As the config file has it and, once it is read, from where the command runs. */
  readonly file: string;
  /** As it was read. */
  readonly text: string;
  /** The first makes new values, the second is accepted as well; none before the file is read. */
  readonly keys: readonly string[];
}

/** Those that are not read yet. */
export function unreadCookieKeys(file: string): CookieKeys {
  return { kind: 'cookie_keys', file, text: '', keys: [] };
}

/** One makes new values; the other is for those that clients still have. */
const MAX_KEYS = 2;

/** 16 bytes at random, in base64. */
const MIN_KEY_BYTES = 22;

const HOW_TO_MAKE = 'make one with "openssl rand -hex 32"';

/** A mistake in a key file, without a word of the key. */
export interface KeyFileProblem {
  readonly line: number;
  readonly message: string;
}

/** Reads a key file: one key a line. */
export function parseCookieKeys(text: string): {
  readonly keys: readonly string[];
  readonly problems: KeyFileProblem[];
} {
  const lines = text
    .split('\n')
    .map((line, index) => ({ line: index + 1, key: line.trim() }))
    .filter(({ key }) => key !== '');
  const problems: KeyFileProblem[] = [];
  if (lines.length === 0) problems.push({ line: 1, message: `there is no key: ${HOW_TO_MAKE}` });
  for (const [index, { line, key }] of lines.entries()) {
    const same = lines.slice(0, index).find((other) => other.key === key);
    if (index >= MAX_KEYS) {
      problems.push({ line, message: `is a key too many: at most ${MAX_KEYS}, the new one first` });
      break;
    }
    const bytes = Buffer.byteLength(key);
    if (bytes < MIN_KEY_BYTES) {
      problems.push({
        line,
        message: `is too short: a key has at least ${MIN_KEY_BYTES} bytes, and this has ${bytes}: ${HOW_TO_MAKE}`,
      });
    } else if (same !== undefined) {
      problems.push({ line, message: `is the same key as line ${same.line}: leave it out, or ${HOW_TO_MAKE}` });
    }
  }
  return { keys: lines.map(({ key }) => key), problems };
}
