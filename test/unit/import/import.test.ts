import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../../src/config/config-error.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { NotLua, readLuaScript } from '../../../src/import/lua-script.ts';
import { findOriginalSettings, type OriginalSettings } from '../../../src/import/original-settings.ts';
import { printImportedConfig } from '../../../src/import/print-config.ts';
import { onlyApplication } from '../../support/only-application.ts';

const RULES = `
local up = avi.pool.get_servers(LOCAL_POOL)
if avi.http.get_path() == STATUS then
  if up > 0 then avi.http.response(200, {content_type="text/html"}, "LOCAL POOL STATE: UP")
  else avi.http.response(503, {content_type="text/html"}, "LOCAL POOL STATE: DOWN") end
elseif avi.http.get_cookie(REMOTE_COOKIE) and avi.pool.get_servers(REMOTE_POOL) > 0 then
  avi.pool.select(REMOTE_POOL)
elseif up > 0 then avi.pool.select(LOCAL_POOL)
else avi.pool.select(REMOTE_POOL) end
`;

const VARIABLES = {
  LOCAL_COOKIE: 'KVAAVROI',
  REMOTE_COOKIE: 'DDVHSLLQ',
  LOCAL_POOL: 'east-pool',
  REMOTE_POOL: 'west-pool',
  STATUS: '/local_pool_status',
};

/** The original script with its variables named and written in a way of its own. */
function script(
  names: Partial<typeof VARIABLES> = {},
  quote: (text: string) => string = (text) => `"${text}"`,
): string {
  const declared = Object.entries(VARIABLES).map(([key, value]) => `local ${key} = ${quote(value)}`);
  return Object.entries(names).reduce(
    (text, [key, name]) => text.replaceAll(new RegExp(`\\b${key}\\b`, 'g'), name),
    `${declared.join('\n')}\n${RULES}`,
  );
}

function settingsOf(source: string): OriginalSettings {
  const settings = findOriginalSettings(readLuaScript(source));
  if ('lacks' in settings) throw new Error(`not the original rules: it ${settings.lacks}`);
  return settings;
}

function read(source: string) {
  const { statusUri, local, remotes, remarks } = settingsOf(source);
  const value = (found: { value: string } | null) => found?.value ?? null;
  return {
    status: value(statusUri),
    local: [value(local.pool), value(local.cookie)],
    remotes: remotes.map(({ pool, cookie }) => [value(pool), value(cookie)]),
    remarks: remarks.map(({ line, text }) => `${line}: ${text}`),
  };
}

const ORIGINAL = {
  status: '/local_pool_status',
  local: ['east-pool', 'KVAAVROI'],
  remotes: [['west-pool', 'DDVHSLLQ']],
  remarks: [],
};

const NO_STATUS = "null: no path is answered from the local pool's server count, so status_uri is left open";

describe('the original script', () => {
  test.each([
    ['as it is', script()],
    ['with single quotes', script({}, (text) => `'${text}'`)],
    ['with long brackets', script({}, (text) => `[==[${text}]==]`)],
    ['with global variables', script().replaceAll('local ', '')],
    ['in another order', `${script().split('\n').slice(0, 5).toReversed().join('\n')}\n${RULES}`],
    ['with comments', script().replaceAll('\n', " -- local_pool = 'wrong'\n--[[ remote_cookie = 'wrong'\n]]")],
    ['with Windows line ends', script().replaceAll('\n', '\r\n')],
    [
      'with long names',
      script({
        LOCAL_COOKIE: 'local_pool_server_persistence_cookie_name',
        REMOTE_COOKIE: 'remote_pool_server_persistence_cookie_name',
        LOCAL_POOL: 'local_pool_name',
        REMOTE_POOL: 'remote_pool_name',
        STATUS: 'local_pool_status_uri',
      }),
    ],
    [
      'without variables for what is used',
      `local_cookie = "KVAAVROI"${RULES.replaceAll('LOCAL_POOL)', '"east-pool")')
        .replaceAll('REMOTE_POOL)', '"west-pool")')
        .replaceAll('REMOTE_COOKIE', '"DDVHSLLQ"')
        .replaceAll('STATUS', '"/local_pool_status"')}`,
    ],
    ['with names that tell nothing', script({ REMOTE_COOKIE: 'b', LOCAL_POOL: 'c', REMOTE_POOL: 'd', STATUS: 'e' })],
  ])('%s', (_, source) => {
    expect(read(source)).toEqual(ORIGINAL);
  });
});

test.each([
  ['LOCAL_COOKIE', { ...ORIGINAL, local: ['east-pool', null] }],
  ['STATUS', { ...ORIGINAL, status: null, remarks: [NO_STATUS] }],
])('a missing variable is not guessed: %s', (name, expected) => {
  expect(read(script().replace(new RegExp(`local ${name} = .*`), ''))).toEqual(expected);
});

test('several remote sites are paired with their cookies', () => {
  const more = `
    if avi.http.get_cookie("SOUTH") then avi.pool.select("remote-south") end
    if avi.http.get_cookie("NORTH") then avi.pool.select("remote-north") end`;
  expect(read(`${script()}${more}`).remotes).toEqual([
    ['west-pool', 'DDVHSLLQ'],
    ['remote-south', 'SOUTH'],
    ['remote-north', 'NORTH'],
  ]);
});

test('what goes beyond the original rules is said, with its line', () => {
  const source = `${script()}
avi.vs.log("decided")
avi.http.add_header("X-Site", "east")
if avi.http.get_path() == "/login" then avi.http.redirect("/sso") end
avi.pool.select(REMOTE_POOL, "10.0.0.1")
avi.pool.select("pool-" .. n)
helper()`;
  const first = script().split('\n').length + 1;
  expect(read(source).remarks).toEqual([
    `${first}: avi.vs.log is not part of the original rules`,
    `${first + 1}: avi.http.add_header is not part of the original rules`,
    `${first + 2}: avi.http.redirect is not part of the original rules`,
    `${first + 2}: the path "/login" is treated in a way of its own`,
    `${first + 3}: avi.pool.select names a server, which the original rules do not`,
    `${first + 4}: avi.pool.select: its name is computed, so it was not read`,
    `${first + 5}: helper is not part of the original rules`,
  ]);
});

test('the printed config is right but for what is marked, and check names exactly that', () => {
  const printed = printImportedConfig(settingsOf(script()), 'site.lua');
  const marked = printed.split('\n').flatMap((line, index) => (/^[^#]*: <fill in>/.test(line) ? [index + 1] : []));
  expect(problemLines(printed)).toEqual(marked);
  let count = 0;
  const filled = printed.replace(/: <fill in>/g, () => `: site-${++count}`);
  const config = onlyApplication(filled);
  expect(config.localPool).toMatchObject({ cluster: 'east-pool', cookie: { name: 'KVAAVROI' } });
  expect(config.remotePools).toMatchObject([{ cluster: 'west-pool', cookie: { name: 'DDVHSLLQ' } }]);
});

test('a name that cannot be used here is marked, and never ends its comment', () => {
  const printed = printImportedConfig(
    settingsOf(script({}, (text) => (text === 'east-pool' ? '"east\\npool: x"' : `"${text}"`))),
    'site.lua',
  );
  expect(printed).toMatch(/cluster: <fill in> +# line 3 has "east\\npool: x", which cannot be used here/);
});

test('what is no Lua is said with its line and column', () => {
  expect(() => readLuaScript('local a = 1\nif a then')).toThrow(
    new NotLua("'end' expected near '<eof>'", { line: 2, column: 10 }),
  );
});

test('whatever the bytes, there is a config or an error that says where', () => {
  const piece = fc.constantFrom(
    ...script().split(/\b/),
    'avi.pool.select',
    '"',
    "'",
    '[[',
    ']]',
    '--',
    'then',
    'end',
    '\n',
  );
  const source = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(piece, { maxLength: 40 }).map((parts) => parts.join(' ')),
  );
  fc.assert(
    fc.property(source, (text) => {
      try {
        const settings = findOriginalSettings(readLuaScript(text));
        if (!('lacks' in settings)) problemLines(printImportedConfig(settings, text));
      } catch (error) {
        expect(error).toBeInstanceOf(NotLua);
      }
    }),
    { numRuns: 2_000 },
  );
});

test('a script nested thousands of levels deep is read or refused', () => {
  const source = `${'if a then '.repeat(5_000)}${'end '.repeat(5_000)}`;
  try {
    readLuaScript(source);
  } catch (error) {
    expect(error).toBeInstanceOf(NotLua);
  }
});

/** The lines that `check` finds something on. */
function problemLines(yaml: string): number[] {
  try {
    parseConfig(yaml, 'site.yaml');
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [...new Set(error.message.split('\n').map((line) => Number(/^site\.yaml:(\d+)/.exec(line)?.[1])))];
  }
}
