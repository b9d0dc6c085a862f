import { CookieValue, Table, Unknown, type Value } from './lua-values.ts';

/** Longer than anything that a script asks of a cookie's value. */
const COOKIE_VALUE_LENGTH = 64;

type LibraryFunction = (args: readonly Value[]) => readonly Value[];

/**
 * The functions of Lua and of Avi's `string` that scripts compare paths and names with. Each gives an {@link Unknown}
 * where its arguments are not plain texts; so does every function that is not here.
 */
const LIBRARY: Readonly<Record<string, LibraryFunction>> = {
  'string.lower': onText((text) => text.toLowerCase()),
  'string.upper': onText((text) => text.toUpperCase()),
  'string.len': (args) => [lengthOf(args[0])],
  'string.sub': onText((text, [start, end]) => {
    const from = position(start, text.length, 1);
    const to = position(end, text.length, text.length);
    return text.slice(Math.max(from, 1) - 1, Math.max(to, 0));
  }),
  'string.beginswith': onTexts((text, part) => [text.startsWith(part)]),
  'string.endswith': onTexts((text, part) => [text.endsWith(part)]),
  'string.contains': onTexts((text, part) => [text.includes(part)]),
  'string.find': onTexts((text, pattern, [init, isPlain]) => {
    const start = Math.max(position(init, text.length, 1), 1) - 1;
    const found = locate(text, pattern, start, isPlain === true);
    if (found instanceof Unknown) return [found];
    return found === null ? [undefined] : [found.start + 1, found.start + found.text.length];
  }),
  'string.match': onTexts((text, pattern, [init]) => {
    const found = locate(text, pattern, Math.max(position(init, text.length, 1), 1) - 1, false);
    return [found instanceof Unknown ? found : found?.text];
  }),
  tonumber: ([value]) => [numberOf(value)],
  tostring: ([value]) => [typeof value === 'number' || typeof value === 'boolean' ? String(value) : value],
  type: ([value]) => [typeOf(value)],
  next: ([value]) => [value instanceof Table && value.entries.size === 0 ? undefined : Unknown.from([value])],
};

/** Functions whose answer is another one the next time. */
const CHANCE = /^(math\.random|os\.(time|date|clock))$/;

export function callLibrary(path: string, args: readonly Value[]): readonly Value[] {
  if (CHANCE.test(path)) return [new Unknown(false, true)];
  return LIBRARY[path]?.(args) ?? [Unknown.from(args)];
}

export function lengthOf(value: Value): Value {
  if (typeof value === 'string') return value.length;
  if (value instanceof CookieValue) return COOKIE_VALUE_LENGTH;
  return value instanceof Table ? value.length : Unknown.from([value]);
}

/** A number as Lua's arithmetic takes it: a text of digits counts too. */
export function numberOf(value: Value): Value {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string') return value === undefined ? undefined : Unknown.from([value]);
  const number = Number(value);
  return value.trim() === '' || Number.isNaN(number) ? undefined : number;
}

function onText(apply: (text: string, rest: readonly Value[]) => Value): LibraryFunction {
  return (args) => {
    const [text, ...rest] = args;
    return [typeof text === 'string' ? apply(text, rest) : Unknown.from(args)];
  };
}

function onTexts(apply: (text: string, part: string, rest: readonly Value[]) => readonly Value[]): LibraryFunction {
  return (args) => {
    const [text, part, ...rest] = args;
    return typeof text === 'string' && typeof part === 'string' ? apply(text, part, rest) : [Unknown.from(args)];
  };
}

/** Lua counts from 1, and from the end with negative numbers. */
function position(value: Value, length: number, fallback: number): number {
  if (typeof value !== 'number') return fallback;
  return value < 0 ? length + value + 1 : value;
}

/** Only patterns that are a text, with or without anchors: what else they match is not needed to know a path. */
function locate(
  text: string,
  pattern: string,
  start: number,
  isPlain: boolean,
): { readonly start: number; readonly text: string } | null | Unknown {
  const { literal, atStart, atEnd } = isPlain
    ? { literal: pattern, atStart: false, atEnd: false }
    : readPattern(pattern);
  if (literal === null) return new Unknown(false);
  const from = atEnd ? Math.max(start, text.length - literal.length) : start;
  const found = text.indexOf(literal, from);
  const isFound = found !== -1 && (!atStart || found === start) && (!atEnd || found + literal.length === text.length);
  return isFound ? { start: found, text: literal } : null;
}

/**
 * The text that a Lua pattern stands for; null where it stands for more than one. A dot and a hyphen count as themselves,
 * as authors of `/status.html` and `/pool-status` mean them.
 */
export function readPattern(pattern: string): { literal: string | null; atStart: boolean; atEnd: boolean } {
  const atStart = pattern.startsWith('^');
  const atEnd = /(^|[^%])(%%)*\$$/.test(pattern);
  const body = pattern.slice(atStart ? 1 : 0, atEnd ? -1 : undefined);
  const text = body.replace(/%([^\w\s])/g, '$1');
  const isLiteral = !/[%^$()[\]*+?]/.test(body.replace(/%[^\w\s]/g, ''));
  return { literal: isLiteral ? text : null, atStart, atEnd };
}

function typeOf(value: Value): Value {
  if (value === undefined) return 'nil';
  if (value instanceof CookieValue) return 'string';
  if (value instanceof Table) return 'table';
  return typeof value === 'object' ? Unknown.from([value]) : typeof value;
}
