import { describe, expect, test } from 'vitest';
import {
  type Address,
  formatAddress,
  isIpAddress,
  parseAddress,
  parseAdminAddress,
  parseTcpAddress,
} from '../../../src/config/address.ts';

const LONGEST_UNIX_PATH = `/${'a'.repeat(106)}`;
const LONGEST_HOST = `${`${'a'.repeat(62)}.`.repeat(4)}b`;

const TCP: readonly (readonly [text: string, host: string, port: number])[] = [
  ['127.0.0.1:9002', '127.0.0.1', 9002],
  ['0.0.0.0:1', '0.0.0.0', 1],
  ['255.255.255.255:65535', '255.255.255.255', 65535],
  ['localhost:80', 'localhost', 80],
  ['west.example.com:443', 'west.example.com', 443],
  ['app_1.local-net:8080', 'app_1.local-net', 8080],
  ['1a.2b:80', '1a.2b', 80],
  [`${LONGEST_HOST}:80`, LONGEST_HOST, 80],
  ['[::1]:9002', '::1', 9002],
  ['[::]:80', '::', 80],
  ['[2001:DB8::A]:80', '2001:DB8::A', 80],
  ['[::ffff:127.0.0.1]:80', '::ffff:127.0.0.1', 80],
];

const BAD_TCP: readonly string[] = [
  '',
  ':',
  'host',
  'host:',
  ':80',
  '9002',
  'host:port',
  'host:-1',
  'host:1.5',
  'host:0x50',
  'host: 80',
  ' host:80',
  'host:80 ',
  'host:80\n',
  'ho st:80',
  'ho\nst:80',
  'ho/st:80',
  'höst:80',
  '-host:80',
  'host-:80',
  'a..b:80',
  '.a:80',
  `${LONGEST_HOST}c:80`,
  'user@host:80',
  'http://host:80',
  'host:80/',
  '::1:80',
  '[::1]',
  '[::1]80',
  '[]:80',
  '[localhost]:80',
  '[127.0.0.1]:80',
  '[:::::]:80',
  '[1:2:3]:80',
  '[.]:80',
  '[12345::]:80',
  '256.0.0.1:80',
  '1.2.3:80',
  '1.2.3.4.5:80',
  '1:80',
];

const BAD_PORTS: readonly string[] = ['host:0', 'host:00000', 'host:65536', 'host:99999'];

const BAD_UNIX: readonly string[] = ['unix:', 'unix:run/x.sock', 'unix:./x.sock', 'unix: /x.sock', 'unix:x:80'];

describe('parseTcpAddress()', () => {
  test.each(TCP)('reads %s', (text, host, port) => {
    expect(parseTcpAddress(text)).toEqual({ kind: 'tcp', host, port });
  });

  test.each(BAD_TCP)('refuses %j and says what to write', (text) => {
    expect(() => parseTcpAddress(text)).toThrow(/write host:port\b(?!.*unix).*127\.0\.0\.1:9002/);
  });

  test.each(BAD_PORTS)('refuses the port of %s', (text) => {
    expect(() => parseTcpAddress(text)).toThrow('a port is a number from 1 to 65535');
  });

  test('refuses a Unix socket', () => {
    expect(() => parseTcpAddress('unix:/x.sock')).toThrow('write host:port');
  });
});

describe('parseAddress()', () => {
  test.each(TCP)('reads %s', (text, host, port) => {
    expect(parseAddress(text)).toEqual({ kind: 'tcp', host, port });
  });

  test.each(['/x.sock', '/run/site persistence/x.sock', '/run/ü.sock', LONGEST_UNIX_PATH])('reads unix:%s', (path) => {
    expect(parseAddress(`unix:${path}`)).toEqual({ kind: 'unix', path });
  });

  test.each(BAD_TCP)('refuses %j and says what to write', (text) => {
    expect(() => parseAddress(text)).toThrow('write host:port or unix:/path, such as 127.0.0.1:9002');
  });

  test.each(BAD_PORTS)('refuses the port of %s', (text) => {
    expect(() => parseAddress(text)).toThrow('a port is a number from 1 to 65535');
  });

  test.each(BAD_UNIX)('refuses %j, which has no absolute path', (text) => {
    expect(() => parseAddress(text)).toThrow('a Unix socket is written unix:/absolute/path');
  });

  test.each([`${LONGEST_UNIX_PATH}a`, `/${'ü'.repeat(54)}`])(
    'refuses unix:%s, which no socket can be bound to',
    (path) => {
      expect(() => parseAddress(`unix:${path}`)).toThrow('at most 107 bytes');
    },
  );

  test.each(['\0', '\n', '\x1b', '\x7f'])('refuses a Unix socket with %j in its path', (character) => {
    expect(() => parseAddress(`unix:/run/a${character}b`)).toThrow('control characters');
  });
});

describe('parseAdminAddress()', () => {
  test.each<[string, Address]>([
    ['http://127.0.0.1:9901', { kind: 'tcp', host: '127.0.0.1', port: 9901 }],
    ['http://127.0.0.1:9901/', { kind: 'tcp', host: '127.0.0.1', port: 9901 }],
    ['http://envoy.local:80', { kind: 'tcp', host: 'envoy.local', port: 80 }],
    ['http://[::1]:9901', { kind: 'tcp', host: '::1', port: 9901 }],
    ['unix:/run/envoy/admin.sock', { kind: 'unix', path: '/run/envoy/admin.sock' }],
  ])('reads %s', (text, address) => {
    expect(parseAdminAddress(text)).toEqual(address);
  });

  test.each([
    '',
    '127.0.0.1:9901',
    'https://127.0.0.1:9901',
    'HTTP://127.0.0.1:9901',
    'http://',
    'http:///',
    'http://127.0.0.1',
    'http://127.0.0.1:9901/stats',
    'http://127.0.0.1:9901//',
    'http://127.0.0.1:9901?x',
    'http://user:password@127.0.0.1:9901',
    'http://127.0.0.1:9901\n',
    'http://unix:/run/admin.sock',
  ])('refuses %j and says what to write', (text) => {
    expect(() => parseAdminAddress(text)).toThrow('write http://host:port or unix:/path');
  });

  test('gives an example of its own kind', () => {
    expect(() => parseAdminAddress('http://127.0.0.1')).toThrow('such as http://127.0.0.1:9901');
  });
});

describe('formatAddress()', () => {
  test.each([...TCP.map(([text]) => text), 'unix:/run/x.sock'])('writes %s as it is read', (text) => {
    expect(formatAddress(parseAddress(text))).toBe(text);
  });
});

describe('isIpAddress()', () => {
  test.each<[string, boolean]>([
    ['127.0.0.1', true],
    ['::1', true],
    ['::ffff:127.0.0.1', true],
    ['localhost', false],
    ['1a.2b', false],
    ['west.example.com', false],
  ])('%s: %s', (host, isIp) => {
    expect(isIpAddress(host)).toBe(isIp);
  });
});
