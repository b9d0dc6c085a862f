import { NotLua, readLuaScript } from './lua-script.ts';
import { findOriginalSettings, type OriginalSettings } from './original-settings.ts';

export type Imported =
  | { readonly kind: 'original'; readonly settings: OriginalSettings }
  /** A script of other rules. `why` follows the file's name. */
  | { readonly kind: 'other'; readonly why: string }
  /** No script that could be read. `why` follows the file's name. */
  | { readonly kind: 'unreadable'; readonly why: string };

/** Reads a DataScript. */
export function importText(text: string): Imported {
  try {
    const settings = findOriginalSettings(readLuaScript(text));
    return 'lacks' in settings
      ? { kind: 'other', why: `this is not the site-persistence script: it ${settings.lacks}` }
      : { kind: 'original', settings };
  } catch (error) {
    if (error instanceof NotLua) return { kind: 'unreadable', why: `is not a Lua script: ${error.message}` };
    throw error;
  }
}
