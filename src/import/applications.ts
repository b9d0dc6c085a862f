import { isApplicationName } from '../config/values.ts';
import type { OriginalSettings } from './original-settings.ts';

/** A script, and what the application is to be called that it becomes. */
export interface NamedScript {
  readonly name: string;
  /** Where the script is from, and what its line numbers count. */
  readonly source: string;
  readonly settings: OriginalSettings;
}

const MAX_NAME_LENGTH = 63;

/** Names of applications for texts such as files' names, in the same order: each a valid one, none of them twice. */
export function applicationNames(texts: readonly string[]): string[] {
  const taken = new Set<string>();
  return texts.map((text) => {
    const base = validName(text);
    let name = base;
    for (let count = 2; taken.has(name); count++) name = withEnd(base, `-${count}`);
    taken.add(name);
    return name;
  });
}

function validName(text: string): string {
  const name = text
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .replace(/[^A-Za-z0-9]+/g, '-')
    .replace(/^-/, '')
    .slice(0, MAX_NAME_LENGTH)
    .replace(/-$/, '');
  // Some are reserved, and of some nothing is left.
  return isApplicationName(name) ? name : withEnd(name, name === '' ? 'application' : '-application');
}

function withEnd(name: string, end: string): string {
  return `${name.slice(0, MAX_NAME_LENGTH - end.length)}${end}`;
}

/** A pool's or a cookie's name that several scripts have. */
export interface SharedName {
  readonly what: 'pool' | 'cookie';
  readonly value: string;
  /** The applications that have it, by name: two or more. */
  readonly applications: readonly string[];
}

/**
 * What several scripts call the same. As clusters of one Envoy, pools need names of their own; a cookie is told from another
 * application's by its host alone.
 */
export function findSharedNames(scripts: readonly NamedScript[]): SharedName[] {
  return [...sharedOf('pool', scripts), ...sharedOf('cookie', scripts)];
}

function sharedOf(what: SharedName['what'], scripts: readonly NamedScript[]): SharedName[] {
  const users = new Map<string, Set<string>>();
  for (const { name, settings } of scripts) {
    for (const pool of [settings.local, ...settings.remotes]) {
      const values = [...(pool[what] === null ? [] : [pool[what]]), ...(what === 'cookie' ? pool.also : [])];
      for (const { value } of values) users.set(value, (users.get(value) ?? new Set()).add(name));
    }
  }
  return [...users]
    .filter(([, names]) => names.size > 1)
    .map(([value, names]) => ({ what, value, applications: [...names] }));
}

/** For stderr: what follows from a shared name, and what to do. */
export function describeSharedName({ what, value, applications }: SharedName): string {
  const whose = `the ${what} ${JSON.stringify(value)} is in the scripts of ${listed(applications)}`;
  return what === 'pool'
    ? `${whose}: each pool needs a cluster of its own here. Remove the line "cluster" of all but one (the default is <application>_local or <application>_<site>), or write another name`
    : `${whose}: leave its domain out, so that no browser sends it to several of them, or choose another name at every site`;
}

/** Twenty names would hide what is said of them. */
const MAX_LISTED = 5;

function listed(names: readonly string[]): string {
  const shown = names.slice(0, names.length > MAX_LISTED ? MAX_LISTED - 1 : MAX_LISTED);
  const rest = names.length - shown.length;
  const all = [...shown, ...(rest > 0 ? [`${rest} more`] : [])];
  return `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`;
}
