import { describe, expect, test } from 'vitest';
import { findByHost, hostTable, NO_APPLICATION } from '../../../src/config/virtual-hosts.ts';

const SHOP = 0;
const MAIL = 1;
const EVERY = 2;
const table = hostTable([
  ['shop.example.com', '*.shop.example.com', '*-shop.example.com', '[::1]', 'shop.*'],
  ['mail.example.com', '*.example.com', 'mail.*', 'mail.example.*'],
]);
const withEvery = hostTable([['shop.example.com'], ['mail.example.com'], ['*']]);

describe('findByHost()', () => {
  test.each([
    ['shop.example.com', SHOP],
    ['SHOP.Example.COM', SHOP],
    ['shop.example.com:8443', SHOP],
    ['shop.example.com:', SHOP],
    ['shop.example.com:port', SHOP],
    ['[::1]', SHOP],
    ['[::1]:8080', SHOP],
    ['::1', NO_APPLICATION],
    ['a.shop.example.com', SHOP],
    ['a.b.shop.example.com:1', SHOP],
    // The longest suffix wins, and a suffix before any prefix.
    ['x-shop.example.com', SHOP],
    ['other.example.com', MAIL],
    ['mail.x.example.com', MAIL],
    ['mail.example.org', MAIL],
    ['shop.test', SHOP],
    // A wildcard stands for one character at least.
    ['.shop.example.com', MAIL],
    ['shop.', NO_APPLICATION],
    ['example.com', NO_APPLICATION],
    ['shop.example.com.', SHOP],
    ['', NO_APPLICATION],
    ['shop.example.com:1:2', SHOP],
  ])('%j', (host, application) => {
    expect(findByHost(table, host)).toBe(application);
  });

  test.each([
    ['shop.example.com', SHOP],
    ['mail.example.com:1', MAIL],
    ['10.0.0.1', EVERY],
    ['', EVERY],
  ])('%j where one application takes every host', (host, application) => {
    expect(findByHost(withEvery, host)).toBe(application);
  });
});
