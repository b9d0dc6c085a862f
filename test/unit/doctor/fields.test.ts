import { describe, expect, test } from 'vitest';
import type { Field } from '../../../src/doctor/fields/field.ts';
import { judge } from '../../../src/doctor/fields/judge.ts';
import {
  asRendered,
  atLeast,
  atMost,
  excludes,
  includesRendered,
  isSet,
  isUnset,
} from '../../../src/doctor/fields/rules.ts';
import { CONFIG } from './fake-envoy.ts';

const subject = (actual: unknown, rendered: unknown = {}) => ({
  place: 'cluster a',
  label: 'a',
  actual,
  rendered,
  config: CONFIG,
});

const marks = (fields: readonly Field[], actual: unknown, rendered?: unknown) =>
  judge(fields, subject(actual, rendered)).map(({ mark, text, fix }) => [mark, text, fix?.where, fix?.lines]);

test('a field that is as it is rendered is right, and what is not says so, with what is rendered as its fix', () => {
  const fields: readonly Field[] = [{ path: 'x.y', wrong: 'it fails' }];
  expect(marks(fields, { x: { y: 1 } }, { x: { y: 1, z: 2 } })).toEqual([['ok', 'a: x.y 1', undefined, undefined]]);
  expect(marks(fields, { x: { y: 3 } }, { x: { y: 1, z: 2 } })).toEqual([
    ['wrong', 'a: x.y is 3, not 1: it fails', 'in cluster a:', 'x:\n  y: 1'],
  ]);
  expect(marks(fields, {}, { x: { y: true } })).toEqual([
    ['wrong', 'a: x.y is not set: it fails', 'in cluster a:', 'x:\n  y: true'],
  ]);
});

test("what is not set is Envoy's default, and what is not rendered must be that", () => {
  const fields: readonly Field[] = [{ path: 'x', unset: '60s', must: atMost('10s'), warn: 'late' }];
  expect(marks(fields, {}, { x: '1s' })).toEqual([
    ['warn', "a: x is 60s (Envoy's default): late", 'in cluster a:', 'x: 1s'],
  ]);
  expect(marks([{ path: 'strict', unset: false, warn: 'so' }], { strict: true })).toEqual([
    ['warn', 'a: strict is true: so', 'in cluster a:', 'strict: false'],
  ]);
});

test('fields that do the same harm are one finding with one fix', () => {
  const fields: readonly Field[] = [
    { path: 'x.y', must: atLeast(2), warn: 'same' },
    { path: 'z', must: isSet, warn: 'another' },
    { path: 'x.w', must: atLeast(), warn: 'same' },
  ];
  expect(marks(fields, { x: { y: 1, w: 4 } }, { x: { y: 3, w: 5 }, z: [1] })).toEqual([
    ['warn', 'a: x.y is 1, x.w is 4: same', 'in cluster a:', 'x:\n  y: 3\n  w: 5'],
    ['warn', 'a: z is not set: another', 'in cluster a:', 'z:\n  - 1'],
  ]);
});

test('of what is not there nothing more is said', () => {
  const fields: readonly Field[] = [
    { path: 'x', must: isSet, wrong: 'none' },
    { path: 'x[].y', must: isSet, wrong: 'empty' },
    { path: 'xs', must: isUnset, unchecked: 'see' },
  ];
  expect(marks(fields, { xs: 1 }, { x: [{ y: 1 }] })).toEqual([
    ['wrong', 'a: x is not set: none', 'in cluster a:', 'x:\n  - y: 1'],
    ['unchecked', 'a: xs is 1: see', undefined, undefined],
  ]);
});

describe('of a list', () => {
  const fields: readonly Field[] = [{ path: 'limits[].most', unset: 3, must: atLeast(10), wrong: 'low' }];

  test.each([
    [{ limits: [{ most: 1 }, { most: 10 }] }, 'ok'],
    [{ limits: [{ priority: 'HIGH', most: 10 }] }, 'wrong'],
    [{ limits: [{ priority: 'HIGH' }, { priority: 'DEFAULT', most: 10 }] }, 'ok'],
    [{ limits: [] }, 'wrong'],
    [{ limits: 'junk' }, 'wrong'],
  ])('one item for requests of ordinary priority must be right: %j', (actual, mark) => {
    expect(marks(fields, actual).map(([found]) => found)).toEqual([mark]);
  });

  test('the whole list is printed, or what one of its items lacks', () => {
    const rendered = { limits: [{ most: 20, other: 1 }] };
    expect(marks(fields, { limits: [{ most: 1 }] }, rendered)).toEqual([
      ['wrong', 'a: most is 1: low', 'in cluster a:', 'limits:\n  - most: 20\n    other: 1'],
    ]);
    const inItem = fields.map((field): Field => ({ ...field, want: 15, inItem: true }));
    expect(marks(inItem, { limits: [{ most: 1 }] }, rendered)).toEqual([
      ['wrong', 'a: most is 1: low', 'in limits of cluster a:', 'most: 15'],
    ]);
  });
});

test.each([
  [asRendered(), '1s', '1.000s', null],
  [asRendered(''), '', 'x', null],
  [includesRendered, 'a, b', 'b,c', 'lacks c'],
  [includesRendered, { a: 1 }, { a: 2, b: 3 }, 'lacks b'],
  [includesRendered, undefined, ['a'], 'lacks a'],
  [excludes('a', 'b'), 'c,b', undefined, 'has b'],
  [atLeast(), '0.5s', '1s', 'is'],
  [atLeast(1), 'junk', undefined, 'is'],
])('%o of %j, where %j is rendered: %j', (rule, value, wanted, expected) => {
  expect(rule({ value, wanted, says: 'is' })).toBe(expected);
});
