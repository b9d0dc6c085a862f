import { describe, expect, test } from 'vitest';
import { applicationsOf, ENVOY_VERSIONS, type EnvoyVersion } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { openKey, REFUSED_HEADER } from '../../../src/contract.ts';
import { at, numberAt, textAt } from '../../../src/doctor/json.ts';
import { matchRoute } from '../../../src/doctor/route-match.ts';
import { routesOf } from '../../../src/envoy-config/routes.ts';

interface Settings {
  readonly onOwnerDown?: 'adopt' | 'keep' | 'refuse';
  readonly version?: EnvoyVersion;
  readonly redirect?: string;
}

/** The route of a request that no sidecar has decided, while these sites are held. */
function routed(cookies: readonly string[], held: readonly string[], settings: Settings = {}): unknown {
  const config = parseConfig(
    `
site: east
on_owner_down: ${settings.onOwnerDown ?? 'adopt'}
envoy: { listen: "127.0.0.1:80", version: "${settings.version ?? '1.40'}" }
local_pool: { cookie: KEAST, cluster: local, servers: ["10.0.0.1:80"] }
remote_pools:
  - { site: west, cookie: KWEST, cluster: west, servers: ["192.0.2.1:80"]${settings.redirect === undefined ? '' : `, redirect: "${settings.redirect}"`} }
  - { site: north, cookie: KNORTH, cluster: north, servers: ["192.0.2.2:80"] }
`,
    'site.yaml',
    'rendering',
  );
  const [application] = applicationsOf(config);
  if (application === undefined) throw new Error('there is no application');
  const cookie = cookies.map((name) => `${name}=x`).join('; ');
  const headers = { ':method': 'GET', ...(cookie === '' ? {} : { cookie }) };
  const runtime = new Map(held.map((site) => [openKey(application.name, site), '0'] as const));
  return routesOf(application).find((route) => matchRoute(route, { path: '/', headers, runtime }) === 'yes');
}

const nameOf = (route: unknown) => textAt(route, 'name');

test.each<[string, readonly string[], readonly string[]]>([
  ['undecided_west', ['KWEST'], []],
  ['undecided_west', ['KWEST'], ['north']],
  ['undecided_local', ['KWEST'], ['west']],
  ['undecided_local', ['KEAST', 'KWEST'], ['west']],
  ['undecided_north', ['KWEST', 'KNORTH'], ['west']],
  ['undecided_local', ['KWEST', 'KNORTH'], ['west', 'north']],
  ['undecided_local', [], ['west']],
])('%s takes the cookies %j while %j are held', (name, cookies, held) => {
  expect(nameOf(routed(cookies, held))).toBe(name);
});

test('nobody is redirected to a site that is held', () => {
  const settings = { redirect: 'https://west.example.com' };
  expect(nameOf(routed(['KWEST'], [], settings))).toBe('undecided_west_redirect');
  expect(nameOf(routed(['KWEST'], ['west'], settings))).toBe('undecided_local');
});

describe.each(ENVOY_VERSIONS)('under on_owner_down: refuse, for Envoy %s', (version) => {
  const settings = { onOwnerDown: 'refuse', version } as const;

  test('a session of a site that is held is refused', () => {
    const route = routed(['KWEST'], ['west'], settings);
    expect([nameOf(route), numberAt(route, 'direct_response', 'status')]).toEqual(['undecided_refused_west', 503]);
    expect(JSON.stringify(at(route, 'response_headers_to_add'))).toContain(`"key":"${REFUSED_HEADER}","value":"east"`);
  });

  test('what has another owner that is up is not', () => {
    expect(nameOf(routed(['KWEST'], [], settings))).toBe('undecided_west');
    expect(nameOf(routed(['KWEST', 'KNORTH'], ['west'], settings))).toBe('undecided_north');
    expect(nameOf(routed(['KEAST', 'KWEST'], ['west'], settings))).toBe('undecided_local');
    expect(nameOf(routed([], ['west'], settings))).toBe('undecided_local');
  });
});
