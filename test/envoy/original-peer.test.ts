import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Client } from '../support/client.ts';
import { EAST_COOKIE, patchYaml, startTwoSites, type TwoSites, WEST_COOKIE } from '../support/two-sites.ts';

/** The original rules, while both sites are up: the status URI, a remote site's cookie → that site, else the local pool. */
const ORIGINAL_RULES = `
function envoy_on_request(handle)
  if handle:headers():get(":path") == "/local_pool_status" then
    handle:respond({[":status"] = "200", ["content-type"] = "text/html"}, "LOCAL POOL STATE: UP")
    return
  end
  local cookies = handle:headers():get("cookie") or ""
  if string.find(cookies, "${EAST_COOKIE}=", 1, true) then
    handle:headers():replace("x-site-pool", "remote_pool")
  else
    handle:headers():replace("x-site-pool", "local_pool")
  end
  handle:clearRouteCache()
end`;

interface Bootstrap {
  static_resources: {
    listeners: { filter_chains: { filters: { typed_config: ConnectionManager }[] }[] }[];
    clusters: { name: string; typed_extension_protocol_options?: unknown }[];
  };
}

interface ConnectionManager {
  http_filters: { name: string; typed_config: unknown }[];
  route_config: { virtual_hosts: { routes: { request_headers_to_add?: unknown }[] }[] };
}

/** West without a sidecar: a Lua filter decides, no hop header is added, and no cookie is ever expired. */
const withoutSidecar = patchYaml((bootstrap: Bootstrap) => {
  const manager = bootstrap.static_resources.listeners[0]?.filter_chains[0]?.filters[0]?.typed_config;
  if (manager === undefined) throw new Error('no connection manager');
  manager.http_filters[0] = {
    name: 'envoy.filters.http.lua',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua',
      default_source_code: { inline_string: ORIGINAL_RULES },
    },
  };
  for (const route of manager.route_config.virtual_hosts[0]?.routes ?? []) delete route.request_headers_to_add;
  for (const cluster of bootstrap.static_resources.clusters) {
    if (cluster.name === 'remote_pool') delete cluster.typed_extension_protocol_options;
  }
});

describe.each([
  ['remote', 3],
  ['local', 1],
] as const)('a peer with the original rules, both_cookies: %s', (bothCookies, mostForwards) => {
  let lab: TwoSites;
  beforeAll(async () => {
    lab = await startTwoSites({
      configure: (file) => Object.assign(file, { both_cookies: bothCookies }),
      patchBootstrap: (text, site) => (site === 'west' ? withoutSidecar(text) : text),
    });
  });
  afterAll(async () => await lab?.close());

  test.each(['east', 'west'] as const)(
    `a request with both cookies at %s is served after at most ${mostForwards} forwards`,
    async (edge) => {
      const client = new Client();
      client.cookies.set(EAST_COOKIE, 'x');
      client.cookies.set(WEST_COOKIE, 'x');
      const answer = await client.ask(`${lab[edge].url}/both-at-${edge}`);
      expect(answer.site).toBe('east');
      await client.request(`${lab.east.url}/marker-${edge}`);
      await lab.east.envoy?.waitForLine(new RegExp(`marker-${edge}`));
      await new Client().request(`${lab.west.url}/marker-${edge}`);
      await lab.west.envoy?.waitForLine(new RegExp(`marker-${edge}`));
      const passes = lab.sites
        .flatMap((site) => site.envoy?.lines ?? [])
        .filter((l) => l.includes(`/both-at-${edge}"`));
      expect(passes.length - 1).toBeLessThanOrEqual(mostForwards);
      expect([...client.cookies.keys()]).toEqual([EAST_COOKIE]);
      client.close();
    },
  );
});
