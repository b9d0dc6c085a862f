import { ConfigError } from '../config/config-error.ts';
import { formatPath, quote } from '../config/format-path.ts';
import type { Overlay } from '../config/overlay.ts';
import { readYaml } from '../config/yaml.ts';
import { isObject, type Json, type JsonObject } from './json.ts';

/**
 * Merges an overlay into what is rendered: mappings by key, lists of named things by name, a list of one item into a list of
 * one, any other list as a whole. `null` takes a key away, `$remove: true` a named thing; `$before` places a new one, `$append`
 * adds to a list without names.
 * @throws ConfigError with what does not fit, by the overlay's lines
 */
export function withOverlay(bootstrap: JsonObject, overlay: Overlay | null): JsonObject {
  if (overlay === null) return bootstrap;
  const { problems, merged } = createMerger().merge(bootstrap, overlay.content);
  if (problems.length === 0 && isObject(merged)) return merged;
  const { lineOf } = readYaml(overlay.text, overlay.file);
  const told = problems.map(({ path, message }) => ({
    line: lineOf(path),
    message: `${formatPath(path)}: ${message}`,
  }));
  throw new ConfigError(
    overlay.file,
    told.sort((a, b) => a.line - b.line),
  );
}

type Path = readonly (string | number)[];

interface Problem {
  readonly path: Path;
  readonly message: string;
}

/** An item of a list of named things. */
interface Named {
  readonly value: JsonObject;
  /** Entries of the overlay are for what is rendered, not for each other. */
  readonly isNew: boolean;
}

const REMOVE = '$remove';
const BEFORE = '$before';
const APPEND = '$append';

function createMerger() {
  const problems: Problem[] = [];

  function complain(path: Path, message: string): void {
    problems.push({ path, message });
  }

  function mergeValue(base: Json | undefined, over: unknown, path: Path): Json | undefined {
    if (over === null) {
      if (base === undefined) complain(path, 'is not rendered, so there is nothing to remove');
      return undefined;
    }
    if (isObject(over) && Object.hasOwn(over, APPEND)) return appended(base, over, path);
    if (base === undefined) return plain(over, path);
    if (kindOf(base) !== kindOf(over)) {
      complain(path, `is ${kindOf(base)} in what is rendered, not ${kindOf(over)}`);
      return base;
    }
    if (isObject(base) && isObject(over)) return mergeMapping(base, over, path);
    return isList(base) && isList(over) ? mergeList(base, over, path) : plain(over, path);
  }

  function mergeMapping(base: JsonObject, over: Mapping, path: Path): JsonObject {
    const merged = new Map(Object.entries(base));
    for (const [key, value] of Object.entries(over)) {
      const at = [...path, key];
      const there = merged.get(key);
      if (there === undefined && refuseKey(base, key, at)) continue;
      const result = mergeValue(there, value, at);
      if (result === undefined) merged.delete(key);
      else merged.set(key, result);
    }
    return Object.fromEntries(merged);
  }

  /** Envoy takes both ways to write a key, but not both at once, and the rules know one. */
  function refuseKey(base: JsonObject, key: string, path: Path): boolean {
    if (key.startsWith('$')) {
      complain(path, `is not for this place: ${BEFORE} and ${REMOVE} stand in a list of named things, beside the name`);
      return true;
    }
    const snake = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (snake === key || base[snake] === undefined) return false;
    complain(path, `write it as ${snake}`);
    return true;
  }

  function appended(base: Json | undefined, over: Mapping, path: Path): Json | undefined {
    const items = over[APPEND];
    if (!isList(items) || Object.keys(over).length > 1) {
      complain(path, `${APPEND} takes a list and stands alone: { ${APPEND}: [what is added] }`);
      return base;
    }
    if (base !== undefined && !isList(base)) {
      complain(path, `is ${kindOf(base)} in what is rendered, so nothing can be appended`);
      return base;
    }
    const added = plain(items, [...path, APPEND]);
    return [...(base ?? []), ...(isList(added) ? added : [])];
  }

  function mergeList(base: readonly Json[], over: readonly unknown[], path: Path): Json {
    const [first] = over;
    const [only] = base;
    if (over.length === 1 && base.length === 1 && isObject(first) && isObject(only) && first.name === undefined) {
      return [mergeMapping(only, first, [...path, 0])];
    }
    if (base.length === 0 || over.length === 0 || !base.every(isNamed)) return plain(over, path) ?? [];
    const nameless = over.findIndex((item) => !isNamed(item));
    if (nameless < 0) return mergeNamed(base, over.filter(isNamed), path);
    complain([...path, nameless], `needs a name, as all in this list have one: ${namesOf(base)}`);
    return base;
  }

  function mergeNamed(base: readonly NamedMapping[], over: readonly NamedMapping[], path: Path): Json {
    let items: Named[] = base.map((value) => ({ value, isNew: false }));
    over.forEach((entry, index) => {
      const { [BEFORE]: before, [REMOVE]: remove, ...settings } = entry;
      const at = [...path, index];
      const fits = ({ value, isNew }: Named) => !isNew && isNamed(value) && isMeant(entry.name, value.name);
      const isThere = items.some(fits);
      if (remove !== undefined) {
        if (remove !== true) complain([...at, REMOVE], 'must be true, or be left out');
        else if (Object.keys(entry).length > 2) complain([...at, REMOVE], 'stands with the name alone');
        else if (!isThere) complain(at, `there is no ${quote(entry.name)} to remove: ${namesOf(base)}`);
        items = items.filter((item) => !fits(item));
      } else if (isThere) {
        if (before !== undefined) complain([...at, BEFORE], 'is for what is new: what is rendered keeps its place');
        const { name: _, ...changes } = settings;
        items = items.map((item) => (fits(item) ? { ...item, value: mergeMapping(item.value, changes, at) } : item));
      } else if (entry.name.endsWith('*')) {
        complain(at, `nothing has a name like ${quote(entry.name)}: ${namesOf(base)}`);
      } else {
        const value = plain(settings, at);
        const place = placeOf(items, before, [...at, BEFORE], path.at(-1));
        if (isObject(value)) items.splice(place, 0, { value, isNew: true });
      }
    });
    return items.map(({ value }) => value);
  }

  /** A filter behind the router, or a route behind the one for everything, would never be used. */
  function placeOf(items: readonly Named[], before: unknown, path: Path, list: string | number | undefined): number {
    if (before !== undefined) {
      const place = items.findIndex(({ value }) => value.name === before);
      if (place >= 0) return place;
      complain(path, `there is no ${quote(String(before))} here: ${namesOf(items.map(({ value }) => value))}`);
    }
    const isBehind = ({ value, isNew }: Named) =>
      list === 'routes' ? !isNew : list === 'http_filters' && value.name === 'envoy.filters.http.router';
    const place = items.findIndex(isBehind);
    return place < 0 ? items.length : place;
  }

  /** What is new, as it stands in the overlay. */
  function plain(over: unknown, path: Path): Json | undefined {
    if (over === null || over === undefined) return undefined;
    if (isList(over)) return over.flatMap((item, index) => plain(item, [...path, index]) ?? []);
    if (isObject(over)) return mergeMapping({}, over, path);
    if (typeof over === 'string' || typeof over === 'boolean') return over;
    if (typeof over === 'number' && Number.isFinite(over)) return over;
    complain(path, 'is nothing that Envoy reads');
    return undefined;
  }

  return {
    merge(base: JsonObject, over: unknown) {
      const merged = mergeValue(base, over, []);
      return { merged, problems };
    },
  };
}

interface Mapping {
  readonly [key: string]: unknown;
}

type NamedMapping = JsonObject & { readonly name: string };

function isList(value: unknown): value is readonly Json[] {
  return Array.isArray(value);
}

function isNamed(value: unknown): value is NamedMapping {
  return isObject(value) && typeof value.name === 'string';
}

/** @param meant a name, or with a star at its end how names begin */
function isMeant(meant: string, name: string): boolean {
  return meant.endsWith('*') ? name.startsWith(meant.slice(0, -1)) : name === meant;
}

function namesOf(items: readonly JsonObject[]): string {
  return `the names here are ${[...new Set(items.map(({ name }) => String(name)))].join(', ')}`;
}

function kindOf(value: unknown): string {
  if (isList(value)) return 'a list';
  return isObject(value) ? 'a mapping' : 'a single value';
}
