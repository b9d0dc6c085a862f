import { describe, expect, test } from 'vitest';
import { describeActivity, describeApplication, describeSite } from '../../../src/cli/describe-state.ts';
import { forEachReason } from '../../../src/metrics/counters.ts';
import { forEachSessionKind } from '../../../src/metrics/sessions.ts';
import type { SiteStateReport } from '../../../src/ops/state.ts';
import { verdictOf, verdictOfSite } from '../../../src/ops/verdict.ts';

type Pool = SiteStateReport['pools'][number];
type Application = SiteStateReport['applications'][number];

const NO_DRAIN = {
  ...{ draining: false, draining_since: null, draining_until: null, draining_reason: null, evicting: false },
} as const;

interface Told {
  readonly name: string;
  readonly isUp?: boolean;
  readonly draining?: boolean;
}

function poolOf(application: string, site: string, up: boolean): Pool {
  const address = '10.0.0.1:8080';
  return {
    ...{
      application,
      site,
      cluster: `${application}_${site}`,
      up,
      ops_url: null,
      health_known: true,
      known_to_envoy: true,
    },
    ...{
      servers_up: up ? 1 : 0,
      servers_total: 1,
      servers_draining: 0,
      min_up: 1,
      held_up: false,
      hold_up_left_ms: null,
      held: null,
    },
    hosts: [{ address, up, draining: false, why: up ? '' : 'failed outlier check' }],
  };
}

function applicationOf({ name, isUp = true, draining = false }: Told): Application {
  const pools = { local: { site: 'east', up: isUp, held: null }, others: [{ site: 'west', up: true, held: null }] };
  const { text, level } = verdictOf({
    ...{ site: 'east', isKnown: true, draining, drained: false, evicting: false, ownRequests: 3 },
    ...{ onOwnerDown: 'adopt', ...pools },
  });
  return {
    ...{ name, hosts: [`${name}.example.com`], verdict: text, verdict_level: level },
    ...{ ...NO_DRAIN, draining, draining_by_config: draining, fast_path: 'unused', duplicate_cookies: 0 },
    ...{ drained: false, own_requests_last_minute: 3, last_own_request: null },
    decisions: forEachReason(() => ({ total: 0, per_second: 0 })),
    sessions: forEachSessionKind(() => ({ total: 0, per_second: 0 })),
  };
}

/** The state of site east with these applications; west is the other site. */
function stateOf(told: readonly Told[]): SiteStateReport {
  const applications = told.map(applicationOf);
  const draining = applications.every((each) => each.draining);
  const verdicts = applications.map((each) => ({ level: each.verdict_level, text: each.verdict }));
  const { text, level } = verdictOfSite(verdicts);
  return {
    ...{ site: 'east', version: '1.2.3', started: '2026-01-01T00:00:00.000Z', not_ready: null },
    buttons: false,
    ...{ verdict: text, verdict_level: level },
    ...{ health_known: true, health_age_ms: 100, ...NO_DRAIN, draining, fast_path: 'unused', applications },
    pools: told.flatMap(({ name, isUp = true }) => [poolOf(name, 'east', isUp), poolOf(name, 'west', true)]),
    decisions: forEachReason(() => ({ total: 0, per_second: 0 })),
    ...{ duplicate_cookies: 0, other_hosts: 0 },
    changes: told.map(({ name }) => ({
      ...{ time: '2026-01-01T00:00:00.000Z', level: 'info', application: name, message: `pool of ${name} is up` },
    })),
  };
}

function many(count: number, unwell: readonly Told[] = []): Told[] {
  const others = new Map(unwell.map((told) => [told.name, told]));
  const names = Array.from({ length: count }, (_, index) => `app-${index + 1}`);
  return names.map((name) => others.get(name) ?? { name });
}

describe('the state of a site', () => {
  test('with one application has its verdict, its pools and their servers', () => {
    expect(describeSite(stateOf([{ name: 'default', isUp: false }]))).toEqual([
      "East's pool is down: west serves its clients.",
      'site east: not draining',
      'health known (polled 0.1 s ago)',
      '  default_east (east)  down  0 of 1 servers up',
      '    10.0.0.1:8080: down, failed outlier check',
      '  default_west (west)  up    1 of 1 servers up',
      '    10.0.0.1:8080: up',
    ]);
  });

  test('has a server that drains apart from those that are up and down', () => {
    const state = stateOf([{ name: 'default' }]);
    const [local, ...others] = state.pools;
    if (local === undefined) throw new Error('there is no pool');
    const hosts = [...local.hosts, { address: '10.0.0.2:8080', up: false, draining: true, why: 'draining' }];
    expect(describeSite({ ...state, pools: [{ ...local, servers_draining: 1, hosts }, ...others] }).slice(-5)).toEqual([
      '  default_east (east)  up    1 of 1 servers up, 1 draining',
      '    10.0.0.2:8080: draining',
      '    10.0.0.1:8080: up',
      '  default_west (west)  up    1 of 1 servers up',
      '    10.0.0.1:8080: up',
    ]);
  });

  test('has a site that is held, until when and why, and what hold_up still holds back', () => {
    const state = stateOf([{ name: 'default' }]);
    const [local, other] = state.pools;
    if (local === undefined || other === undefined) throw new Error('there is no pool');
    const held = { since: '2026-01-01T00:00:00.000Z', until: '2026-01-01T02:00:00.000Z', reason: 'flaps' };
    const heldBack = { ...local, up: false, held_up: true, hold_up_left_ms: 41_200 };
    expect(describeSite({ ...state, pools: [heldBack, { ...other, up: false, held }] }).slice(-5)).toEqual([
      '  default_east (east)  down  1 of 1 servers up, held back by hold_up, 42 s left',
      '    10.0.0.1:8080: up',
      '  default_west (west)  held  1 of 1 servers up',
      '    west held since 2026-01-01T00:00:00.000Z, until 2026-01-01T02:00:00.000Z (flaps)',
      '    10.0.0.1:8080: up',
    ]);
  });

  test('with a few has a line for each, those first that are not well', () => {
    expect(
      describeSite(stateOf([{ name: 'shop' }, { name: 'wiki-2', isUp: false }, { name: 'blog', draining: true }])),
    ).toEqual([
      '2 of 3 applications are not well.',
      "  warn  wiki-2  East's pool is down: west serves its clients.",
      "  warn  blog    Draining: new clients go elsewhere, 3 requests of east's sessions in the last minute.",
      '  ok    shop    East serves its clients.',
      '"status NAME" shows one of them',
      'site east: 1 of 3 applications draining',
      'health known (polled 0.1 s ago)',
    ]);
  });

  test('with 200 has a line for each that is not well, and the number of the others', () => {
    const state = stateOf(many(200, [{ name: 'app-150', isUp: false }]));
    expect(describeSite(state)).toEqual([
      '1 of 200 applications is not well.',
      "  warn  app-150  East's pool is down: west serves its clients.",
      '  ok    199 others',
      '"status NAME" shows one of them',
      'site east: not draining',
      'health known (polled 0.1 s ago)',
    ]);
  });

  test('with 200 that are well, or that drain, is short or says so of each', () => {
    expect(describeSite(stateOf(many(200))).slice(0, 3)).toEqual([
      'All 200 applications are well.',
      '  ok    200 of them',
      '"status NAME" shows one of them',
    ]);
    const draining = many(200).map((told) => ({ ...told, draining: true }));
    const [first, ...rest] = describeSite(stateOf(draining));
    expect([first, rest[201], rest.length]).toEqual([
      '200 of 200 applications are not well.',
      'site east: draining',
      203,
    ]);
  });
});

test('one application of many has its hosts, its pools and its own changes', () => {
  const state = stateOf([{ name: 'shop', draining: true }, { name: 'wiki' }]);
  const [shop] = state.applications;
  expect(shop === undefined ? [] : describeApplication(state, shop)).toEqual([
    "shop (shop.example.com): Draining: new clients go elsewhere, 3 requests of east's sessions in the last minute.",
    '  draining',
    '  3 requests of its own sessions in the last minute',
    '  shop_east (east)  up    1 of 1 servers up',
    '    10.0.0.1:8080: up',
    '  shop_west (west)  up    1 of 1 servers up',
    '    10.0.0.1:8080: up',
    '  decisions a second: none yet',
    '  sessions: 0 known/s, 0 new/s, 0 forwarded/s; since the start server gone 0, moved 0, adopted 0, both cookies 0',
    '  last changes:',
    '    2026-01-01T00:00:00.000Z  pool of shop is up',
  ]);
});

test('what becomes of sessions is said with what Envoy does not count', () => {
  const of = (total: number, perSecond = 0) => ({ total, per_second: perSecond });
  const usual = { known: of(4_000, 120), new: of(90, 3.5), forwarded: of(70, 2) };
  const sessions = { ...usual, server_gone: of(8), moved: of(5), adopted: of(2, 0.4), both_cookies: of(1) };
  const state = { ...stateOf([{ name: 'default' }]), sessions };
  expect(describeActivity(state, [])).toContain(
    'sessions: 120 known/s, 3.5 new/s, 2 forwarded/s; since the start server gone 8, moved 5, adopted 2, both cookies 1',
  );
  expect(describeActivity({ ...state, sessions: { ...sessions, server_gone: null } }, [])[1]).toMatch(
    /since the start server gone unknown, moved 5/,
  );
});
