import { isUtf8 } from 'node:buffer';
import { parse, YAMLError } from 'yaml';
import { formatBytes } from '../config/format-bytes.ts';
import { readAtMost } from '../config/read-at-most.ts';
import { whyUnreadable } from '../config/unreadable.ts';
import { type EnvoySnapshot, snapshotOfBootstrap, snapshotOfDump } from '../doctor/envoy-snapshot.ts';
import { at, entriesAt, listAt, textAt } from '../doctor/json.ts';
import { UsageError } from './usage-error.ts';

/** As much as is read of a running Envoy's answer. */
const MAX_FILE_BYTES = 64 * 1024 * 1024;

/**
 * Reads what an Envoy answered to `GET /config_dump`, or a bootstrap, whichever it is; or what `egctl x translate` prints, which is
 * such an answer in another spelling.
 * @throws UsageError for a file that is neither, or can't be read
 */
export async function readDump(file: string): Promise<EnvoySnapshot> {
  const fail = (why: string) => new UsageError(`--config-dump: ${file} ${why}`);
  const { bytes, size } = await readAtMost(file, MAX_FILE_BYTES).catch((error: unknown) => {
    throw fail(whyUnreadable(error, { directory: 'name a file' }));
  });
  if (size !== bytes.length) throw fail(`is too large: ${formatBytes(MAX_FILE_BYTES)} at most are read`);
  if (!isUtf8(bytes)) throw fail('is not UTF-8 text');
  const value = asEnvoySpells(unwrapped(readText(bytes.toString(), fail), fail));
  if (has(value, ['configs'])) return snapshotOfDump(value);
  if (has(value, BOOTSTRAP_KEYS)) {
    const whole = await withWatchedFiles(value);
    return snapshotOfBootstrap(whole ?? value, whole !== null);
  }
  throw fail('is neither an answer to GET /config_dump ("configs") nor a bootstrap ("static_resources")');
}

/** Envoy Gateway's translation has one dump for each of its Envoys. */
function unwrapped(value: unknown, fail: (why: string) => Error): unknown {
  const dumps = entriesAt(value, 'xds');
  const [only] = dumps;
  if (only === undefined || has(value, BOOTSTRAP_KEYS)) return value;
  if (dumps.length > 1)
    throw fail(`has ${dumps.length} Envoys (${dumps.map(([name]) => name).join(', ')}): leave one of them`);
  return only[1];
}

/** JSON of protobuf messages has its names in one of two spellings (ProtoJSON): Envoy writes `typed_config`, others `typedConfig`. */
function asEnvoySpells(value: unknown): unknown {
  const isOther = listAt(value, 'configs').some((part) => entriesAt(part).some(([key]) => CAMEL_CASE.test(key)));
  return isOther ? inSnakeCase(value) : value;
}

const CAMEL_CASE = /^[a-z][a-z0-9]*([A-Z][a-z0-9]*)+$/;

function inSnakeCase(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inSnakeCase);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    entriesAt(value).map(([key, member]) => [
      CAMEL_CASE.test(key) ? key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) : key,
      inSnakeCase(member),
    ]),
  );
}

/** A bootstrap with what it has Envoy watch in files, as if it stood in it; null where it has none, or they are not to be read here. */
async function withWatchedFiles(bootstrap: unknown): Promise<unknown> {
  const [clusters, listeners] = ['cds_config', 'lds_config'].map((key) =>
    pathOf(at(bootstrap, 'dynamic_resources', key)),
  );
  if (clusters === undefined || listeners === undefined) return null;
  try {
    return {
      ...Object.fromEntries(entriesAt(bootstrap)),
      static_resources: {
        clusters: [
          ...listAt(bootstrap, 'static_resources', 'clusters'),
          ...(await Promise.all((await resourcesIn(clusters)).map(withServers))),
        ],
        listeners: [
          ...listAt(bootstrap, 'static_resources', 'listeners'),
          ...(await Promise.all((await resourcesIn(listeners)).map(withRoutes))),
        ],
      },
    };
  } catch {
    return null;
  }
}

async function withServers(cluster: unknown): Promise<unknown> {
  const path = pathOf(at(cluster, 'eds_cluster_config', 'eds_config'));
  if (path === undefined) return cluster;
  const [load_assignment] = await resourcesIn(path);
  return { ...Object.fromEntries(entriesAt(cluster)), load_assignment };
}

/** Whatever is deep in it: a listener has them in its connection managers. */
async function withRoutes(value: unknown): Promise<unknown> {
  if (Array.isArray(value)) return await Promise.all(value.map(withRoutes));
  if (typeof value !== 'object' || value === null) return value;
  const path = pathOf(at(value, 'rds', 'config_source'));
  const members = entriesAt(value).map(async ([key, member]) => {
    if (key !== 'rds' || path === undefined) return [key, await withRoutes(member)] as const;
    const [routes] = await resourcesIn(path);
    return ['route_config', routes] as const;
  });
  return Object.fromEntries(await Promise.all(members));
}

function pathOf(source: unknown): string | undefined {
  return textAt(source, 'path_config_source', 'path');
}

async function resourcesIn(path: string): Promise<readonly unknown[]> {
  const { bytes, size } = await readAtMost(path, MAX_FILE_BYTES);
  if (size !== bytes.length) throw new Error('too large');
  return listAt(readYaml(bytes.toString()), 'resources');
}

/** One of them is in every bootstrap. */
const BOOTSTRAP_KEYS = ['static_resources', 'dynamic_resources', 'admin', 'node'];

function has(value: unknown, keys: readonly string[]): boolean {
  return typeof value === 'object' && value !== null && keys.some((key) => Object.hasOwn(value, key));
}

/** JSON by its own parser, for a dump of many megabytes takes the other one minutes. */
function readText(text: string, fail: (why: string) => Error): unknown {
  try {
    if (/^\s*\{\s*"/.test(text)) return JSON.parse(text);
    return readYaml(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw fail(`is not valid JSON: ${error.message}`);
    if (error instanceof YAMLError) throw fail(`is not valid YAML: ${error.message.split('\n', 1)[0]}`);
    throw fail(`cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** With every alias written out; Envoy's answer of as many bytes as are read has fewer. */
const MAX_VALUES = 20_000_000;

/** What is printed has thousands of aliases: the parser's own limit is for fewer, and to count as it does takes minutes. */
function readYaml(text: string): unknown {
  const value: unknown = parse(text, { logLevel: 'error', maxAliasCount: -1 });
  if (countValues(value, new Map()) > MAX_VALUES)
    throw new Error('its aliases (*name) lead in a circle, or to too much');
  return value;
}

/** @param known of what has been counted; infinite in a circle */
function countValues(value: unknown, known: Map<object, number>): number {
  if (typeof value !== 'object' || value === null) return 1;
  const counted = known.get(value);
  if (counted !== undefined) return counted;
  known.set(value, Number.POSITIVE_INFINITY);
  const count = Object.values(value).reduce<number>((sum, member) => sum + countValues(member, known), 1);
  known.set(value, count);
  return count;
}
