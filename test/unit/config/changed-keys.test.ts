import { describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { changedKeys } from '../../../src/config/changed-keys.ts';
import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { EVERY_KEY, MINIMAL } from './good-configs.ts';

const read = (text: string): Config => parseConfig(text, 'site.yaml');
const everyKey = read(EVERY_KEY);

/** {@link EVERY_KEY} with another value for one of its keys. */
function withValue(path: readonly (string | number)[], value: unknown): string {
  const file: unknown = parse(EVERY_KEY);
  let at = file;
  for (const key of path.slice(0, -1)) at = Reflect.get(Object(at), key);
  Reflect.set(Object(at), path.at(-1) ?? '', value);
  return stringify(file);
}

test('changedKeys() is empty where nothing changed, however it is written', () => {
  expect(changedKeys(everyKey, read(EVERY_KEY))).toEqual([]);
  expect(changedKeys(everyKey, read(stringify(parse(EVERY_KEY))))).toEqual([]);
  expect(changedKeys(read(MINIMAL), read(`${MINIMAL}listen: 127.0.0.1:9002\n`))).toEqual([]);
});

describe('changedKeys() names the key as the file has it', () => {
  test.each<[string, (string | number)[], unknown]>([
    ['site', ['site'], 'south'],
    ['listen', ['listen'], '127.0.0.1:1'],
    ['ops_listen', ['ops_listen'], '127.0.0.1:1'],
    ['ops_listen_tls', ['ops_listen_tls'], null],
    ['ops_listen_tls.cert_file', ['ops_listen_tls', 'cert_file'], '/other'],
    ['ops_listen_tls.client_ca_file', ['ops_listen_tls', 'client_ca_file'], '/other'],
    ['ops_buttons', ['ops_buttons'], false],
    ['socket.mode', ['socket', 'mode'], '0660'],
    ['socket.owner', ['socket', 'owner'], null],
    ['insecure', ['insecure'], false],
    ['status_uri', ['status_uri'], '/up'],
    ['on_owner_down', ['on_owner_down'], 'refuse'],
    ['both_cookies', ['both_cookies'], 'remote'],
    ['drain', ['drain'], false],
    ['health.poll_interval', ['health', 'poll_interval'], '200ms'],
    ['health.stale_after', ['health', 'stale_after'], '9s'],
    ['health.hold_up', ['health', 'hold_up'], '9s'],
    ['local_pool.cluster', ['local_pool', 'cluster'], 'other'],
    ['local_pool.cookie.name', ['local_pool', 'cookie', 'name'], '__Secure-OTHER'],
    ['local_pool.cookie.path', ['local_pool', 'cookie', 'path'], '/'],
    ['local_pool.cookie.domain', ['local_pool', 'cookie', 'domain'], null],
    ['local_pool.cookie.ttl', ['local_pool', 'cookie', 'ttl'], '1h'],
    ['local_pool.cookie.same_site', ['local_pool', 'cookie', 'same_site'], 'Lax'],
    ['local_pool.min_up', ['local_pool', 'min_up'], 1],
    ['local_pool.servers', ['local_pool', 'servers'], ['127.0.0.1:1', '127.0.0.1:2']],
    ['local_pool.health_check.path', ['local_pool', 'health_check', 'path'], null],
    ['local_pool.health_check.interval', ['local_pool', 'health_check', 'interval'], '9s'],
    ['local_pool.health_check.host', ['local_pool', 'health_check', 'host'], 'other'],
    ['local_pool.health_check.expect', ['local_pool', 'health_check', 'expect'], 204],
    ['local_pool.connect_timeout', ['local_pool', 'connect_timeout'], '9s'],
    ['local_pool.idle_timeout', ['local_pool', 'idle_timeout'], '9s'],
    ['local_pool.eject.errors', ['local_pool', 'eject', 'errors'], 9],
    ['remote_pools[0].protocol', ['remote_pools', 0, 'protocol'], 'http1'],
    ['remote_pools[0].health_check.unhealthy', ['remote_pools', 0, 'health_check', 'unhealthy'], 9],
    ['envoy.retry_on_reset', ['envoy', 'retry_on_reset'], true],
    ['envoy.stream_idle_timeout', ['envoy', 'stream_idle_timeout'], '9s'],
    ['local_pool.health_check.timeout', ['local_pool', 'health_check', 'timeout'], '9s'],
    ['envoy.default_host', ['envoy', 'default_host'], 'other'],
    ['remote_pools[0].site', ['remote_pools', 0, 'site'], 'south'],
    ['remote_pools[1].cluster', ['remote_pools', 1, 'cluster'], 'other'],
    ['remote_pools[1].cookie.name', ['remote_pools', 1, 'cookie', 'name'], 'OTHER'],
    ['remote_pools[0].min_up', ['remote_pools', 0, 'min_up'], 9],
    ['remote_pools[0].servers', ['remote_pools', 0, 'servers'], []],
    ['remote_pools[0].health_check.interval', ['remote_pools', 0, 'health_check', 'interval'], '9s'],
    ['remote_pools[0].tls', ['remote_pools', 0, 'tls'], null],
    ['remote_pools[0].tls.sni', ['remote_pools', 0, 'tls', 'sni'], 'other'],
    ['remote_pools[0].tls.ca_file', ['remote_pools', 0, 'tls', 'ca_file'], '/other'],
    ['envoy.admin', ['envoy', 'admin'], 'unix:/other'],
    ['envoy.listen', ['envoy', 'listen'], '127.0.0.1:1'],
    ['envoy.listen_tls.key_file', ['envoy', 'listen_tls', 'key_file'], '/other'],
    ['envoy.hop_listen', ['envoy', 'hop_listen'], '127.0.0.1:1'],
    ['envoy.hop_listen_tls.client_ca_file', ['envoy', 'hop_listen_tls', 'client_ca_file'], '/other'],
    ['envoy.hop_listen_only', ['envoy', 'hop_listen_only'], false],
    ['envoy.secrets_dir', ['envoy', 'secrets_dir'], '/other'],
    ['envoy.sidecars', ['envoy', 'sidecars'], ['127.0.0.1:1']],
    ['envoy.version', ['envoy', 'version'], '1.37'],
    ['envoy.fast_path', ['envoy', 'fast_path'], false],
  ])('%s', (key, path, value) => {
    expect(changedKeys(everyKey, read(withValue(path, value)))).toEqual([key]);
  });

  test('several, in the order of the file', () => {
    const changed = { ...everyKey, site: 'south', health: { ...everyKey.health, holdUpMs: 1, staleAfterMs: 2 } };
    expect(changedKeys(everyKey, changed)).toEqual(['site', 'health.stale_after', 'health.hold_up']);
  });

  test('of an application that is listed, also of one called default', () => {
    const { local_pool, remote_pools } = parse(MINIMAL);
    const listed = (...hosts: string[]) =>
      read(stringify({ site: 'east', applications: [{ name: 'default', hosts, local_pool, remote_pools }] }));
    expect(changedKeys(listed('a.example.com'), listed('b.example.com'))).toEqual(['applications[0].hosts']);
    expect(changedKeys(read(MINIMAL), listed('a.example.com'))).toEqual(['applications[0].hosts']);
    expect(changedKeys(read(MINIMAL), listed('*'))).toEqual([]);
  });

  test('of a list of pools that became longer or shorter as a whole', () => {
    const applications = everyKey.applications.map((one) => ({ ...one, remotePools: one.remotePools.slice(1) }));
    const shorter = { ...everyKey, applications };
    expect(changedKeys(everyKey, shorter)).toEqual(['remote_pools']);
    expect(changedKeys(shorter, everyKey)).toEqual(['remote_pools']);
  });
});

test('changedKeys() names only keys that the file has', () => {
  const keys = changedKeys(read(MINIMAL), everyKey).map((key) => key.split('.'));
  const file: unknown = parse(EVERY_KEY);
  for (const path of keys) {
    const value = path.reduce<unknown>((at, key) => Reflect.get(Object(at), key), file);
    expect(value, path.join('.')).toBeDefined();
  }
  expect(keys.length).toBeGreaterThan(15);
});
