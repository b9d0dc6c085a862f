import { describe, expect, test } from 'vitest';
import { matchRoute, matchString } from '../../../src/doctor/route-match.ts';

const PROBE = {
  path: '/shop/cart',
  headers: { cookie: 'a=1; DDVHSLLQ=x', 'x-site-pool': 'remote_pool' },
  runtime: new Map([['half', '50']]),
};

const header = (fields: object) => ({ prefix: '/', headers: [{ name: 'cookie', ...fields }] });
const absent = (fields: object) => ({ prefix: '/', headers: [{ name: 'x-other', ...fields }] });

describe('a route takes a request as Envoy lets it:', () => {
  test.each<[object, string]>([
    [{ prefix: '/' }, 'yes'],
    [{ prefix: '/shop' }, 'yes'],
    [{ prefix: '/SHOP' }, 'no'],
    [{ prefix: '/SHOP', case_sensitive: false }, 'yes'],
    [{ path: '/shop' }, 'no'],
    [{ path: '/shop/cart' }, 'yes'],
    [{ path_separated_prefix: '/shop' }, 'yes'],
    [{ path_separated_prefix: '/sho' }, 'no'],
    [{ safe_regex: { regex: '/shop/.*' } }, 'yes'],
    // The whole path, not a part of it.
    [{ safe_regex: { regex: '/shop' } }, 'no'],
    [{ safe_regex: { regex: '(?i)/SHOP/cart' } }, 'yes'],
    [{ safe_regex: { regex: '\\C*cart' } }, 'yes'],
    // RE2's, which JavaScript does not know.
    [{ safe_regex: { regex: '(?P<x>/shop/cart)' } }, 'unknown'],
    [{ path_match_policy: {} }, 'unknown'],
    [{ connect_matcher: {} }, 'no'],
    [{}, 'unknown'],
    [header({ string_match: { exact: 'a=1; DDVHSLLQ=x' } }), 'yes'],
    [header({ string_match: { contains: 'ddvhsllq=', ignore_case: true } }), 'yes'],
    [header({ string_match: { safe_regex: { regex: '(\\C*;)?[ \\t]*DDVHSLLQ=\\C*' } } }), 'yes'],
    [header({ string_match: { prefix: 'b=' }, invert_match: true }), 'yes'],
    [header({ exact_match: 'a=1' }), 'no'],
    [header({ suffix_match: 'x' }), 'yes'],
    [header({ present_match: true }), 'yes'],
    [header({ present_match: true, invert_match: true }), 'no'],
    [header({ present_match: false }), 'no'],
    [header({}), 'yes'],
    [header({ range_match: {} }), 'unknown'],
    [{ prefix: '/', headers: [{ name: 'Cookie', present_match: true }] }, 'yes'],
    [{ prefix: '/', headers: [{ name: ':method', string_match: { exact: 'GET' } }] }, 'yes'],
    [{ prefix: '/', headers: [{ name: ':path', string_match: { prefix: '/shop' } }] }, 'yes'],
    // A header that is not there has no value to match, inverted or not, unless it counts as empty.
    [absent({ string_match: { exact: 'x' } }), 'no'],
    [absent({ string_match: { exact: 'x' }, invert_match: true }), 'no'],
    [absent({ string_match: { exact: 'x' }, invert_match: true, treat_missing_header_as_empty: true }), 'yes'],
    [absent({ present_match: true }), 'no'],
    [absent({ present_match: true, invert_match: true }), 'yes'],
    [absent({ present_match: false }), 'yes'],
    [{ prefix: '/', query_parameters: [{ name: 'x', present_match: true }] }, 'no'],
    [{ prefix: '/', grpc: {} }, 'no'],
    [{ prefix: '/', tls_context: { presented: true } }, 'unknown'],
    [{ prefix: '/other', tls_context: { presented: true } }, 'no'],
    [{ prefix: '/', runtime_fraction: { default_value: { numerator: 100 }, runtime_key: 'unset' } }, 'yes'],
    [{ prefix: '/', runtime_fraction: { default_value: { numerator: 100, denominator: 'MILLION' } } }, 'unknown'],
    [{ prefix: '/', runtime_fraction: { default_value: {}, runtime_key: 'unset' } }, 'no'],
    [{ prefix: '/', runtime_fraction: { default_value: {}, runtime_key: 'half' } }, 'unknown'],
  ])('%j: %s', (match, expected) => {
    expect(matchRoute({ match }, PROBE)).toBe(expected);
  });
});

test('a string matcher of a kind that is not known is unknown', () => {
  expect(matchString({ custom: {} }, 'x')).toBe('unknown');
  expect(matchString(undefined, 'x')).toBe('unknown');
});
