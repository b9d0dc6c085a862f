import type { Argument, AviCall, LuaScript } from './lua-script.ts';

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
  /** What goes beyond the original rules, or could not be read: each with its line. */
  readonly remarks: readonly { readonly line: number; readonly text: string }[];
}

export interface PoolSettings {
  readonly pool: Found | null;
  readonly cookie: Found | null;
}

/** The calls of Avi's API that the original rules are made of. */
const ORIGINAL_CALLS = [
  'avi.http.get_path',
  'avi.http.get_uri',
  'avi.http.get_cookie',
  'avi.http.response',
  'avi.pool.select',
  'avi.pool.get_servers_status',
];

const REMOTE_NAME = /remote|other|peer|secondary|foreign/i;
const LOCAL_NAME = /local|this|own|primary|home/i;

type Side = 'local' | 'remote';

interface Named extends Found {
  readonly variable: string | null;
}

/**
 * Finds the original settings in a script, by how each text is used (asked for as a cookie, selected as a pool,
 * compared with the path) and, where use does not tell, by the name of its variable.
 */
export function findOriginalSettings(script: LuaScript): OriginalSettings {
  const pools = unique([
    ...argumentsOf(script, 'avi.pool.select'),
    ...argumentsOf(script, 'avi.pool.get_servers_status'),
    ...namedVariables(script, /pool/i, /cookie|status|uri|url|path|state/i),
  ]);
  const cookies = unique([
    ...argumentsOf(script, 'avi.http.get_cookie'),
    ...namedVariables(script, /cookie/i, /path|domain/i),
  ]);
  const sides = new Map<string, Side>();
  for (const each of [...pools, ...cookies]) {
    const side = sideOfName(each.variable) ?? sideOfName(each.value);
    if (side !== null) sides.set(each.value, side);
  }
  inferSides(script, sides);

  const side = (wanted: Side, all: readonly Named[]) => all.filter(({ value }) => sides.get(value) === wanted);
  const remotePools = side('remote', pools);
  const remoteCookies = side('remote', cookies);
  const count = Math.max(1, remotePools.length, remoteCookies.length);
  const sorted = pairUp(script, remotePools, remoteCookies);
  return {
    statusUri: findStatusUri(script),
    local: { pool: side('local', pools)[0] ?? null, cookie: side('local', cookies)[0] ?? null },
    remotes: Array.from({ length: count }, (_, index) => sorted[index] ?? { pool: null, cookie: null }),
    remarks: [
      ...[...pools, ...cookies]
        .filter(({ value }) => !sides.has(value))
        .map(({ value, line }) => ({
          line,
          text: `"${value}": this does not tell whether it is the local site's or a remote one's`,
        })),
      ...surplus('pool', side('local', pools)),
      ...surplus('cookie', side('local', cookies)),
      ...remarksOn(script),
    ].sort((a, b) => a.line - b.line),
  };
}

/** A cookie that leads to a pool is of the same site; of two of a kind, what is not the one is the other. */
function inferSides(script: LuaScript, sides: Map<string, Side>): void {
  for (const branch of script.branches) {
    const [cookie] = valuesOf(branch.asked, 'avi.http.get_cookie');
    const [pool] = valuesOf(branch.done, 'avi.pool.select');
    if (cookie === undefined || pool === undefined) continue;
    const side = sides.get(pool) ?? sides.get(cookie) ?? 'remote';
    if (!sides.has(pool)) sides.set(pool, side);
    if (!sides.has(cookie)) sides.set(cookie, side);
  }
  for (const call of ['avi.pool.select', 'avi.http.get_cookie']) {
    const values = [...new Set(valuesOf(script.calls, call))];
    const unknown = values.filter((value) => !sides.has(value));
    const isOnlyRemote = values.some((value) => sides.get(value) === 'remote') && unknown.length === 1;
    if (isOnlyRemote && !values.some((value) => sides.get(value) === 'local')) sides.set(unknown[0] ?? '', 'local');
  }
}

/** Each remote pool with the cookie that leads to it in the script, else with the next one left. */
function pairUp(script: LuaScript, pools: readonly Named[], cookies: readonly Named[]): PoolSettings[] {
  const left = [...cookies];
  const take = (index: number) => (index === -1 ? null : (left.splice(index, 1)[0] ?? null));
  const paired = pools.map((pool) => {
    const branch = script.branches.find(({ done }) => valuesOf(done, 'avi.pool.select').includes(pool.value));
    const asked = branch === undefined ? [] : valuesOf(branch.asked, 'avi.http.get_cookie');
    return { pool, cookie: take(left.findIndex(({ value }) => asked.includes(value))) };
  });
  const complete = paired.map(({ pool, cookie }) => ({ pool, cookie: cookie ?? take(0) }));
  return [...complete, ...left.map((cookie) => ({ pool: null, cookie }))];
}

function findStatusUri(script: LuaScript): Found | null {
  const [compared] = script.comparedPaths.flatMap((each) => found(each, definedAt(script, each) ?? each.line));
  if (compared !== undefined) return compared;
  const [named] = script.variables.filter(
    ({ name, value }) => /status|uri|health/i.test(name) && value?.startsWith('/'),
  );
  return named?.value === undefined || named.value === null ? null : { value: named.value, line: named.line };
}

function remarksOn(script: LuaScript): { line: number; text: string }[] {
  const beyond = script.calls.filter(({ name }) => !ORIGINAL_CALLS.includes(name));
  const computed = script.calls
    .filter(({ name }) => ['avi.http.get_cookie', 'avi.pool.select', 'avi.pool.get_servers_status'].includes(name))
    .filter(({ args }) => args[0] === undefined || args[0].value === null);
  const toServer = script.calls.filter(({ name, args }) => name === 'avi.pool.select' && args.length > 1);
  const statusPath = findStatusUri(script)?.value;
  const otherPaths = script.comparedPaths.filter(({ value }) => value !== null && value !== statusPath);
  return [
    ...beyond.map(({ name, line }) => ({ line, text: `${name} is not part of the original rules` })),
    ...computed.map(({ name, line }) => ({ line, text: `${name}: its name is computed, so it was not read` })),
    ...toServer.map(({ line }) => ({ line, text: 'avi.pool.select names a server, which the original rules do not' })),
    ...otherPaths.map(({ value, line }) => ({ line, text: `the path "${value}" is treated in a way of its own` })),
    ...script.otherCalls.map(({ name, line }) => ({ line, text: `${name} is not part of the original rules` })),
  ];
}

function surplus(what: string, all: readonly Named[]): { line: number; text: string }[] {
  return all.slice(1).map(({ value, line }) => ({ line, text: `a second local ${what}, "${value}", was left out` }));
}

function sideOfName(name: string | null): Side | null {
  if (name === null) return null;
  if (REMOTE_NAME.test(name)) return 'remote';
  return LOCAL_NAME.test(name) ? 'local' : null;
}

function argumentsOf(script: LuaScript, call: string): Named[] {
  return script.calls
    .filter(({ name }) => name === call)
    .flatMap(({ args: [first], line }) => (first === undefined ? [] : found(first, definedAt(script, first) ?? line)));
}

/** Variables that no call uses, by their names. */
function namedVariables(script: LuaScript, is: RegExp, isNot: RegExp): Named[] {
  return script.variables.flatMap(({ name, value, line }) =>
    value !== null && is.test(name) && !isNot.test(name) ? [{ value, line, variable: name }] : [],
  );
}

/** Where a variable gets its text: that is the line to look at, not the one that uses it. */
function definedAt(script: LuaScript, { variable }: Argument): number | undefined {
  return script.variables.find(({ name }) => name === variable)?.line;
}

function found({ value, variable }: Argument, line: number): Named[] {
  return value === null ? [] : [{ value, line, variable }];
}

function valuesOf(calls: readonly AviCall[], name: string): string[] {
  return calls.filter((call) => call.name === name).flatMap(({ args: [first] }) => first?.value ?? []);
}

function unique(all: readonly Named[]): Named[] {
  return all.filter((each, index) => all.findIndex(({ value }) => value === each.value) === index);
}
