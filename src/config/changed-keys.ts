import { isDeepStrictEqual } from 'node:util';
import { type Config, isUnlisted } from './config.ts';
import { keyInFile } from './key-names.ts';

/**
 * What differs between two configs, as the keys that the file has: `health.hold_up`, `remote_pools[0].min_up`. A list
 * that became longer or shorter, or has other applications in it, is named as a whole.
 */
export function changedKeys(before: Config, after: Config): readonly string[] {
  const isPlain = isUnlisted(before) && isUnlisted(after);
  return isPlain ? differences(plain(before), plain(after), '') : differences(before, after, '');
}

/** As a file has it that lists no applications. */
function plain({ applications, ...shared }: Config): object {
  return { ...shared, ...applications[0] };
}

function differences(before: unknown, after: unknown, key: string): string[] {
  if (isDeepStrictEqual(before, after)) return [];
  if (isMapping(before) && isMapping(after)) {
    return Object.keys(after).flatMap((name) => {
      const path = key === '' ? keyInFile(name) : `${key}.${keyInFile(name)}`;
      return differences(before[name], after[name], path);
    });
  }
  if (isListOfMappings(before) && isListOfMappings(after) && hasSameEntries(before, after)) {
    return after.flatMap((item, index) => differences(before[index], item, `${key}[${index}]`));
  }
  return [key];
}

/** A mapping in the file; an address is an object only here. */
function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !('kind' in value);
}

function isListOfMappings(value: unknown): value is readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) && value.every(isMapping);
}

/** Of applications by name; another one is no change of that which stood there. */
function hasSameEntries(
  before: readonly Readonly<Record<string, unknown>>[],
  after: readonly Readonly<Record<string, unknown>>[],
): boolean {
  return before.length === after.length && before.every(({ name }, index) => name === after[index]?.name);
}
