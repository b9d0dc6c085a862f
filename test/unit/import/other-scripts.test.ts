import { expect, test } from 'vitest';
import { importText } from '../../../src/import/import-text.ts';

const NO_COUNT = 'never asks how many servers of a pool are up';
const NO_COOKIE = "selects no other site's pool by the presence of that site's cookie";

test.each([
  ['an empty file', '', [NO_COUNT, NO_COOKIE]],
  ['only comments', '-- HTTP_REQ\n', [NO_COUNT, NO_COOKIE]],
  [
    'JSESSIONID persistence',
    `local id = avi.http.get_cookie("JSESSIONID")
if id then avi.vs.persist(id) avi.vs.table_insert("sessions", id, avi.pool.server_ip(), 3600) avi.pool.select("app") end`,
    [NO_COUNT, NO_COOKIE],
  ],
  [
    'JSESSIONID persistence with a sorry page',
    `if avi.pool.get_servers("app") < 1 then avi.http.response(503) end
local id = avi.http.get_cookie("JSESSIONID")
if id then avi.vs.persist(id) avi.pool.select("app") end`,
    [NO_COOKIE],
  ],
  [
    'JSESSIONID persistence that counts servers',
    `local up = avi.pool.get_servers("app-2")
if avi.http.cookie_exists("JSESSIONID") and up > 0 then avi.pool.select("app-2") end`,
    [NO_COOKIE],
  ],
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
