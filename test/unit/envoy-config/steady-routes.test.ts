import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { applicationsOf, ENVOY_VERSIONS } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { siteKeys } from '../../../src/contract.ts';
import { decide, ownerName } from '../../../src/decision/decide.ts';
import { createPolicy } from '../../../src/decision/policy.ts';
import { matchRoute } from '../../../src/doctor/route-match.ts';
import { routesOf } from '../../../src/envoy-config/routes.ts';
import {
  carriedSites,
  createRequestMatcher,
  LOCAL_TWICE,
  type RequestMatcher,
} from '../../../src/ext-proc/request-matcher.ts';
import { tree } from '../../support/json-tree.ts';

/** What Cookie headers are made of that names and separators are looked for in. */
const pieces = fc.constantFrom(
  ...[
    'KEAST=',
    'KWEST=',
    'NORTH=',
    'OLDEAST=',
    'WEST=',
    'KEAST',
    'X',
    'K',
    '=',
    '=x',
    'a=1',
    '"',
    '; ',
    ',',
    ', ',
    ';',
    ' ',
    '\t',
    'é',
  ],
);
const cookieHeaders = fc.array(pieces, { maxLength: 12 }).map((all) => all.join(''));
const paths = fc
  .array(fc.constantFrom('/', 'status', '/status', '%73', '%2F', '%', '2', '//', '.'), { maxLength: 5 })
  .map((all) => `/${all.join('')}`);

describe.each(ENVOY_VERSIONS)('for Envoy %s', (version) => {
  test.each([
    ['remote', 'none', { east: '', west: '' }],
    ['local', 'none', { east: '', west: '' }],
    // As when a name is changed, of which one is a part of the other.
    ['remote', 'some', { east: ', also: [OLDEAST]', west: ', also: [WEST]' }],
    ['local', 'some', { east: ', also: [OLDEAST]', west: ', also: [WEST]' }],
  ])(
    'a steady route decides as the sidecar, whatever cookies and path, both_cookies: %s, other names: %s',
    (both, _, also) => {
      const config = parseConfig(
        `
site: east
both_cookies: ${both}
status_uri: /status
local_pool: { cookie: { name: KEAST${also.east} }, cluster: local, servers: ["10.0.0.1:80"] }
remote_pools:
  - { site: west, cookie: { name: KWEST${also.west} }, cluster: west, servers: ["10.1.0.1:80"] }
  - { site: north, cookie: NORTH, cluster: north, servers: ["10.2.0.1:80"] }
envoy: { listen: "127.0.0.1:80", version: "${version}" }
`,
        'site.yaml',
        'rendering',
      );
      const [application] = applicationsOf(config);
      if (application === undefined) throw new Error('no application');
      const policy = createPolicy(application);
      const matcher = createRequestMatcher(policy, application.statusUri);
      const runtime = new Map(siteKeys(application).map((key) => [key, '100']));
      const routes = routesOf(application);
      let steady = 0;
      fc.assert(
        fc.property(cookieHeaders, paths, fc.boolean(), (cookie, path, hasHop) => {
          const headers = { ...(cookie === '' ? {} : { cookie }), ...(hasHop ? { 'x-site-hop': 'west' } : {}) };
          const route = tree(routes.find((each) => matchRoute(each, { path, headers, runtime }) === 'yes'));
          if (!String(route.name).startsWith('steady_')) return;
          steady++;
          const found = sidecarSees(matcher, cookie, path);
          const decision = decide(
            policy,
            { health: { known: true, up: [true, true, true] }, draining: false },
            { isStatusUri: found.isStatusUri, hasHop, cookies: carriedSites(found.cookies) },
          );
          // What is to expire only the sidecar takes away.
          if ('expire' in decision) expect(decision.expire).toBe(0);
          const said = tree(route, 'metadata', 'filter_metadata', 'site_persistence');
          // The route of the status URI knows no owner.
          const owner = decision.reason === 'status' ? undefined : ownerName(policy, decision.owner);
          expect([said.decision, said.owner]).toEqual([decision.reason, owner]);
          // A client that may not be sticky here is told of, by the sidecar.
          if (decision.reason === 'local') expect(found.cookies & LOCAL_TWICE).toBe(0);
        }),
        { numRuns: 2_000 },
      );
      expect(steady).toBeGreaterThan(100);
    },
  );
});

function sidecarSees(matcher: RequestMatcher, cookie: string, path: string) {
  const [cookieBytes, pathBytes] = [Buffer.from(cookie), Buffer.from(path)];
  return {
    cookies: matcher.cookieSites(cookieBytes, 0, cookieBytes.length),
    isStatusUri: matcher.isStatusUri(pathBytes, 0, pathBytes.length),
  };
}
