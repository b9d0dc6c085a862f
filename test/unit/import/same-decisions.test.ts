import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { decide } from '../../../src/decision/decide.ts';
import { createPolicy, LOCAL, type Policy } from '../../../src/decision/policy.ts';
import { importText } from '../../../src/import/import-text.ts';
import { LuaRun } from '../../../src/import/lua-run.ts';
import { readLuaScript } from '../../../src/import/lua-script.ts';
import { CookieValue } from '../../../src/import/lua-values.ts';
import { printImportedConfig } from '../../../src/import/print-config.ts';
import { onlyApplication } from '../../support/only-application.ts';

const SCRIPT = readFileSync(new URL('../../fixtures/datascript/original.lua', import.meta.url), 'utf8');
const HAS_REMOTE = 'avi.http.cookie_exists(remote_site_server_persistence_cookie_name)';
const HAS_LOCAL = 'avi.http.cookie_exists(local_site_server_persistence_cookie_name)';

const THREE_SITES = SCRIPT.replaceAll(/^remote_.*$/gm, '').replace(
  /^if \(avi(.|\n)*/m,
  `west_up, north_up = avi.pool.get_servers("west"), avi.pool.get_servers("north")
if avi.http.cookie_exists("WEST") and west_up > 0 then avi.pool.select("west")
elseif avi.http.cookie_exists("NORTH") and north_up > 0 then avi.pool.select("north")
elseif local_pool_servers_up_count < 1 then
  if west_up > 0 then avi.pool.select("west") else avi.pool.select("north") end
end`,
);

const NAMELESS = `
local_site_cookie = "KVAAVROI"
local up = avi.pool.get_servers("east")
if avi.http.get_path() == "/status" then if up > 0 then avi.http.response(200) else avi.http.response(503) end return end
if avi.http.get_cookie("DDVHSLLQ") ~= nil and avi.pool.get_servers("west") > 0 then avi.pool.select("west")
elseif up > 0 then avi.pool.select("east") else avi.pool.select("west") end`;

test.each([
  ['the original script', SCRIPT],
  ['of three sites', THREE_SITES],
  ['with its names in the calls', NAMELESS],
  [
    'failing over only to a pool that is up',
    SCRIPT.replace(
      'local_pool_servers_up_count < 1',
      '(local_pool_servers_up_count < 1 and remote_pool_servers_up_count >= 1)',
    ),
  ],
  ['asking for the local cookie first', SCRIPT.replace(HAS_REMOTE, `not ${HAS_LOCAL} and ${HAS_REMOTE}`)],
  [
    'asking for the local cookie last',
    `${SCRIPT}\nif ${HAS_LOCAL} and local_pool_servers_up_count > 0 then avi.pool.select(local_pool) end`,
  ],
  [
    'with a second cookie of the other site',
    SCRIPT.replace(HAS_REMOTE, `(${HAS_REMOTE} or avi.http.cookie_exists("DDVHOLD"))`),
  ],
])('a script %s becomes a config that decides the same, whatever the cookies and the pools', (_, source) => {
  const policy = policyOf(source);
  const clusters = policy.sites.map(({ cluster }) => cluster);
  const named = new Set(['DDVHOLD', ...policy.sites.flatMap(({ cookieNames }) => cookieNames)]);
  for (const cookies of subsets([...named])) {
    for (const up of subsets(clusters)) {
      const pool = poolByScript(source, { cookies, up }) ?? clusters[LOCAL];
      // A pool that is down serves nobody: there the sidecar may know better.
      if (pool === undefined || !up.includes(pool)) continue;
      expect({ cookies, up, pool: poolByConfig(policy, { cookies, up }) }).toEqual({ cookies, up, pool });
    }
  }
});

interface Situation {
  readonly cookies: readonly string[];
  readonly up: readonly string[];
}

function policyOf(source: string): Policy {
  const imported = importText(source);
  if (imported.kind !== 'original') throw new Error(imported.why);
  let count = 0;
  const printed = printImportedConfig(imported.scripts[0].settings, 'site.lua');
  return createPolicy(onlyApplication(printed.replace(/site: <fill in>/g, () => `site: site-${++count}`)));
}

function poolByConfig(policy: Policy, { cookies, up }: Situation): string | undefined {
  const bits = policy.sites.map(({ cookieNames }, site) =>
    cookieNames.some((n) => cookies.includes(n)) ? 1 << site : 0,
  );
  const decision = decide(
    policy,
    { health: { known: true, up: policy.sites.map(({ cluster }) => up.includes(cluster)) }, draining: false },
    { isStatusUri: false, hasHop: false, cookies: bits.reduce((all, bit) => all | bit, 0) },
  );
  return 'pool' in decision ? policy.sites[decision.pool]?.cluster : undefined;
}

/** The pool selected last; undefined where none is, which leaves the request to the virtual service's own. */
function poolByScript(source: string, { cookies, up }: Situation): string | undefined {
  let pool: string | undefined;
  const run = new LuaRun(
    {
      call: (name, [text]) => {
        if (typeof text !== 'string') return ['/'];
        if (name === 'avi.pool.select') pool = text;
        if (name === 'avi.pool.get_servers') return [up.includes(text) ? 2 : 0, 2];
        if (name === 'avi.http.get_cookie') return [cookies.includes(text) ? new CookieValue(text) : undefined];
        return [name === 'avi.http.cookie_exists' && cookies.includes(text)];
      },
      choose: () => {
        throw new Error('nothing here is unknown');
      },
      compared: () => {},
    },
    10_000,
  );
  run.follow(readLuaScript(source).chunk);
  return pool;
}

function subsets<Item>(items: readonly Item[]): Item[][] {
  return Array.from({ length: 2 ** items.length }, (_, bits) => items.filter((_, index) => (bits >> index) & 1));
}
