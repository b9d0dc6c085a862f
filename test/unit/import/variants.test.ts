import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { importText } from '../../../src/import/import-text.ts';
import { ORIGINAL_CALLS } from '../../../src/import/original-settings.ts';

const SCRIPT = readFileSync(new URL('../../fixtures/datascript/original.lua', import.meta.url), 'utf8');

function read(source: string) {
  const imported = importText(source);
  if (imported.kind !== 'original') throw new Error(imported.why);
  const { statusUri, local, remotes, remarks } = imported.scripts[0].settings;
  return {
    status: statusUri?.value ?? null,
    local: [local.pool?.value ?? null, local.cookie?.value ?? null],
    remotes: remotes.map(({ pool, cookie }) => [pool?.value ?? null, cookie?.value ?? null]),
    remarks: remarks.map(({ line, text }) => `${line}: ${text}`),
  };
}

const SETTINGS = {
  status: '/local_pool_status',
  local: ['local_pool', 'KVAAVROI'],
  remotes: [['remote_pool', 'DDVHSLLQ']],
  remarks: [],
};

/** What a script without the names of variables can say: it never uses the local cookie. */
const UNNAMED = { ...SETTINGS, local: ['east', null], remotes: [['west', 'DDVHSLLQ']] };

test('the script of the Avi examples is read without a remark, each setting with its line', () => {
  expect(read(SCRIPT)).toEqual(SETTINGS);
  const imported = importText(SCRIPT);
  expect(imported).toMatchObject({
    kind: 'original',
    scripts: [
      {
        settings: {
          statusUri: { line: 13 },
          local: { pool: { line: 9 }, cookie: { line: 4 } },
          remotes: [{ pool: { line: 11 }, cookie: { line: 7 } }],
        },
      },
    ],
  });
});

describe('the same rules, written in another way', () => {
  const local = SCRIPT.replaceAll(/^(local_|remote_)(?=\w+ =)/gm, 'local $1');
  test.each([
    ['with local variables', local],
    [
      'in one assignment',
      `local_pool, remote_pool = "local_pool", "remote_pool"\n${without(SCRIPT, /^\w+_pool = .*$/gm)}`,
    ],
    ['the path instead of the URI', SCRIPT.replace('get_uri()', 'get_path()')],
    ['the URI not decoded', SCRIPT.replace('get_uri()', 'get_uri(false)')],
    ['in lower case', SCRIPT.replace('avi.http.get_uri()', 'string.lower(avi.http.get_uri())')],
    ['by a method of the text', SCRIPT.replace('avi.http.get_uri()', 'avi.http.get_uri():lower()')],
    ['the other way round', SCRIPT.replace(/avi.http.get_uri\(\) == (\w+)/, '$1 == avi.http.get_uri()')],
    [
      'by string.find',
      SCRIPT.replace(/avi.http.get_uri\(\) == (\w+)/, 'string.find(avi.http.get_uri(), $1, 1, true) == 1'),
    ],
    [
      'by string.match',
      SCRIPT.replace(/avi.http.get_uri\(\) == (\w+)/, 'string.match(avi.http.get_uri(), "^" .. $1 .. "$")'),
    ],
    ['by string.sub', SCRIPT.replace(/avi.http.get_uri\(\) == (\w+)/, 'string.sub(avi.http.get_uri(), 1, #$1) == $1')],
    [
      'by string.beginswith',
      SCRIPT.replace(/avi.http.get_uri\(\) == (\w+)/, 'string.beginswith(avi.http.get_uri(), $1)'),
    ],
    ['the cookie read', SCRIPT.replace('cookie_exists(', 'get_cookie(')],
    [
      'the cookie compared with nil',
      SCRIPT.replace(/avi.http.cookie_exists\((\w+)\)/, '(avi.http.get_cookie($1) or "") ~= ""'),
    ],
    ['the context named', SCRIPT.replace(/cookie_exists\((\w+)\)/, 'cookie_exists($1, avi.HTTP_REQUEST)')],
    [
      'a short name of the API',
      `local http, pool = avi.http, avi.pool\n${SCRIPT.replace(/avi\.(http|pool)\./g, '$1.')}`,
    ],
    ['as a function', `local function decide()\n${SCRIPT}\nend\ndecide()`],
    ['in several ifs', SCRIPT.replace(/if \(avi(.|\n)*/, (rules) => nested(rules))],
    [
      'the pool chosen in a variable',
      SCRIPT.replace(
        /\n {2}avi.pool.select\(remote_pool\)\nend/,
        '\n  target = remote_pool\nend\nif target then avi.pool.select(target) end',
      ),
    ],
    [
      'a helper for the count',
      `local function up(pool) local n = avi.pool.get_servers(pool); return tonumber(n) >= 1 end\n${SCRIPT.replace(
        /(\w+_pool)_servers_up_count >= 1/g,
        'up($1)',
      ).replace('local_pool_servers_up_count < 1', 'not up(local_pool)')}`,
    ],
    [
      'a table of settings',
      SCRIPT.replace(/^(local_site|remote_site|local_pool|remote_pool)(\w*) = (".*")/gm, 'c.$1$2 = $3')
        .replace(/\((local_pool|remote_pool|remote_site\w+)\)/g, '(c.$1)')
        .replace('uri() == ', 'uri() == c.')
        .replace(/^/, 'c = {}\n'),
    ],
    [
      'where only GET is looked at',
      SCRIPT.replace('if avi.http.get_uri()', 'if avi.http.method() == "GET" and avi.http.get_uri()'),
    ],
  ])('%s', (_, source) => {
    expect({ ...read(source), remarks: [] }).toEqual(SETTINGS);
  });

  test('the calls of these rules draw no remark', () => {
    expect(read(local).remarks).toEqual([]);
    expect(read(SCRIPT.replace('get_uri()', 'get_path()')).remarks).toEqual([]);
    expect(read(SCRIPT.replace('cookie_exists(', 'get_cookie(')).remarks).toEqual([]);
  });
});

describe('names written into the calls', () => {
  const RULES = `
local up = avi.pool.get_servers("east")
if avi.http.get_path() == "/local_pool_status" then
  if up >= 1 then avi.http.response(200, {content_type="text/html"}, "UP") else avi.http.response(503) end
end
if (avi.http.cookie_exists("DDVHSLLQ") and avi.pool.get_servers("west") >= 1) or up < 1 then avi.pool.select("west") end`;

  test('the pool answered to the status path is the local one, the cookie belongs to the pool it leads to', () => {
    expect(read(RULES)).toEqual(UNNAMED);
  });

  test.each([
    ['the only cookie that no call uses', 'COOKIE = "KVAAVROI"', 'KVAAVROI'],
    ['a cookie named as the local one', 'cookieOfThisSite = "KVAAVROI"\ncookie2 = "OTHER"', 'KVAAVROI'],
    ['no cookie, for there are two', 'a_cookie = "A"\nb_cookie = "B"', null],
    ['no cookie, for it is the other site’s', 'other_cookie = "A"', null],
  ])('the local cookie is %s', (_, line, cookie) => {
    expect(read(`${line}${RULES}`).local).toEqual(['east', cookie]);
  });

  test('a cookie that keeps a request here is the local one', () => {
    const first = RULES.replace(
      'avi.http.cookie_exists',
      'not avi.http.cookie_exists("KVAAVROI") and avi.http.cookie_exists',
    );
    expect(read(first).local).toEqual(['east', 'KVAAVROI']);
    const then = `${RULES}\nif avi.http.cookie_exists("KVAAVROI") and up > 0 then avi.pool.select("east") end`;
    expect(read(then)).toEqual({ ...UNNAMED, local: ['east', 'KVAAVROI'] });
  });

  test('without a status path, the local pool is the one whose failure sends requests elsewhere', () => {
    const { local, status, remarks } = read(RULES.replace(/^if avi.http.get_path(.|\n)*?^end/m, ''));
    expect([local, status]).toEqual([['east', null], null]);
    expect(remarks).toEqual([
      "null: no path is answered from the local pool's server count, so status_uri is left open",
    ]);
  });

  test('the local pool is left open where there are two', () => {
    const source = `local a, b = avi.pool.get_servers("a"), avi.pool.get_servers("b")
if avi.http.cookie_exists("X") and avi.pool.get_servers("west") > 0 then avi.pool.select("west")
elseif a < 1 and b < 1 then avi.pool.select("west") end`;
    expect(read(source)).toMatchObject({ local: [null, null], remotes: [['west', 'X']] });
  });
});

test('a second cookie of the same remote site is one more that tells it', () => {
  const source = SCRIPT.replace(
    '(avi.http.cookie_exists',
    '((avi.http.cookie_exists("OLD") or avi.http.cookie_exists',
  ).replace('cookie_name) and', 'cookie_name)) and');
  expect(read(source)).toEqual({ ...SETTINGS, remotes: [['remote_pool', 'OLD']] });
  const imported = importText(source);
  expect(imported).toMatchObject({
    scripts: [{ settings: { remotes: [{ also: [{ value: 'DDVHSLLQ', line: 7 }] }] } }],
  });
});

test('an application cookie is never the local one', () => {
  const source = SCRIPT.replace('(avi.http', '(not avi.http.cookie_exists("JSESSIONID") and avi.http');
  expect(read(source)).toMatchObject({ local: ['local_pool', 'KVAAVROI'], remotes: [['remote_pool', 'DDVHSLLQ']] });
});

test('chance may have a part in what does not choose a pool for ordinary clients', () => {
  const source = SCRIPT.replace(
    'local_pool_servers_up_count < 1  then',
    'local_pool_servers_up_count < 1 then\n  if math.random() > 0.5 then avi.vs.log("lucky") end',
  );
  expect(read(source)).toMatchObject({ ...SETTINGS, remarks: { length: 2 } });
});

test('sites in a table, one after the other', () => {
  const source = `
local_pool = "here"
for _, site in ipairs({ { cookie = "WEST", pool = "to-west" }, { cookie = "NORTH", pool = "to-north" } }) do
  if avi.http.cookie_exists(site.cookie) and avi.pool.get_servers(site.pool) > 0 then avi.pool.select(site.pool) end
end
if avi.pool.get_servers(local_pool) < 1 then avi.pool.select("to-west") end`;
  expect(read(source)).toMatchObject({
    local: ['here', null],
    remotes: [
      ['to-west', 'WEST'],
      ['to-north', 'NORTH'],
    ],
  });
});

test.each([
  ['the Cookie header', 'string.find(avi.http.get_header("Cookie") or "", "DDVHSLLQ=", 1, true)'],
  ["the cookies' names", 'has(avi.http.get_cookie_names(), "DDVHSLLQ")'],
])('a cookie that is looked for in %s', (_, condition) => {
  const source = `
function has(names, wanted) for _, name in ipairs(names) do if name == wanted then return true end end return false end
if ${condition} and avi.pool.get_servers("west") > 0 or avi.pool.get_servers("east") < 1 then avi.pool.select("west") end`;
  expect(read(source)).toMatchObject({ local: ['east', null], remotes: [['west', 'DDVHSLLQ']] });
  const imported = importText(source);
  expect(imported).toMatchObject({ scripts: [{ settings: { remotes: [{ cookie: { line: 3 } }] } }] });
});

test('three sites, one before the other', () => {
  const source = SCRIPT.replace(
    /^if \(avi(.|\n)*/m,
    `if avi.http.cookie_exists("WEST") and avi.pool.get_servers("west") > 0 then avi.pool.select("west")
elseif avi.http.cookie_exists("NORTH") and avi.pool.get_servers("north") > 0 then avi.pool.select("north")
elseif local_pool_servers_up_count < 1 then avi.pool.select("west") end`,
  );
  expect(read(source)).toMatchObject({
    status: '/local_pool_status',
    local: ['local_pool', 'KVAAVROI'],
    remotes: expect.arrayContaining([
      ['west', 'WEST'],
      ['north', 'NORTH'],
    ]),
  });
});

test('a table with this site too', () => {
  const source = `
sites = { east = { pool = "east", cookie = "KVAAVROI" }, west = { pool = "west", cookie = "DDVHSLLQ" } }
here = "east"
function up(name) local n = avi.pool.get_servers(sites[name].pool) return n end
for name, site in pairs(sites) do
  if name ~= here and avi.http.cookie_exists(site.cookie) and up(name) > 0 then avi.pool.select(site.pool) return end
end
if up(here) < 1 then avi.pool.select(sites.west.pool) end`;
  expect(read(source)).toMatchObject({ local: ['east', 'KVAAVROI'], remotes: [['west', 'DDVHSLLQ']] });
});

test('what the script does besides is said, and changes nothing', () => {
  const lines = SCRIPT.split('\n').length;
  const source = `${SCRIPT}
avi.http.add_header("X-Site", "east")
if avi.http.get_cookie("lang") == "fr" then avi.vs.log("fr") end
if string.beginswith(avi.http.get_path(), "/api") then avi.pool.select("api") end
if math.random() > 0.9 then print("lucky") end
if avi.http.hostname() == "old.example.com" then avi.http.redirect("https://new.example.com") return end
avi.pool.get_servers_status(local_pool)`;
  expect(read(source)).toEqual({
    ...SETTINGS,
    remarks: [
      `${lines + 1}: avi.http.add_header is not part of the original rules`,
      `${lines + 2}: "lang": this does not tell whether it is the local site's or a remote one's`,
      `${lines + 2}: avi.vs.log is not part of the original rules`,
      `${lines + 2}: the value of the cookie "lang" is compared: here a cookie counts by its presence`,
      `${lines + 3}: "api": this does not tell whether it is the local site's or a remote one's`,
      `${lines + 3}: the path "/api" is treated in a way of its own`,
      `${lines + 4}: math.random is not part of the original rules`,
      `${lines + 4}: print is not part of the original rules`,
      `${lines + 5}: avi.http.hostname is not part of the original rules`,
      `${lines + 5}: avi.http.redirect is not part of the original rules`,
      `${lines + 6}: avi.pool.get_servers_status is not part of the original rules`,
    ].toSorted((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10)),
  });
});

test('a pool that counts as up with more than one server is said', () => {
  const remarks = (few: string) => read(SCRIPT.replaceAll('count >= 1', `count >= ${few}`)).remarks;
  expect(remarks('2')).toEqual([
    'null: of 8 servers it wants 2 to be up before a pool counts as up: see min_up, here 1',
  ]);
  expect(remarks('local_pool_servers_total_count / 2')).toEqual([
    'null: of 8 servers it wants 4 to be up before a pool counts as up: see min_up, here 1',
  ]);
});

test('a pool of other requests is not taken for the local one', () => {
  const source = `if avi.http.cookie_exists("X") and avi.pool.get_servers("west") > 0 then avi.pool.select("west") end
if avi.pool.get_servers("east") < 1 then avi.pool.select("west") end
if avi.http.get_path() == "/api" then avi.pool.select("api") end`;
  expect(read(source)).toMatchObject({ local: ['east', null], remotes: [['west', 'X']] });
});

test('a long script with much else in it is still read, in a few seconds', () => {
  const more = Array.from(
    { length: 120 },
    (_, i) => `if avi.http.method() == "M${i}" then avi.http.add_header("H${i}", "v${i}-/x") end\n`,
  ).join('');
  expect(read(`${more}${SCRIPT}${more}`)).toMatchObject({ ...SETTINGS, remarks: { length: 480 } });
});

test('the guide from Avi names the calls that import knows, and no others', () => {
  const guide = readFileSync(new URL('../../../docs/from-avi-to-envoy.md', import.meta.url), 'utf8');
  const named = new Set(guide.match(/\bavi\.(http|pool|vs)\.\w+/g));
  expect([...named].filter((call) => !ORIGINAL_CALLS.includes(call))).toEqual([]);
  expect([...new Set(SCRIPT.match(/\bavi\.\w+\.\w+/g))].filter((call) => !named.has(call))).toEqual([]);
});

test('names in other scripts than Latin survive', () => {
  expect(read(SCRIPT.replace('"remote_pool"', '"pool-köln-東京"')).remotes).toEqual([['pool-köln-東京', 'DDVHSLLQ']]);
});

function without(text: string, pattern: RegExp): string {
  return text.replace(pattern, '');
}

function nested(rules: string): string {
  return rules.replace(
    /if .*\n.*\nend/,
    `local has_cookie = avi.http.cookie_exists(remote_site_server_persistence_cookie_name)
if has_cookie then
  if remote_pool_servers_up_count > 0 then avi.pool.select(remote_pool) end
end
if local_pool_servers_up_count == 0 then avi.pool.select(remote_pool) end`,
  );
}
