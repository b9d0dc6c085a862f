import { expect, test } from 'vitest';
import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { Drain } from '../../../src/envoy-runtime/drain.ts';
import { ChangeLog } from '../../../src/log/changes.ts';
import { TestLog } from '../../integration/site.ts';
import { share } from './share.ts';

const PLAIN = { forMs: null, evict: false, reason: '' };

function configOf(names: readonly string[], more = ''): Config {
  const list = names.map(
    (name) => `
  - name: ${name}
    hosts: [${name}.example.com]
    local_pool: { cookie: ${name}E }
    remote_pools: [{ site: west, cookie: ${name}W }]`,
  );
  return parseConfig(`site: east\n${more}applications:${list.join('')}\n`, 'site.yaml');
}

function drainOf(first: Config) {
  let config = first;
  const log = new TestLog();
  const drain = new Drain(() => config, new ChangeLog(log.logger));
  const reload = (next: Config) => {
    config = next;
    drain.follow();
  };
  const running = () => config.applications.map(({ name }) => name).filter((name) => drain.of(name) !== null);
  return { drain, reload, running, lines: () => log.lines.map(({ message }) => message) };
}

test('an application that a reload takes out drains no more, also when it comes back', () => {
  const { drain, reload, running, lines } = drainOf(configOf(['shop', 'mail']));
  drain.start(['mail'], PLAIN);
  expect(running()).toEqual(['mail']);
  reload(configOf(['shop']));
  reload(configOf(['shop', 'mail']));
  expect(running()).toEqual([]);
  expect(lines().at(-1)).toBe('application mail of site east is no longer draining: it is no longer in the config');
});

test('a drain of the site is one of what a reload adds, until any of it is ended', () => {
  const { drain, reload, running } = drainOf(configOf(['shop']));
  drain.start(null, PLAIN);
  reload(configOf(['shop', 'mail']));
  expect(running()).toEqual(['shop', 'mail']);
  drain.end(['shop'], 'undrain was asked for');
  reload(configOf(['shop', 'mail', 'wiki']));
  expect(running()).toEqual(['mail']);
  drain.end(null, 'undrain was asked for');
  expect(running()).toEqual([]);
});

test('what the config drains is not said to drain no longer', () => {
  const { drain, lines } = drainOf(configOf(['shop'], 'drain: true\n'));
  drain.start(['shop'], PLAIN);
  drain.end(['shop'], 'undrain was asked for');
  expect(lines().at(-1)).toMatch(/^application shop of site east still drains, as the config file says/);
});

test('a drain is shared, with its end, reason and whether it evicts, and so is its end', () => {
  const values = new Map<string, string>();
  const [one, other] = [drainOf(configOf(['shop', 'mail'])), drainOf(configOf(['shop', 'mail']))];
  one.drain.start(['shop'], { forMs: 60_000, evict: true, reason: 'ticket 7: "Umzug" & mehr' });
  share(values, one.drain, other.drain);
  expect(other.running()).toEqual(['shop']);
  const { untilMs = 0, ...said } = other.drain.of('shop') ?? {};
  expect(said).toMatchObject({ evict: true, reason: 'ticket 7: "Umzug" & mehr' });
  expect(Math.abs((untilMs ?? 0) - Date.now() - 60_000)).toBeLessThan(5_000);
  expect(other.lines().at(-1)).toMatch(
    /^application shop of site east is draining \(ticket 7: "Umzug" & mehr\), until /,
  );
  other.drain.end(null, 'undrain was asked for');
  share(values, other.drain, one.drain);
  expect(one.running()).toEqual([]);
  expect(values.get('site_persistence.drain.shop')).toBe('0');
  expect(values.get('site_persistence.drain_evict.shop')).toBe('0');
});

test('a drain outlives the sidecar that began it, and is set again in an Envoy that has lost it', () => {
  const values = new Map<string, string>();
  const one = drainOf(configOf(['shop']));
  one.drain.start(null, { forMs: null, evict: false, reason: 'patch' });
  share(values, one.drain);
  const next = drainOf(configOf(['shop']));
  share(values, next.drain);
  expect(next.drain.of('shop')).toMatchObject({ untilMs: null, reason: 'patch' });
  values.clear();
  share(values, next.drain);
  expect(values.get('site_persistence.drain.shop')).toBe('9999999999');
});

test('a drain that Envoy does not take is said to be that of one sidecar', () => {
  const { drain, lines } = drainOf(configOf(['shop']));
  drain.refused();
  drain.start(null, PLAIN);
  expect(lines().at(-1)).toMatch(/; only this sidecar drains, for Envoy does not let its runtime be written$/);
});

test('a drain whose end has come while no sidecar ran ends in Envoy too', () => {
  const past = String(Math.floor(Date.now() / 1_000) - 1);
  const values = new Map([['site_persistence.drain.shop', past]]);
  const one = drainOf(configOf(['shop']));
  share(values, one.drain);
  expect([one.running(), values.get('site_persistence.drain.shop')]).toEqual([[], '0']);
});

test.each(['', 'x', '-1', 'NaN', '0', '0.5e-9999'])('a runtime value that is no drain drains nothing: %j', (value) => {
  const { drain, running } = drainOf(configOf(['shop']));
  share(new Map([['site_persistence.drain.shop', value]]), drain);
  expect(running()).toEqual([]);
});

test('what is begun while an older drain is being written is written next', () => {
  const values = new Map<string, string>();
  const { drain } = drainOf(configOf(['shop']));
  drain.start(null, { ...PLAIN, reason: 'first' });
  const first = drain.plan(values);
  drain.start(null, { ...PLAIN, reason: 'second' });
  for (const [key, value] of first) values.set(key, value);
  share(values, drain);
  expect(values.get('site_persistence.drain_note.shop')).toMatch(/ second$/);
});

test('what ends while it is being written does not come back', () => {
  const values = new Map<string, string>();
  const { drain, running } = drainOf(configOf(['shop']));
  drain.start(null, PLAIN);
  const first = drain.plan(values);
  drain.end(null, 'undrain was asked for');
  for (const [key, value] of first) values.set(key, value);
  share(values, drain, drain);
  expect([running(), values.get('site_persistence.drain.shop')]).toEqual([[], '0']);
});

test('what the file drains Envoy knows, from the sidecar that read its file last', () => {
  const key = 'site_persistence.drain_in_file.shop';
  const values = new Map<string, string>();
  const old = drainOf(configOf(['shop'], 'drain: true\n'));
  share(values, old.drain);
  expect(values.get(key)).toBe('100');
  const next = drainOf(configOf(['shop']));
  share(values, next.drain, old.drain, next.drain, old.drain);
  expect(values.get(key)).toBe('0');
  old.reload(configOf(['shop'], 'drain: true\n'));
  share(values, old.drain, next.drain);
  expect(values.get(key)).toBe('100');
  values.clear();
  share(values, next.drain, old.drain);
  expect(values.get(key)).toBe('100');
});
