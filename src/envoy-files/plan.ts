import { isDeepStrictEqual } from 'node:util';
import { parse } from 'yaml';
import type { Config } from '../config/config.ts';
import { splitConfig, type WatchedFile } from '../envoy-config/config-dir.ts';
import { isObject, type JsonObject } from '../envoy-config/json.ts';
import { FILE_COMMENT, type PrintedFile, printFile } from '../envoy-config/print.ts';
import { CLUSTERS_FILE, type FileKind, LISTENERS_FILE } from '../envoy-config/watched-files.ts';

/** How the files that Envoy watches become those of another config, step by step: the next one when Envoy has the one before. */
export interface Plan {
  readonly steps: readonly Step[];
  /** Written in the end, or there already. */
  readonly files: readonly PrintedFile[];
  /** No longer read by anything then. */
  readonly stale: readonly string[];
  /** The clusters that are there and become others: each is made anew, and its servers are checked before it is used. */
  readonly replaced: readonly string[];
  /** What Envoy reads at its start alone, as text, by key. */
  readonly bootstrap: Readonly<Record<string, string>>;
}

export interface PlannedFiles {
  readonly plan: Plan;
  /** The texts that are there, by name. */
  readonly disk: ReadonlyMap<string, string>;
}

export interface Step {
  readonly kind: FileKind;
  readonly files: readonly PrintedFile[];
  /** Those that Envoy watches already: of another it hears with the cluster or listener that names it. */
  readonly awaited: readonly PrintedFile[];
}

/**
 * New clusters come first, then listeners, through which changed clusters may lead, then these, then the routes. What is to
 * go stays until nothing leads there any more.
 * @param disk the texts that are there, by name
 * @throws Error where one of them is somebody else's
 */
export function planFiles(config: Config, directory: string, disk: ReadonlyMap<string, string>): Plan {
  const { bootstrap, files } = splitConfig(config, directory);
  const printed = files.map((file) => printFile(file, config));
  const foreign = printed.find(({ name }) => !isOurs(disk.get(name) ?? FILE_COMMENT));
  if (foreign !== undefined)
    throw new Error(`${directory}/${foreign.name} is not written by this program: name another directory`);
  const of = (kind: FileKind) => printed.filter((file) => file.kind === kind);
  const [clusters, listeners] = [CLUSTERS_FILE, LISTENERS_FILE].map((name) => {
    return between(
      files.find((file) => file.name === name),
      disk.get(name),
      config,
    );
  });
  const isWatched = ({ name }: PrintedFile) =>
    disk.has(name) && (ROOTS.includes(name) || ROOTS.some((root) => disk.get(root)?.includes(name)));
  const now = new Map(disk);
  const steps: Step[] = [];
  const add = (kind: FileKind, wanted: readonly PrintedFile[]) => {
    const changed = wanted.filter(({ name, text }) => now.get(name) !== text);
    for (const { name, text } of changed) now.set(name, text);
    if (changed.length > 0) steps.push({ kind, files: changed, awaited: changed.filter(isWatched) });
  };
  add('secret', of('secret'));
  add('endpoints', of('endpoints'));
  add('clusters', clusters?.withNew ?? []);
  // What a listener names must be there.
  add(
    'routes',
    of('routes').filter(({ name }) => !disk.has(name)),
  );
  add('listeners', listeners?.withAll ?? []);
  add('clusters', clusters?.withAll ?? []);
  add('routes', of('routes'));
  add('listeners', of('listeners'));
  add('clusters', of('clusters'));
  const names = new Set(printed.map(({ name }) => name));
  return {
    steps,
    files: printed,
    stale: [...disk].flatMap(([name, text]) => (isOurs(text) && !names.has(name) ? [name] : [])),
    replaced: clusters?.replaced ?? [],
    bootstrap: Object.fromEntries(Object.entries(bootstrap).map(([key, value]) => [key, JSON.stringify(value)])),
  };
}

/** What the bootstrap names; every other file is named in one of these. */
const ROOTS = [CLUSTERS_FILE, LISTENERS_FILE];

/** The files on the way to what it is to have: with what is new, and with all of it and what is to go. */
function between(next: WatchedFile | undefined, text: string | undefined, config: Config) {
  if (next === undefined) return { withNew: [], withAll: [], replaced: [] };
  const there = byName(text === undefined ? [] : resourcesIn(text));
  const wanted = byName(next.resources);
  const print = (resources: Iterable<JsonObject>) => [printFile({ ...next, resources: [...resources] }, config)];
  const replaced = [...wanted].filter(([name, resource]) => {
    const before = there.get(name);
    return before !== undefined && !isDeepStrictEqual(before, resource);
  });
  return {
    withNew: [...wanted.keys()].every((name) => there.has(name)) ? [] : print(new Map([...wanted, ...there]).values()),
    withAll: print(new Map([...wanted, ...[...there].filter(([name]) => !wanted.has(name))]).values()),
    replaced: replaced.map(([name]) => name),
  };
}

/** By its first line, which all versions of it have. */
function isOurs(text: string): boolean {
  return text.startsWith(FILE_COMMENT.split('\n', 1)[0] ?? '');
}

/** None where somebody has made something else of the file. */
function resourcesIn(text: string): JsonObject[] {
  try {
    // Our own, with many references.
    const value: unknown = parse(text, { maxAliasCount: -1, schema: 'yaml-1.1' });
    const plain: unknown = JSON.parse(JSON.stringify(value ?? null));
    const resources = isObject(plain) ? plain.resources : undefined;
    return Array.isArray(resources) ? resources.filter(isObject) : [];
  } catch {
    return [];
  }
}

function byName(resources: readonly JsonObject[]): Map<string, JsonObject> {
  return new Map(resources.map((resource) => [String(resource.name), resource]));
}
