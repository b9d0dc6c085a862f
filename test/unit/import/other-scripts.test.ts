import { expect, test } from 'vitest';
import { importText } from '../../../src/import/import-text.ts';

const NO_COUNT = 'never asks how many servers of a pool are up';
const NO_COOKIE = "selects no other site's pool by the presence of that site's cookie";
const NO_FAILOVER = "never sends a client without a cookie to another site's pool because the local pool is down";
const BY_CHANCE = 'leaves the choice of a pool to chance or the clock';

function notBy(cookie: string): string {
  return `${NO_COOKIE} (${cookie}: an application's own, set at every site)`;
}

/** A status URI as the original rules have it. */
const STATUS = `if avi.http.get_uri() == "/status" then
  if avi.pool.get_servers("app1") >= 1 then avi.http.response(200) else avi.http.response(503) end
end
`;

test.each([
  ['an empty file', '', [NO_COUNT, NO_COOKIE]],
  ['only comments', '-- HTTP_REQ\n', [NO_COUNT, NO_COOKIE]],
  [
    'JSESSIONID persistence',
    `local id = avi.http.get_cookie("JSESSIONID")
if id then avi.vs.persist(id) avi.vs.table_insert("sessions", id, avi.pool.server_ip(), 3600) avi.pool.select("app") end`,
    [NO_COUNT, notBy('JSESSIONID')],
  ],
  [
    'JSESSIONID persistence with a sorry page',
    `if avi.pool.get_servers("app") < 1 then avi.http.response(503) end
local id = avi.http.get_cookie("JSESSIONID")
if id then avi.vs.persist(id) avi.pool.select("app") end`,
    [notBy('JSESSIONID')],
  ],
  [
    'JSESSIONID persistence that counts servers',
    `local up = avi.pool.get_servers("app-2")
if avi.http.cookie_exists("JSESSIONID") and up > 0 then avi.pool.select("app-2") end`,
    [notBy('JSESSIONID')],
  ],
  ...['SESSIONID', 'PHPSESSID', 'wordpress_logged_in_1a2b', 'ASP.NET_SessionId'].map(
    (cookie): [string, string, string[]] => [
      `persistence by ${cookie}, with a status URI and a failover`,
      `${STATUS}if avi.http.cookie_exists("${cookie}") and avi.pool.get_servers("app2") >= 1 or avi.pool.get_servers("app1") < 1
then avi.pool.select("app2") end`,
      [notBy(cookie)],
    ],
  ),
  [
    'a pool drawn from a table, with a cookie and a failover',
    `local pools, up = { "app1", "app2" }, avi.pool.get_servers("app1")
if avi.http.cookie_exists("canary") and avi.pool.get_servers("app2") > 0 or up < 1 then avi.pool.select("app2")
else avi.pool.select(pools[math.random(#pools)]) end`,
    [BY_CHANCE],
  ],
  [
    'a beta pool',
    'if avi.http.cookie_exists("beta") and avi.pool.get_servers("beta_pool") >= 1 then avi.pool.select("beta_pool") end',
    [NO_FAILOVER],
  ],
  [
    'an A/B test',
    `b_up = avi.pool.get_servers("pool_b")
if avi.http.cookie_exists("AB_B") and b_up >= 1 then avi.pool.select("pool_b") else avi.pool.select("pool_a") end`,
    [NO_FAILOVER],
  ],
  [
    'blue and green',
    `local green, blue = avi.pool.get_servers("green"), avi.pool.get_servers("blue")
if avi.http.cookie_exists("green_optin") and green >= 1 then avi.pool.select("green") else avi.pool.select("blue") end`,
    [NO_FAILOVER],
  ],
  [
    'pools by language',
    `if avi.http.cookie_exists("lang_de") and avi.pool.get_servers("de") >= 1 then avi.pool.select("de")
elseif avi.http.cookie_exists("lang_fr") and avi.pool.get_servers("fr") >= 1 then avi.pool.select("fr") end`,
    [NO_FAILOVER],
  ],
  [
    'a pool for debugging, with a status URI',
    `${STATUS}if avi.http.cookie_exists("debug") and avi.pool.get_servers("debug") > 0 then avi.pool.select("debug") end`,
    [NO_FAILOVER],
  ],
  [
    'a pool by cookie, with a sorry pool',
    `${STATUS}if avi.http.cookie_exists("tester") then avi.pool.select("test")
elseif avi.pool.get_servers("app1") < 1 then avi.pool.select("sorry") end`,
    [NO_FAILOVER],
  ],
  ...['math.random(100) < 10', 'os.date("%H") > "22"', 'math.floor(os.time() / 60) % 2 == 0'].map(
    (chance): [string, string, string[]] => [
      `a sticky canary by ${chance}, with a status URI and a failover`,
      `${STATUS}local b = avi.pool.get_servers("app2")
if (avi.http.cookie_exists("canary") or ${chance}) and b >= 1 or avi.pool.get_servers("app1") < 1 then avi.pool.select("app2") end`,
      [BY_CHANCE],
    ],
  ),
  [
    'a server named by a cookie',
    'if avi.http.cookie_exists("ServerIP") then avi.pool.select("p", avi.http.get_cookie("ServerIP")) end',
    [NO_COUNT, NO_COOKIE],
  ],
  [
    'URI switching',
    'if string.beginswith(avi.http.get_path(), "/api") then avi.pool.select("api-pool") else avi.pool.select("web") end',
    [NO_COUNT, NO_COOKIE],
  ],
  [
    'URI switching with a fallback pool',
    `if avi.http.get_path() == "/api" and avi.pool.get_servers("api") > 0 then avi.pool.select("api") end`,
    [NO_COOKIE],
  ],
  ['a ratio', 'if math.random(100) <= 10 then avi.pool.select("canary") end', [NO_COUNT, NO_COOKIE]],
  [
    'a sticky canary',
    'if avi.http.cookie_exists("canary") or math.random(100) <= 10 then avi.pool.select("canary") end',
    [NO_COUNT],
  ],
  ['A/B by the value', 'if avi.http.get_cookie("ab") == "b" then avi.pool.select("b") end', [NO_COUNT, NO_COOKIE]],
  [
    'a header rewrite',
    'avi.http.replace_header("Host", "internal") avi.http.add_header("X-Forwarded-Proto", avi.http.protocol())',
    [NO_COUNT, NO_COOKIE],
  ],
  [
    'a redirect',
    'if avi.vs.port() ~= "443" then avi.http.redirect("https://" .. avi.http.hostname() .. avi.http.get_uri()) end',
    [NO_COUNT, NO_COOKIE],
  ],
  [
    'a fallback pool',
    `up, total = avi.pool.get_servers("primary")
if up < 1 then avi.pool.select("backup") else avi.pool.select("primary") end`,
    [NO_COOKIE],
  ],
  [
    "persistence by an encrypted cookie's content",
    `local_up, proxy_up = avi.pool.get_servers("local_pool"), avi.pool.get_servers("proxy_pool")
if avi.http.cookie_exists("site-cookie") then
  local site = avi.crypto.decrypt(avi.utils.base64_decode(avi.http.get_cookie("site-cookie")), key)
  if site == avi.vs.name() then avi.pool.select("local_pool") else avi.pool.select("proxy_pool") end
else avi.pool.select("local_pool") end`,
    [NO_COOKIE],
  ],
  [
    'calls in a comment',
    '-- avi.pool.get_servers("a") if avi.http.cookie_exists("b") then avi.pool.select("c") end',
    [NO_COUNT, NO_COOKIE],
  ],
  [
    'a function that nothing calls',
    'function f() avi.pool.get_servers("a") avi.pool.select("b") end',
    [NO_COUNT, NO_COOKIE],
  ],
  ['a loop without end', 'while true do avi.vs.log("x") end', [NO_COUNT, NO_COOKIE]],
  ['a recursion without end', 'function f() return f() end f()', [NO_COUNT, NO_COOKIE]],
])('%s is refused, with what it is not', (_, source, lacks) => {
  expect(importText(source)).toEqual({
    kind: 'other',
    why: `this is not the site-persistence script: it ${lacks.join(' and ')}`,
  });
});

test('a script whose texts grow without a bound is refused like any other', () => {
  const script = 'local a = "x" for i = 1, 60 do a = a .. a end avi.pool.select("p")';
  expect(importText(script)).toMatchObject({ kind: 'other' });
});
