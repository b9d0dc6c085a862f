import { expect, test } from 'vitest';
import { applicationsOf, ENVOY_VERSIONS } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { HOP_HEADER, POOL_HEADER, siteKeys } from '../../../src/contract.ts';
import { matchRoute } from '../../../src/doctor/route-match.ts';
import { routesOf } from '../../../src/envoy-config/routes.ts';
import { tree } from '../../support/json-tree.ts';

function applicationOf(settings: string) {
  const config = parseConfig(
    `
site: east
${settings}
local_pool: { cookie: { name: KEAST, also: [OLDEAST] }, cluster: local, servers: ["10.0.0.1:80"] }
remote_pools:
  - { site: west, cookie: KWEST, cluster: west, servers: ["10.1.0.1:80"], redirect: "https://shop.west.example.com" }
  - { site: north, cookie: NORTH, cluster: north, servers: ["10.2.0.1:80"], redirect: "http://shop.north.example.com:8080" }
`,
    'site.yaml',
    'rendering',
  );
  const [application] = applicationsOf(config);
  if (application === undefined) throw new Error('no application');
  return application;
}

type Headers = Readonly<Record<string, string>>;

/** The name of the route that takes a GET of `/`. */
function createTaker(application: ReturnType<typeof applicationOf>, keys: '0' | '100') {
  const routes = routesOf(application);
  const runtime = new Map(siteKeys(application).map((key) => [key, keys] as const));
  return (headers: Headers) => {
    const route = routes.find((each) => matchRoute(each, { path: '/', headers, runtime }) === 'yes');
    return String(tree(route).name);
  };
}

const COOKIES = ['KEAST', 'OLDEAST', 'KWEST', 'NORTH'];
const SETS = Array.from({ length: 2 ** COOKIES.length }, (_, set) => COOKIES.filter((_, at) => (set >> at) & 1));

const of = (authority: string): Headers => ({ ':authority': authority });

/** What may be redirected, and what may not. */
const PLAIN: readonly Headers[] = [
  {},
  { 'sec-fetch-dest': 'iframe' },
  { ':method': 'POST', 'content-length': '999999', 'content-type': 'application/json' },
  ...['shop.north.example.com', 'xshop.west.example.com', 'shop.west.example.com:8443'].map(of),
];
const PROXIED: readonly Headers[] = [
  { upgrade: 'websocket' },
  { 'content-type': 'application/grpc+proto' },
  ...['empty', 'image', 'script'].map((dest) => ({ 'sec-fetch-dest': dest })),
  { ':method': 'POST', 'content-length': '1000000' },
  // Of a length that nobody knows.
  { ':method': 'POST' },
  { [HOP_HEADER]: 'west' },
  ...['shop.west.example.com', 'SHOP.West.example.com', 'shop.west.example.com:443', 'shop.west.example.com.:443'].map(
    of,
  ),
  ...['shop.north.example.com:8080', 'shop.north.EXAMPLE.com.:8080'].map(of),
];

/** Between them every difference that versions make. */
const OLDEST_AND_NEWEST = ENVOY_VERSIONS.filter((_, index) => [0, ENVOY_VERSIONS.length - 1].includes(index));

const SETTINGS = OLDEST_AND_NEWEST.flatMap((version) =>
  ['adopt', 'keep', 'refuse'].flatMap((onOwnerDown) =>
    ['remote', 'local'].map((both) => ({ version, onOwnerDown, both })),
  ),
);

test.each(SETTINGS)(
  'only a session of one other site, that was not forwarded, is redirected, to that site and never from its own address: %j',
  ({ version, onOwnerDown, both }) => {
    const application = applicationOf(
      `on_owner_down: ${onOwnerDown}\nboth_cookies: ${both}\nenvoy: { listen: "127.0.0.1:80", version: "${version}" }`,
    );
    const wrong: string[] = [];
    let redirected = 0;
    for (const keys of ['0', '100'] as const) {
      const take = createTaker(application, keys);
      for (const names of SETS) {
        for (const more of [...PLAIN, ...PROXIED]) {
          for (const decided of ['', 'local', 'west', 'north']) {
            const headers = {
              ...{ ':authority': 'shop.example.com', ':method': 'GET' },
              cookie: ['a=1', ...names.map((name) => `${name}=x`)].join('; '),
              ...more,
              ...(decided === '' ? {} : { [POOL_HEADER]: decided }),
            };
            const owner = names.join() === 'KWEST' ? 'west' : names.join() === 'NORTH' ? 'north' : '';
            const isRedirected = owner !== '' && ['', owner].includes(decided) && PLAIN.includes(more);
            const name = take(headers);
            const isRight = isRedirected ? name.endsWith(`_${owner}_redirect`) : !name.endsWith('_redirect');
            if (!isRight) wrong.push(`${JSON.stringify(headers)}: ${name}`);
            redirected += Number(isRedirected);
          }
        }
      }
    }
    expect(wrong).toEqual([]);
    expect(redirected).toBeGreaterThan(0);
  },
);

test('what is not redirected takes the route that is there without redirect', () => {
  const settings = 'envoy: { listen: "127.0.0.1:80" }';
  const application = applicationOf(settings);
  const remotePools = application.remotePools.map((pool) => ({ ...pool, redirect: null }));
  const others = routesOf(application).filter((route) => !String(tree(route).name).endsWith('_redirect'));
  expect(others).toEqual(routesOf({ ...application, remotePools }));
});

test('another name of the cookie is redirected as well', () => {
  const application = applicationOf('envoy: { listen: "127.0.0.1:80" }');
  const remotePools = application.remotePools
    .slice(0, 1)
    .map((pool) => ({ ...pool, cookie: { ...pool.cookie, also: ['OLDWEST'] } }));
  const take = createTaker({ ...application, remotePools }, '100');
  expect(take({ ':authority': 'a', cookie: 'OLDWEST=x', ':method': 'GET' })).toBe('undecided_west_redirect');
  expect(take({ ':authority': 'a', cookie: 'OLDWEST=x; KWEST=x', ':method': 'GET' })).toBe('steady_west_redirect');
});
