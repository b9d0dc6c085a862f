import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.ts';
import { renderBootstrap } from '../../../src/envoy-config/bootstrap.ts';
import { splitConfig } from '../../../src/envoy-config/config-dir.ts';
import { hasSameEnvoyConfig } from '../../../src/envoy-config/same-envoy-config.ts';
import { withCookieKeys } from '../../support/with-cookie-keys.ts';

const NEW = 'n'.repeat(32);
const OLD = 'o'.repeat(32);

const FILE = `
site: east
local_pool:
  cookie: { name: EAST, opaque: { key_file: cookie.key } }
  servers: ["10.0.0.11:80", "[2001:DB8:0::1]:8443"]
remote_pools: [{ site: west, cluster: west, cookie: WEST, servers: ["10.1.0.1:80"] }]
envoy: { listen: "127.0.0.1:80" }
`;

const configOf = (text: string, keys = [NEW]) => withCookieKeys(parseConfig(text, 'site.yaml', 'rendering'), keys);
const textOf = (text: string, keys = [NEW]) => JSON.stringify(renderBootstrap(configOf(text, keys)));

/** As anybody who has the key makes it. */
function clientsValue(address: string, key = NEW): string {
  return `1${createHmac('sha256', key).update(address).digest().subarray(0, 16).toString('base64url')}`;
}

const base64 = (text: string) => Buffer.from(text, 'latin1').toString('base64');

describe('an opaque cookie', () => {
  test('is a keyed hash of the address as Envoy writes it', () => {
    const text = textOf(FILE);
    const plain = base64('\n\x0c10.0.0.11:80');
    expect(text).toContain(` ${plain} ${clientsValue('10.0.0.11:80')}\\n`);
    expect(text).toContain(`${base64('\n\x12[2001:db8::1]:8443')} `);
    expect(text).toContain(clientsValue('[2001:db8::1]:8443'));
  });

  test('has the values of both keys, the new one first, and neither key', () => {
    const text = textOf(FILE, [NEW, OLD]);
    expect(text).toContain(`${clientsValue('10.0.0.11:80')} ${clientsValue('10.0.0.11:80', OLD)}\\n`);
    expect(text).not.toContain(NEW);
    expect(text).not.toContain(OLD);
  });

  test('is the same with close_when_down, where stateful_session has another address', () => {
    const text = textOf(FILE.replace('  servers:', '  close_when_down: true\n  servers:'));
    const address = 'envoy://local_pool_closing/10.0.0.11:80';
    const plain = base64(`\n${String.fromCharCode(address.length)}${address}`);
    expect(text).toContain(` ${plain} ${clientsValue('10.0.0.11:80')}\\n`);
  });

  test('is translated as well where another site keeps its session: under the name that it has there', () => {
    const named = (text: string) => [...textOf(text).matchAll(/local NAMES = \{ (.*?) \}/g)].map(([, names]) => names);
    expect(new Set(named(FILE))).toEqual(new Set(['\\"EAST=\\"']));
    const keep = new Set(named(`${FILE}on_owner_down: keep\n`));
    expect(keep).toEqual(new Set(['\\"EAST=\\"', '\\"EAST-kept=\\"']));
  });

  test('is read with a proof that nobody makes without the key', () => {
    const readBy = (key: string) => /SERVERS = \[\[\\n(\S+) /.exec(textOf(FILE, [key]))?.[1] ?? '';
    const read = Buffer.from(readBy(NEW), 'base64').toString('latin1');
    expect(read.slice(0, -8)).toBe('\n\x0c10.0.0.11:80z\b');
    expect(readBy(NEW)).not.toBe(readBy(OLD));
  });

  test('with a ttl is told by the letters before the expiry', () => {
    const text = textOf(FILE.replace('name: EAST', 'name: EAST, ttl: 1h'));
    const written = base64('\n\x0c10.0.0.11:80\x10\xd8\x8e\xa4\xd8\x06');
    const [, start = ''] = / (C\S+) 1/.exec(text) ?? [];
    expect(start.length).toBeGreaterThan(Math.floor((14 * 8) / 6));
    expect(written.startsWith(start)).toBe(true);
  });

  test('changes nothing where it is not asked for', () => {
    const file = FILE.replace('{ name: EAST, opaque: { key_file: cookie.key } }', 'EAST');
    expect(textOf(file)).not.toMatch(/lua/i);
  });

  test('is off on each route without stickiness', () => {
    const text = textOf(FILE);
    const off = (type: string) => text.split(`${type}PerRoute","disabled":true`).length;
    expect(off('Lua')).toBe(off('StatefulSession'));
    expect(off('Lua')).toBeGreaterThan(3);
  });

  test('a cookie with any name that is allowed is no other script', () => {
    expect(textOf(FILE.replace('name: EAST', 'name: "E\'A%S|T"'))).toContain(`local NAMES = { \\"E'A%S|T=\\" }`);
  });

  test.each<[string, string, readonly string[]]>([
    ['a server more', FILE.replace('"10.0.0.11:80"', '"10.0.0.11:80", "10.0.0.12:80"'), [NEW]],
    ['another key', FILE, [OLD, NEW]],
    ['accept_plain: false', FILE.replace('cookie.key', 'cookie.key, accept_plain: false'), [NEW]],
  ])('%s changes no listener', (_, file, keys) => {
    const filesOf = (text: string, by: readonly string[]) =>
      splitConfig(configOf(text.replace('envoy: {', 'envoy: { config_dir: /x,'), [...by]), '/x').files;
    const changed = (kind: string) => {
      const texts = [filesOf(FILE, [NEW]), filesOf(file, keys)].map((files) =>
        JSON.stringify(files.filter((each) => each.kind === kind)),
      );
      return texts[0] !== texts[1];
    };
    expect(['listeners', 'routes'].map(changed)).toEqual([false, true]);
  });

  test('another key is another Envoy config', () => {
    expect(hasSameEnvoyConfig(configOf(FILE), configOf(FILE, [OLD]))).toBe(false);
    expect(hasSameEnvoyConfig(configOf(FILE), configOf(FILE))).toBe(true);
  });
});
