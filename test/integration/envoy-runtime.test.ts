import pino from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { parseConfig } from '../../src/config/load.ts';
import { openKey, siteKey } from '../../src/contract.ts';
import { EnvoyRuntime } from '../../src/envoy-runtime/envoy-runtime.ts';
import { Hold } from '../../src/envoy-runtime/hold.ts';
import { type ApplicationSites, type FastPathState, SiteKeys } from '../../src/envoy-runtime/site-keys.ts';
import { ChangeLog } from '../../src/log/changes.ts';
import { FakeAdmin } from '../support/fake-admin.ts';

const EAST = siteKey('default', 'east');
const WEST = siteKey('default', 'west');

let admin: FakeAdmin;
let log: string[];
const opened: Keys[] = [];

beforeEach(async () => {
  admin = await FakeAdmin.start();
  log = [];
});
afterEach(async () => {
  for (const keys of opened.splice(0)) await keys.close();
  await admin.close();
});

interface Keys {
  readonly siteKeys: SiteKeys;
  update(): Promise<void>;
  state(application?: string): FastPathState;
  close(): Promise<void>;
}

interface Setting {
  /** Whether a site is up, this one first; null: not known. */
  readonly isUp?: (site: number) => boolean | null;
  readonly isEnabled?: boolean;
  readonly holdUpMs?: number;
  readonly applications?: readonly ApplicationSites[];
}

const SITES = ['east', 'west'];

/** The keys as one sidecar keeps them. */
function create({ isUp = () => true, isEnabled = true, holdUpMs = 0, applications }: Setting = {}): Keys {
  const logger = pino({ base: null }, { write: (line: string) => void log.push(JSON.parse(line).msg) });
  const siteKeys = new SiteKeys({
    ...{ isEnabled, holdUpMs, changes: new ChangeLog(logger) },
    applications: applications ?? [{ name: 'default', sites: SITES }],
    isUp: (_, site) => isUp(site),
  });
  const runtime = new EnvoyRuntime({ admin: admin.address, pollIntervalMs: 20, parts: [siteKeys] });
  const keys: Keys = {
    siteKeys,
    update: () => runtime.update(),
    state: (application = 'default') => siteKeys.state(application),
    async close() {
      siteKeys.stop();
      await runtime.close();
    },
  };
  opened.push(keys);
  return keys;
}

const keyNow = (key = EAST) => admin.runtime.get(key);
const writes = () => admin.requests.filter((path) => path.startsWith('/runtime_modify'));

describe('the keys of the sites', () => {
  test('are set and taken away as health has it, and each is said once', async () => {
    let isLocalUp = true;
    const keys = create({ isUp: (site) => site === 1 || isLocalUp });
    for (let count = 0; count < 3; count++) await keys.update();
    expect([keyNow(), keyNow(WEST), keys.state(), writes().length]).toEqual(['100', '100', 'on', 1]);
    isLocalUp = false;
    for (let count = 0; count < 3; count++) await keys.update();
    expect([keyNow(), keyNow(WEST), keys.state(), writes().length]).toEqual(['0', '100', 'off', 2]);
    expect(log).toEqual([
      'the fast path is on: requests that need no decision do not leave Envoy',
      'the fast path is off: requests for this site ask the sidecar',
    ]);
  });

  test('are taken away without being asked for first', async () => {
    let isUp = true;
    const keys = create({ isUp: () => isUp });
    await keys.update();
    isUp = false;
    const before = admin.requests.length;
    await keys.update();
    expect(admin.requests.slice(before)).toEqual([`/runtime_modify?${EAST}=0&${WEST}=0`]);
  });

  test('are set again when Envoy has lost them', async () => {
    const keys = create();
    await keys.update();
    admin.runtime.clear();
    await untilKeyIs('100', keys);
  });

  test('follow a change that comes while Envoy is being asked', async () => {
    let isUp = true;
    const keys = create({ isUp: () => isUp });
    const first = keys.update();
    isUp = false;
    await Promise.all([first, keys.update()]);
    expect(keyNow() ?? '0').toBe('0');
  });

  test.each(['closing', 'truncated', 'html', 'wrong status'] as const)(
    'are taken away as soon as Envoy takes it, when it answered first like this: %s',
    async (mood) => {
      let isUp = true;
      const keys = create({ isUp: () => isUp });
      await keys.update();
      isUp = false;
      admin.mood = mood;
      for (let count = 0; count < 3; count++) await keys.update();
      expect(keyNow()).toBe('100');
      admin.mood = 'well';
      await keys.update();
      expect(keyNow()).toBe('0');
    },
  );

  test('that Envoy does not let be set is said once, and not asked for at every poll', async () => {
    admin.hasAdminLayer = false;
    const keys = create();
    for (let count = 0; count < 5; count++) await keys.update();
    expect(keys.state()).toBe('refused');
    expect(admin.requests).toHaveLength(2);
    expect(log).toHaveLength(1);
    expect(log[0]).toMatch(/503.*No admin layer specified.*admin_layer in layered_runtime/);
  });

  test('are taken away at the end', async () => {
    const keys = create();
    await keys.update();
    await keys.close();
    expect([keyNow(), keyNow(WEST)]).toEqual(['0', '0']);
  });

  test('do not keep a stop waiting when Envoy hangs', async () => {
    const keys = create();
    await keys.update();
    admin.mood = 'silent';
    const startedAtMs = performance.now();
    await keys.close();
    expect(performance.now() - startedAtMs).toBeLessThan(2_500);
  });

  test.each(['100', '0', undefined])(
    'that an earlier process left are taken away where they are not used: %s',
    async (left) => {
      if (left !== undefined) admin.runtime.set(EAST, left);
      const keys = create({ isEnabled: false });
      for (let count = 0; count < 3; count++) await keys.update();
      expect(keyNow() ?? '0').toBe('0');
      expect(keys.state()).toBe('unused');
      expect(writes()).toHaveLength(left === '100' ? 1 : 0);
      expect(log).toEqual([]);
    },
  );

  test('are not asked for at every poll where they may not be read', async () => {
    admin.mood = 'wrong status';
    const keys = create({ isEnabled: false });
    for (let count = 0; count < 3; count++) await keys.update();
    expect(admin.requests).toHaveLength(1);
    expect(log).toEqual([]);
  });

  test('follow the config: of one application more they are set, of one less taken away, the others are left alone', async () => {
    const of = (...names: readonly string[]) => names.map((name) => ({ name, sites: ['east'] }));
    const keys = create({ applications: of('shop', 'mail') });
    const key = (name: string) => keyNow(siteKey(name, 'east'));
    await keys.update();
    expect([key('shop'), key('mail')]).toEqual(['100', '100']);
    keys.siteKeys.follow(of('mail', 'wiki'));
    await keys.update();
    expect([key('shop'), key('mail'), key('wiki')]).toEqual(['0', '100', '100']);
    expect(writes().map((path) => path.includes(siteKey('mail', 'east')))).toEqual([true, false]);
    expect([keys.state('shop'), keys.state('wiki')]).toEqual(['unused', 'on']);
    keys.siteKeys.follow(of('a', 'b', 'c', 'd'));
    await keys.update();
    expect(log.at(-1)).toBe('the fast path of 4 applications is on: requests that need no decision do not leave Envoy');
  });
});

/** Updates in turn, as polls do, until the key is so. */
async function untilKeyIs(value: string, ...sidecars: readonly Keys[]): Promise<void> {
  await waitUntil(
    async () => {
      for (const keys of sidecars) await keys.update();
      return keyNow() === value;
    },
    { what: `the key to be ${value}` },
  );
}

/** Updates in turn for a while. @returns how often the key was written on and off meanwhile */
async function watch(ms: number, ...sidecars: readonly Keys[]): Promise<{ on: number; off: number }> {
  const before = writes().length;
  const untilMs = performance.now() + ms;
  await waitUntil(
    async () => {
      for (const keys of sidecars) await keys.update();
      return performance.now() > untilMs;
    },
    { what: 'the time to pass', intervalMs: 5 },
  );
  const made = writes().slice(before);
  const of = (value: string) => made.filter((path) => path.includes(`${EAST}=${value}`)).length;
  return { on: of('100'), off: of('0') };
}

describe('sidecars of one Envoy that disagree', () => {
  test('do not fight: off wins, and the other tries again only now and then', async () => {
    const [sure, doubtful] = [create(), create({ isUp: () => false })];
    const { on, off } = await watch(3_000, sure, doubtful);
    expect(keyNow()).toBe('0');
    // At once, and after 2 s; never at each poll, of which there are hundreds.
    expect(on).toBeLessThanOrEqual(3);
    expect(off).toBeLessThanOrEqual(3);
  });

  test('one that does not know health writes nothing', async () => {
    const [sure, stale] = [create(), create({ isUp: () => null })];
    await sure.update();
    expect(await watch(300, sure, stale)).toEqual({ on: 0, off: 0 });
    expect(keyNow()).toBe('100');
  });

  test('one that has just started leaves off for hold_up what it finds off', async () => {
    admin.runtime.set(EAST, '0');
    const started = create({ holdUpMs: 60_000 });
    expect(await watch(300, started)).toEqual({ on: 0, off: 0 });
  });

  test('one that has just started sets at once what its predecessor took away when it stopped', async () => {
    const before = create();
    await before.update();
    await before.close();
    const next = create();
    await next.update();
    expect(keyNow()).toBe('100');
  });

  test('a site that comes back is set by the one that took it away, though another waits', async () => {
    let isUp = true;
    const [one, other] = [create({ isUp: () => isUp }), create({ isUp: () => isUp })];
    await untilKeyIs('100', one, other);
    isUp = false;
    await untilKeyIs('0', one, other);
    isUp = true;
    await one.update();
    expect(keyNow()).toBe('100');
    expect((await watch(300, one, other)).off).toBe(0);
  });

  test('what a sidecar took away that has died the other sets after a while', async () => {
    let isUp = true;
    const [died, other] = [create({ isUp: () => isUp }), create({ isUp: () => isUp })];
    await untilKeyIs('100', died, other);
    isUp = false;
    await untilKeyIs('0', died);
    isUp = true;
    await untilKeyIs('100', other);
  });
});

describe('a hold', () => {
  const config = parseConfig(
    'site: east\nlocal_pool: { cluster: l, cookie: E }\nremote_pools: [{ site: west, cluster: w, cookie: W }]\n',
    'site.yaml',
  );

  /** A sidecar that takes each site for up that is not held. */
  function createHolding() {
    const changes = new ChangeLog(
      pino({ base: null }, { write: (line: string) => void log.push(JSON.parse(line).msg) }),
    );
    const hold = new Hold(() => config, changes);
    const siteKeys = new SiteKeys({
      ...{ isEnabled: true, holdUpMs: 0, changes, applications: [{ name: 'default', sites: SITES }] },
      isUp: (application, _, name) => !hold.sitesOf(application).has(name),
    });
    const runtime = new EnvoyRuntime({ admin: admin.address, pollIntervalMs: 20, parts: [hold, siteKeys] });
    opened.push({
      siteKeys,
      update: () => runtime.update(),
      state: () => siteKeys.state('default'),
      close: () => runtime.close(),
    });
    return { hold, runtime };
  }

  test('takes the key of the site away at once, for all sidecars of the Envoy, and its end brings it back at once', async () => {
    const [one, other] = [createHolding(), createHolding()];
    await one.runtime.update();
    await other.runtime.update();
    expect([keyNow(EAST), keyNow(WEST)]).toEqual(['100', '100']);
    one.hold.start('west', null, { forMs: null, reason: 'rehearsal' });
    const before = writes().length;
    await one.runtime.update();
    expect([keyNow(EAST), keyNow(WEST), keyNow(openKey('default', 'west'))]).toEqual(['100', '0', '0']);
    await waitUntil(
      async () => {
        await other.runtime.update();
        return other.hold.of('default', 'west') !== null;
      },
      { what: 'the other to hold it' },
    );
    // The other has nothing to add.
    expect(writes().length - before).toBe(1);
    one.hold.end('west', null, 'release was asked for');
    await one.runtime.update();
    expect([keyNow(EAST), keyNow(WEST), keyNow(openKey('default', 'west'))]).toEqual(['100', '100', '100']);
  });
});
