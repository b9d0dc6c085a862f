import { expect, test } from 'vitest';
import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';
import { hasSameEnvoyConfig } from '../../../src/envoy-config/same-envoy-config.ts';
import { EVERY_KEY, MINIMAL } from '../config/good-configs.ts';

const read = (text: string): Config => parseConfig(text, 'site.yaml');

test.each([
  ['every key', EVERY_KEY],
  ['none of what only rendering needs', MINIMAL],
])('a config with %s comes to the same Envoy config as itself', (_, text) => {
  expect(hasSameEnvoyConfig(read(text), read(text))).toBe(true);
});

test.each<[string, boolean]>([
  ['health: { poll_interval: 10ms, stale_after: 9s, hold_up: 9s }', true],
  ['ops_listen: 127.0.0.1:7002', true],
  ['status_uri: /other', false],
  ['listen: 127.0.0.1:7001', false],
  ['envoy: { fast_path: false }', false],
])('with %s it is the same: %s', (more, isSame) => {
  expect(hasSameEnvoyConfig(read(MINIMAL), read(`${MINIMAL}${more}\n`))).toBe(isSame);
});

test('with another certificate it is another one, though only a file beside the bootstrap says so', () => {
  expect(hasSameEnvoyConfig(read(EVERY_KEY), read(EVERY_KEY.replace('/etc/hop.pem', '/etc/other.pem')))).toBe(false);
});

test('with another overlay it is another one, with another comment in it the same', () => {
  const withOverlay = (port: number, text = ''): Config => {
    const config = read(MINIMAL);
    const overlay = { kind: 'overlay', file: 'extra.yaml', text, content: { admin: { port } } } as const;
    return { ...config, envoy: { ...config.envoy, overlay } };
  };
  expect(hasSameEnvoyConfig(read(MINIMAL), withOverlay(1))).toBe(false);
  expect(hasSameEnvoyConfig(withOverlay(1), withOverlay(2))).toBe(false);
  expect(hasSameEnvoyConfig(withOverlay(1), withOverlay(1, '# changed'))).toBe(true);
});

test('with another cookie it is another one', () => {
  expect(hasSameEnvoyConfig(read(MINIMAL), read(MINIMAL.replace('KVAAVROI', 'OTHER')))).toBe(false);
});
