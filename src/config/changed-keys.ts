import { isDeepStrictEqual } from 'node:util';
import type { Config } from './config.ts';

/**
 * What differs between two configs, as the keys that the file has: `health.hold_up`, `remote_pools[0].min_up`. A list
 * that became longer or shorter is named as a whole.
 */
export function changedKeys(before: Config, after: Config): readonly string[] {
  return differences(before, after, '');
}

function differences(before: unknown, after: unknown, key: string): string[] {
  if (isDeepStrictEqual(before, after)) return [];
  if (isMapping(before) && isMapping(after)) {
    return Object.keys(after).flatMap((name) => {
      const path = key === '' ? keyInFile(name) : `${key}.${keyInFile(name)}`;
      return differences(before[name], after[name], path);
    });
  }
  if (isListOfMappings(before) && isListOfMappings(after) && before.length === after.length) {
    return after.flatMap((item, index) => differences(before[index], item, `${key}[${index}]`));
  }
  return [key];
}

/** A mapping in the file; an address is an object only here. */
function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !('kind' in value);
}

function isListOfMappings(value: unknown): value is readonly unknown[] {
  return Array.isArray(value) && value.every(isMapping);
}

/** The file's keys are those of {@link Config} in lower case, and durations carry their unit in the value. */
function keyInFile(name: string): string {
  return name.replace(/Ms$/, '').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
