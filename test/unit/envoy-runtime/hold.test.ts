import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { Hold } from '../../../src/envoy-runtime/hold.ts';
import { ChangeLog } from '../../../src/log/changes.ts';
import { TestLog } from '../../integration/site.ts';
import { share } from './share.ts';

beforeEach(() => {
  vi.useFakeTimers({ now: Date.parse('2026-01-01T10:00:00Z') });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const SHOP = 'shop';
const MAIL = 'mail';
const REHEARSAL = { forMs: null, reason: 'rehearsal' };

/** Applications by name, each with its other sites. */
function configOf(applications: Readonly<Record<string, readonly string[]>>): Config {
  const list = Object.entries(applications).map(
    ([name, sites]) => `
  - name: ${name}
    hosts: [${name}.example.com]
    local_pool: { cookie: ${name}E }
    remote_pools: [${sites.map((site) => `{ site: ${site}, cookie: ${name}-${site} }`).join(', ')}]`,
  );
  return parseConfig(`site: east\napplications:${list.join('')}\n`, 'site.yaml');
}

const BOTH = configOf({ shop: ['west', 'north'], mail: ['west'] });

function holdOf(first: Config = BOTH) {
  let config = first;
  const log = new TestLog();
  const hold = new Hold(() => config, new ChangeLog(log.logger));
  const reload = (next: Config) => {
    config = next;
    hold.follow();
  };
  const held = () =>
    config.applications.flatMap(({ name }) => [...hold.sitesOf(name)].map((site) => `${site} for ${name}`)).join();
  return { hold, reload, held, lines: () => log.lines.map(({ message }) => message) };
}

test('a site is held for every application that has it, or for those that are named', () => {
  const { hold, held, lines } = holdOf();
  hold.start('west', null, { forMs: 7_200_000, reason: 'link flaps' });
  expect(held()).toBe('west for shop,west for mail');
  expect(lines()).toEqual([
    'west is held for shop (link flaps), until 2026-01-01T12:00:00.000Z: it counts as down here',
    'west is held for mail (link flaps), until 2026-01-01T12:00:00.000Z: it counts as down here',
  ]);
  hold.end('west', [SHOP], 'release was asked for');
  hold.start('north', [SHOP], REHEARSAL);
  expect(held()).toBe('north for shop,west for mail');
  expect(lines().slice(2)).toEqual([
    'west is no longer held for shop: release was asked for',
    'north is held for shop (rehearsal), until release: it counts as down here',
  ]);
});

test('of a config with one application for every host the log names none', () => {
  const plain = parseConfig(
    'site: east\nlocal_pool: { cluster: l, cookie: E }\nremote_pools: [{ site: west, cluster: w, cookie: W }]\n',
    'site.yaml',
  );
  const { hold, lines } = holdOf(plain);
  hold.start('west', null, REHEARSAL);
  hold.end('west', null, 'release was asked for');
  expect(lines()).toEqual([
    'west is held (rehearsal), until release: it counts as down here',
    'west is no longer held: release was asked for',
  ]);
});

test('a hold ends by its time, to the millisecond that it says', () => {
  const { hold, held, lines } = holdOf();
  hold.start('north', null, { forMs: 60_000, reason: 'rehearsal' });
  vi.advanceTimersByTime(59_999);
  expect(held()).toBe('north for shop');
  vi.advanceTimersByTime(1);
  expect(held()).toBe('');
  expect(lines().at(-1)).toBe('north is no longer held for shop: its time is over');
});

test('a hold begins and ends by one look at the clock', () => {
  const { hold } = holdOf();
  let nowMs = Date.now();
  vi.spyOn(Date, 'now').mockImplementation(() => nowMs++);
  hold.start('north', null, { forMs: 60_000, reason: 'rehearsal' });
  const { sinceMs = 0, untilMs } = hold.of(SHOP, 'north') ?? {};
  expect(untilMs).toBe(sinceMs + 60_000);
});

test('a hold for all applications is one for what a reload adds; what it takes out is held no more', () => {
  const { hold, reload, held } = holdOf(configOf({ shop: ['west'] }));
  hold.start('west', null, REHEARSAL);
  reload(configOf({ shop: ['west'], mail: ['west'], wiki: ['north'] }));
  expect(held()).toBe('west for shop,west for mail');
  reload(configOf({ shop: ['north'], mail: ['west'] }));
  expect(held()).toBe('west for mail');
  reload(configOf({ shop: ['north'] }));
  reload(configOf({ shop: ['west'] }));
  // Its end has been said, and in between nobody could release it.
  expect(held()).toBe('');
  hold.start('west', null, REHEARSAL);
  hold.end('west', null, 'release was asked for');
  reload(BOTH);
  expect(held()).toBe('');
});

test('the end of one application leaves a hold for all others, and what a reload adds, in force', () => {
  const { hold, reload, held } = holdOf(configOf({ shop: ['west'], mail: ['west'] }));
  hold.start('west', null, REHEARSAL);
  hold.start('west', [SHOP], { forMs: 1_000, reason: 'shorter' });
  vi.advanceTimersByTime(1_000);
  reload(configOf({ shop: ['west'], mail: ['west'], wiki: ['west'] }));
  expect(held()).toBe('west for mail,west for wiki');
});

test('a hold is shared with its end and reason, keeps Envoy from the site, and so is its end', () => {
  const values = new Map<string, string>();
  const [one, other] = [holdOf(), holdOf()];
  one.hold.start('west', [SHOP], { forMs: 60_000, reason: 'ticket 7: "Umzug" & mehr' });
  share(values, one.hold, other.hold);
  expect(other.hold.of(SHOP, 'west')).toEqual({
    sinceMs: Date.now(),
    untilMs: Date.now() + 60_000,
    reason: 'ticket 7: "Umzug" & mehr',
  });
  const end = String(Date.now() / 1_000 + 60);
  expect(Object.fromEntries(values)).toEqual({
    'site_persistence.hold.shop.west': end,
    'site_persistence.hold_note.shop.west': `${Date.now() / 1_000} ${Date.now()} ticket 7: "Umzug" & mehr`,
    'site_persistence.hold_open.shop.west': '0',
  });
  other.hold.end('west', null, 'release was asked for');
  share(values, other.hold, one.hold);
  expect(one.held()).toBe('');
  expect(one.lines().at(-1)).toBe('west is no longer held for shop: another sidecar ended it');
  expect(values.get('site_persistence.hold.shop.west')).toBe('0');
  expect(values.get('site_persistence.hold_open.shop.west')).toBe('100');
  // It is told once.
  expect([...one.hold.plan(values), ...other.hold.plan(values)]).toEqual([]);
});

test('a hold outlives the sidecar that began it, and is set again in an Envoy that has lost it', () => {
  const values = new Map<string, string>();
  const one = holdOf();
  one.hold.start('west', null, REHEARSAL);
  share(values, one.hold);
  one.hold.close();
  expect(one.lines().at(-1)).toBe('west stays held for mail: this sidecar stops, and Envoy knows of the hold');
  const next = holdOf();
  share(values, next.hold);
  expect(next.hold.of(MAIL, 'west')).toMatchObject({ untilMs: null, reason: 'rehearsal' });
  const before = Object.fromEntries(values);
  values.clear();
  share(values, next.hold);
  expect(Object.fromEntries(values)).toEqual(before);
});

describe('what another sidecar sets again in an Envoy that has restarted, and comes late,', () => {
  const SHORT = { forMs: 1_000, reason: 'shorter' };

  /** @param change what is asked of one sidecar before the other's comes */
  function heldByBoth(change: (one: Hold) => void) {
    const values = new Map<string, string>();
    const [one, other] = [holdOf(), holdOf()];
    one.hold.start('west', [SHOP], REHEARSAL);
    share(values, one.hold, other.hold);
    values.clear();
    const late = other.hold.plan(values);
    share(values, one.hold);
    change(one.hold);
    share(values, one.hold);
    for (const [key, value] of late) values.set(key, value);
    share(values, one.hold, other.hold);
    return { values, one, other };
  }

  test('does not undo an end', () => {
    const { values, one, other } = heldByBoth((hold) => hold.end('west', null, 'release was asked for'));
    expect([one.held(), other.held()]).toEqual(['', '']);
    expect(values.get('site_persistence.hold.shop.west')).toBe('0');
    expect(values.get('site_persistence.hold_open.shop.west')).toBe('100');
    expect(one.lines().at(-1)).toBe('west is no longer held for shop: release was asked for');
  });

  test('does not undo a change', () => {
    const { values, one, other } = heldByBoth((hold) => hold.start('west', [SHOP], SHORT));
    for (const { hold } of [one, other]) expect(hold.of(SHOP, 'west')).toMatchObject({ reason: 'shorter' });
    vi.advanceTimersByTime(1_000);
    share(values, one.hold, other.hold);
    expect([one.held(), other.held(), values.get('site_persistence.hold.shop.west')]).toEqual(['', '', '0']);
  });

  test('is in force where it is the later one, also after the clock was set back', () => {
    const { values, one, other } = heldByBoth((hold) => hold.end('west', null, 'release was asked for'));
    vi.setSystemTime(Date.now() - 3_600_000);
    other.hold.start('west', [SHOP], SHORT);
    share(values, other.hold, one.hold);
    expect([one.held(), other.held()]).toEqual(['west for shop', 'west for shop']);
  });
});

test('a key that somebody has set by hand is gone by', () => {
  const values = new Map([['site_persistence.hold.shop.west', '9999999999']]);
  const [one, other] = [holdOf(), holdOf()];
  share(values, one.hold, other.hold);
  expect(one.hold.of(SHOP, 'west')).toEqual({ sinceMs: Date.now(), untilMs: null, reason: '' });
  one.hold.start('west', [SHOP], REHEARSAL);
  share(values, one.hold, other.hold);
  values.set('site_persistence.hold.shop.west', '0');
  share(values, one.hold, other.hold);
  expect([one.held(), other.held()]).toEqual(['', '']);
});

test('a hold whose end has come while no sidecar ran ends in Envoy too', () => {
  const past = String(Date.now() / 1_000 - 1);
  const values = new Map([
    ['site_persistence.hold.shop.west', past],
    ['site_persistence.hold_open.shop.west', '0'],
  ]);
  const { hold, held } = holdOf();
  share(values, hold);
  expect(held()).toBe('');
  expect(Object.fromEntries(values)).toMatchObject({
    'site_persistence.hold.shop.west': '0',
    'site_persistence.hold_open.shop.west': '100',
  });
});

test('what a reload takes out is taken out of Envoy as well', () => {
  const values = new Map<string, string>();
  const { hold, reload } = holdOf();
  hold.start('north', null, REHEARSAL);
  share(values, hold);
  reload(configOf({ mail: ['west'] }));
  expect(hold.keys()).toContain('site_persistence.hold_open.shop.north');
  share(values, hold);
  expect(values.get('site_persistence.hold.shop.north')).toBe('0');
  expect(values.get('site_persistence.hold_open.shop.north')).toBe('100');
  share(values, hold);
  expect(hold.keys()).not.toContain('site_persistence.hold_open.shop.north');
});

test('a route that was left closed without a hold is opened', () => {
  const values = new Map([['site_persistence.hold_open.shop.west', '0']]);
  share(values, holdOf().hold);
  expect(values.get('site_persistence.hold_open.shop.west')).toBe('100');
});

test('a hold that Envoy does not take is said to be that of one sidecar', () => {
  const { hold, lines } = holdOf();
  hold.refused();
  hold.start('north', null, REHEARSAL);
  expect(lines().at(-1)).toMatch(/; only this sidecar holds it, for Envoy does not let its runtime be written$/);
  hold.close();
  expect(lines().at(-1)).toBe('the hold of north for shop ends with this sidecar: Envoy could not store it');
});
