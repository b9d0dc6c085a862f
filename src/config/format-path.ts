import { shorten } from './config-error.ts';

/** Of a key, a value or a name. */
const MAX_QUOTED_LENGTH = 60;

/** A key as it stands in the file, with those that it stands under: `remote_pools[0].cookie.name`. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((key, index) => (typeof key === 'number' ? `[${key}]` : `${index > 0 ? '.' : ''}${formatKey(String(key))}`))
    .join('');
}

function formatKey(key: string): string {
  return key.length <= MAX_QUOTED_LENGTH && /^[\w<-]+$/.test(key) ? key : quote(key);
}

/** In quotation marks, and cut where it is too long to help. */
export function quote(text: string): string {
  // Cut before it is quoted, for it may be as long as the file.
  const quoted = JSON.stringify(text.slice(0, MAX_QUOTED_LENGTH));
  return quoted.length > MAX_QUOTED_LENGTH ? `${shorten(quoted, MAX_QUOTED_LENGTH - 2)}"` : quoted;
}
