import { describe, expect, test } from 'vitest';
import { ENVOY_VERSIONS } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { ownerName } from '../../../src/decision/decide.ts';
import { createPolicy } from '../../../src/decision/policy.ts';
import { readSnapshot } from '../../../src/doctor/envoy-snapshot.ts';
import { gatherFacts } from '../../../src/doctor/facts.ts';
import { readerOf } from '../../../src/doctor/route-survey.ts';
import { allProbes, type Steady, surveySteady } from '../../../src/doctor/steady-probes.ts';
import { list, type Tree, tree } from '../../support/json-tree.ts';
import { AROUND, answersOf, fakeEnvoy } from './fake-envoy.ts';

interface Setting {
  readonly onOwnerDown: string;
  readonly bothCookies: string;
  readonly version: string;
  readonly applications: boolean;
  /** Whether the cookies of east and west have other names as well. */
  readonly also?: boolean;
  /** Whether west's sessions are sent to its own address. */
  readonly redirects?: boolean;
}

/** Site east, with west, north and, as `K` is a part of other names, a cookie that every other one looks like. */
function configOf({ onOwnerDown, bothCookies, version, applications, also = false, redirects = false }: Setting) {
  const cookie = (name: string, other: string) => (also ? `{ name: ${name}, also: [${other}] }` : name);
  const pools = `
local_pool: { cookie: ${cookie('KEAST', 'OLDEAST')}, cluster: local, servers: ["10.0.0.1:80", "10.0.0.2:80"] }
remote_pools:
  - { site: west, cookie: ${cookie('KWEST', 'WEST')}, cluster: west, servers: ["10.1.0.1:80"]${redirects ? ', redirect: "https://west.example.com"' : ''} }
  - { site: north, cookie: NORTH, cluster: north, servers: ["10.2.0.1:80"] }`;
  const listed = `
applications:
  - name: shop
    hosts: [shop.example.com]${pools.replaceAll('\n', '\n    ')}
  - name: wiki
    hosts: ["*"]
    local_pool: { cookie: WIKIEAST, servers: ["10.0.0.3:80"] }
    remote_pools: [{ site: west, cookie: WIKIWEST, servers: ["10.1.0.1:80"] }]`;
  const text = `
site: east
on_owner_down: ${onOwnerDown}
both_cookies: ${bothCookies}
envoy: { listen: "127.0.0.1:80", version: "${version}" }
${applications ? listed : pools}
`;
  return parseConfig(text, 'site.yaml', 'rendering');
}

function surveyOf(setting: Setting, change: (routes: unknown[]) => unknown[] = (routes) => routes) {
  const config = configOf(setting);
  const envoy = { ...fakeEnvoy(config), version: `${setting.version}.0` };
  const { applications } = gatherFacts(config, readSnapshot(answersOf(envoy)), AROUND);
  const [facts] = applications;
  const [edge] = facts?.edges ?? [];
  const [host] = edge?.hostMap.all ?? [];
  if (facts === undefined || edge === undefined || host === undefined) throw new Error('no routes');
  const { application, snapshot } = facts;
  const changed = { ...host, config: { ...tree(host.config), routes: change(list(host.config, 'routes')) } };
  const reader = readerOf([application], snapshot);
  const options = { application, host: changed, extProc: edge.extProc, reader };
  return { steady: surveySteady(allProbes(application), options), policy: createPolicy(application) };
}

const WITH_OTHER_NAMES = ['adopt', 'keep', 'refuse'].flatMap((onOwnerDown) =>
  ['remote', 'local'].map(
    (bothCookies): Setting => ({
      version: '1.40',
      onOwnerDown,
      bothCookies,
      applications: bothCookies === 'local',
      also: true,
    }),
  ),
);

const WITH_REDIRECTS = WITH_OTHER_NAMES.map((setting) => ({
  ...setting,
  redirects: true,
  version: setting.applications ? '1.36' : '1.40',
}));

const SETTINGS = ENVOY_VERSIONS.flatMap((version) =>
  ['adopt', 'keep', 'refuse'].flatMap((onOwnerDown) =>
    ['remote', 'local'].flatMap((bothCookies) =>
      [false, true].map((applications): Setting => ({ version, onOwnerDown, bothCookies, applications })),
    ),
  ),
);

describe('the steady routes', () => {
  test.each([...SETTINGS, ...WITH_OTHER_NAMES, ...WITH_REDIRECTS])(
    'decide nothing otherwise than the sidecar, in every state and with all cookies: %j',
    (setting) => {
      const { steady, policy } = surveyOf(setting);
      expect(steady.filter(({ isRight }) => !isRight).map(describeSteady)).toEqual([]);
      expect(steady.length).toBeGreaterThan(0);
      for (const { route, decision } of steady) {
        const { decision: said, owner } = tree(route, 'metadata', 'filter_metadata', 'site_persistence');
        expect([said, owner ?? 'none']).toEqual([
          decision.reason,
          said === 'status' ? 'none' : ownerName(policy, decision.owner),
        ]);
      }
    },
  );

  test('take each row that needs no answer', () => {
    const setting = { version: '1.40', onOwnerDown: 'adopt', bothCookies: 'remote', applications: false } as const;
    // Sites up: 4 of 8 states have a site up. Per such a state: own and new, forwarded or not, on two paths that are no
    // status URI, and it, forwarded or not, with each of 8 sets of cookies; each remote session without this site's.
    const { steady } = surveyOf(setting);
    const local = 4 * 2 * 2;
    const status = 8 * 2;
    const forwarded = 2;
    // A path that begins like the status URI is asked for.
    expect(steady).toHaveLength(4 * (local / 2 / 2 + status) + 2 * 4 * (forwarded / 2));
  });

  const broken: readonly (readonly [what: string, from: string, change: (matchers: Tree[]) => Tree[]])[] = [
    ['take what is forwarded', 'steady_west', (all) => all.filter(({ name }) => name !== 'x-site-hop')],
    ['overlook a cookie', 'steady_new', (all) => all.filter(({ name }) => name !== 'cookie')],
    ['overlook a second cookie', 'steady_west', (all) => all.filter(({ invert_match }) => invert_match !== true)],
    ['take the status URI', 'steady_new', (all) => all.filter(({ name }) => name !== ':path')],
  ];
  test('are found out when they keep an old name of the own cookie', () => {
    const setting = { version: '1.40', onOwnerDown: 'adopt', bothCookies: 'remote', applications: false, also: true };
    const { steady } = surveyOf(setting, (routes) =>
      routes.map((route) => {
        if (!['steady_own', 'steady_new'].includes(String(tree(route).name))) return route;
        const match = tree(route, 'match');
        const isOfOld = (matcher: unknown) => JSON.stringify(matcher).includes('"OLDEAST="');
        return {
          ...tree(route),
          match: { ...match, headers: list(match, 'headers').filter((each) => !isOfOld(each)) },
        };
      }),
    );
    const wrongs = steady.filter(({ isRight }) => !isRight);
    expect(wrongs.length).toBeGreaterThan(0);
    expect(wrongs.every(({ probe }) => probe.cookieNames.includes('OLDEAST'))).toBe(true);
  });

  test.each(broken)('are found out when they %s', (_, from, change) => {
    const setting = { version: '1.40', onOwnerDown: 'adopt', bothCookies: 'remote', applications: false } as const;
    const { steady } = surveyOf(setting, (routes) =>
      routes.map((route) => {
        if (tree(route).name !== from) return route;
        const match = tree(route, 'match');
        return {
          ...tree(route),
          match: { ...match, headers: change(list(match, 'headers').map((each) => tree(each))) },
        };
      }),
    );
    expect(steady.filter(({ isRight }) => !isRight).length).toBeGreaterThan(0);
  });
});

function describeSteady({ probe, route, sentTo, decision }: Steady) {
  return `${JSON.stringify(probe)}: ${JSON.stringify(tree(route).name)} to ${sentTo.join()} not ${JSON.stringify(decision)}`;
}
