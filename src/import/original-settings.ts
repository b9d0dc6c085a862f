import { type Behaviour, findBehaviour, type PathText } from './behaviour.ts';
import type { LuaScript } from './lua-script.ts';
import { SERVERS } from './request-world.ts';

/** Something that the script says, and where. */
export interface Found {
  readonly value: string;
  readonly line: number;
}

/** What the original DataScript has in its variables; null where this script does not say it. */
export interface OriginalSettings {
  readonly statusUri: Found | null;
  readonly local: PoolSettings;
  readonly remotes: readonly PoolSettings[];
  /** Whether the script keeps a client that carries both sites' cookies at the local site. */
  readonly isLocalFirst: boolean;
  /** What goes beyond the original rules, or could not be read. */
  readonly remarks: readonly Remark[];
}

export interface PoolSettings {
  readonly pool: Found | null;
  readonly cookie: Found | null;
  /** Other cookies that tell the same site. */
  readonly also: readonly Found[];
}

export interface Remark {
  /** Null where it is about the whole script. */
  readonly line: number | null;
  readonly text: string;
}

/** A script of other rules, and which of the original ones it lacks. */
export interface OtherScript {
  readonly lacks: string;
}

/** The calls of Avi's API that the original rules are made of. */
export const ORIGINAL_CALLS: readonly string[] = [
  'avi.http.get_path',
  'avi.http.get_uri',
  'avi.http.get_path_tokens',
  'avi.http.get_cookie',
  'avi.http.cookie_exists',
  'avi.http.response',
  'avi.pool.select',
  'avi.pool.get_servers',
];

const REMOTE_NAME = /remote|other|peer|proxy|secondary|foreign/i;
const LOCAL_NAME = /local|this|(?<![a-z])own|primary|home/i;

type Side = 'local' | 'remote';

/**
 * Finds the original settings by what the script does with requests and, where that does not tell, by the names of its
 * variables. What makes a script one of the original rules: a cookie's presence leads to a pool, and so does, without any
 * cookie, a count of servers by which the local pool is down. Many a canary has the first rule, and only that.
 */
export function findOriginalSettings(script: LuaScript): OriginalSettings | OtherScript {
  const behaviour = findBehaviour(script);
  const lacks = whatLacks(behaviour);
  if (lacks !== null) return { lacks };

  const pools = sortOut(script, behaviour, 'pool');
  const cookies = sortOut(script, behaviour, 'cookie');
  const status = behaviour.status ?? statusByName(script);
  const statusUri = status === null ? null : { value: status.path, line: lineOf(script, status.text) ?? 0 };
  const at = (value: string): Found => ({ value, line: lineOf(script, value) ?? used.get(value) ?? 0 });
  const used = new Map([...behaviour.pools, ...behaviour.cookiesAsked]);
  const paired = behaviour.remotes.map(({ pool, cookie, also }) => ({
    pool: at(pool),
    cookie: at(cookie),
    also: also.map(at),
  }));
  return {
    statusUri,
    local: { pool: pools.local, cookie: cookies.local, also: [] },
    remotes: [
      ...paired,
      ...Array.from({ length: Math.max(pools.remote.length, cookies.remote.length) }, (_, index) => ({
        pool: pools.remote[index] ?? null,
        cookie: cookies.remote[index] ?? null,
        also: [],
      })),
    ],
    isLocalFirst: behaviour.isLocalFirst,
    remarks: [
      ...(statusUri === null
        ? [{ line: null, text: "no path is answered from the local pool's server count, so status_uri is left open" }]
        : []),
      ...pools.remarks,
      ...cookies.remarks,
      ...remarksOn(script, behaviour),
    ]
      .filter(
        ({ line, text }, index, all) => all.findIndex((each) => each.line === line && each.text === text) === index,
      )
      .sort((a, b) => (a.line ?? 0) - (b.line ?? 0)),
  };
}

/** What keeps a script from being one of the original rules, after "it"; null where nothing does. */
function whatLacks(behaviour: Behaviour): string | null {
  const { countsServers, remotes, applicationCookies } = behaviour;
  const ofApplications =
    applicationCookies.length === 0
      ? ''
      : ` (${applicationCookies.join(', ')}: an application's own, set at every site)`;
  const lacks = [
    ...(countsServers ? [] : ['never asks how many servers of a pool are up']),
    ...(remotes.length > 0
      ? []
      : [`selects no other site's pool by the presence of that site's cookie${ofApplications}`]),
  ];
  if (lacks.length > 0) return lacks.join(' and ');
  if (behaviour.isByChance) return 'leaves the choice of a pool to chance or the clock';
  return behaviour.failsOver
    ? null
    : "never sends a client without a cookie to another site's pool because the local pool is down";
}

interface Sorted {
  readonly local: Found | null;
  /** Those that no cookie, or no pool, was found for. */
  readonly remote: readonly Found[];
  readonly remarks: readonly Remark[];
}

/** Tells what the script's behaviour left open by the names of variables: which are local, which are remote. */
function sortOut(script: LuaScript, behaviour: Behaviour, what: 'pool' | 'cookie'): Sorted {
  const known = what === 'pool' ? behaviour.localPool : behaviour.localCookie;
  const used = what === 'pool' ? behaviour.pools : behaviour.cookiesAsked;
  const paired = new Set(
    behaviour.remotes.flatMap(({ pool, cookie, also }) => (what === 'pool' ? [pool] : [cookie, ...also])),
  );
  const at = (value: string): Found => ({ value, line: lineOf(script, value) ?? used.get(value) ?? 0 });
  const open = [...used.keys()].filter((value) => value !== known && !paired.has(value));
  const bySide = (side: Side | null) => open.filter((value) => sideOf(script, value) === side);
  const unused = named(script, what).filter((value) => !used.has(value) && !paired.has(value));
  const unusedLocal = unused.filter((value) => sideOf(script, value) === 'local');
  const unusedNameless = unused.filter((value) => sideOf(script, value) === null);

  const [local = null, ...surplus] = [
    ...(known === null ? [] : [known]),
    ...bySide('local'),
    ...(known === null ? unusedLocal : []),
    ...(known === null && unusedLocal.length === 0 && unusedNameless.length === 1 ? unusedNameless : []),
  ];
  return {
    local: local === null ? null : at(local),
    remote: bySide('remote').map(at),
    remarks: [
      ...surplus.map((value) => ({ line: at(value).line, text: `a second local ${what}, "${value}", was left out` })),
      ...bySide(null).map((value) => ({
        line: at(value).line,
        text: `"${value}": this does not tell whether it is the local site's or a remote one's`,
      })),
    ],
  };
}

/** Texts that variables hold as a cookie's or a pool's name, by the variables' own names. */
function named(script: LuaScript, what: 'pool' | 'cookie'): string[] {
  const is = new RegExp(what, 'i');
  const isNot =
    what === 'pool'
      ? /cookie|status|uri|url|path|state|count|body|message|text/i
      : /path|domain|value|body|message|text/i;
  const values = script.names.filter(({ name }) => is.test(name) && !isNot.test(name)).map(({ value }) => value);
  return [...new Set(values)];
}

/** By the variables that hold a text, else by the text itself. */
function sideOf(script: LuaScript, value: string): Side | null {
  const names = script.names.filter((named) => named.value === value).map(({ name }) => name);
  for (const name of [...names, value]) {
    if (REMOTE_NAME.test(name)) return 'remote';
    if (LOCAL_NAME.test(name)) return 'local';
  }
  return null;
}

function statusByName(script: LuaScript): PathText | null {
  const [path] = script.names.flatMap(({ name, value }) =>
    value.startsWith('/') && /status|health/i.test(name) ? value : [],
  );
  return path === undefined ? null : { path, text: path };
}

function remarksOn(script: LuaScript, behaviour: Behaviour): Remark[] {
  const beyond = [...script.aviCalls.filter(({ name }) => !ORIGINAL_CALLS.includes(name)), ...script.otherCalls];
  const toServer = script.aviCalls.filter(({ name, argumentCount }) => name === 'avi.pool.select' && argumentCount > 1);
  const unreadable = new Map(behaviour.unreadable.map((call) => [`${call.line} ${call.name}`, call]));
  return [
    ...beyond.map(({ name, line }) => ({ line, text: `${name} is not part of the original rules` })),
    ...[...unreadable.values()].map(({ name, line }) => ({
      line,
      text: `${name}: its name is computed, so it was not read`,
    })),
    ...toServer.map(({ line }) => ({ line, text: 'avi.pool.select names a server, which the original rules do not' })),
    ...(behaviour.minUp === 1
      ? []
      : [
          {
            line: null,
            text: `of ${SERVERS} servers it wants ${behaviour.minUp} to be up before a pool counts as up: see min_up, here 1`,
          },
        ]),
    ...(behaviour.isCutShort
      ? [{ line: null, text: 'too long to be followed to its end: look at the rest of it yourself' }]
      : []),
    ...behaviour.otherPaths.map(({ path, text }) => ({
      line: lineOf(script, text) ?? null,
      text: `the path "${path}" is treated in a way of its own`,
    })),
    ...[...behaviour.valuesCompared].map(([cookie, line]) => ({
      line,
      text: `the value of the cookie "${cookie}" is compared: here a cookie counts by its presence`,
    })),
  ];
}

/** Where a text stands between quotes: mostly the variable's definition, which is the line to look at. */
function lineOf(script: LuaScript, value: string): number | undefined {
  return script.lineOfText.get(value) ?? script.lineOfText.get(`${value}=`);
}
