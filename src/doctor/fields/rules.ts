import { durationMsAt, numberAt } from '../json.ts';

/** What a rule looks at. */
export interface Read {
  /** Undefined where it is not set, and Envoy has no default of its own. */
  readonly value: unknown;
  readonly wanted: unknown;
  /** `is 3 (Envoy's default)`. */
  readonly says: string;
}

/** What is to be said of a field that is not as it must be; null where it is. */
export type Rule = (read: Read) => string | null;

function holding(isRight: (value: unknown, wanted: unknown) => boolean): Rule {
  return ({ value, wanted, says }) => (isRight(value, wanted) ? null : says);
}

/** As it is rendered, or as good as that. */
export function asRendered(...alternatives: readonly unknown[]): Rule {
  return ({ value, wanted, says }) => {
    if ([wanted, ...alternatives].some((good) => isSame(value, good))) return null;
    return typeof wanted === 'boolean' || value === undefined ? says : `${says}, not ${show(wanted)}`;
  };
}

export function not(bad: unknown): Rule {
  return holding((value) => !isSame(value, bad));
}

/** @param bound a number or a duration; without it the rendered one */
export function atLeast(bound?: number | string): Rule {
  return holding((value, wanted) => quantity(value) >= quantity(bound ?? wanted));
}

/** @param bound a number or a duration; without it the rendered one */
export function atMost(bound?: number | string): Rule {
  return holding((value, wanted) => quantity(value) <= quantity(bound ?? wanted));
}

/** It may be empty, but for a list. */
export const isSet = holding((value) => value !== undefined && !(Array.isArray(value) && value.length === 0));

export const isUnset = holding((value) => value === undefined);

/** It has all that is rendered: items of a list, members of an object, words between commas. */
export const includesRendered: Rule = ({ value, wanted }) => {
  const there = itemsOf(value);
  const missing = itemsOf(wanted).filter((item) => !there.includes(item));
  return missing.length === 0 ? null : `lacks ${missing.join(', ')}`;
};

/** It has none of these. */
export function excludes(...bad: readonly string[]): Rule {
  return ({ value }) => {
    const found = itemsOf(value).filter((item) => bad.includes(item));
    return found.length === 0 ? null : `has ${found.join(', ')}`;
  };
}

function itemsOf(value: unknown): readonly string[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value.map(show);
  if (typeof value === 'object') return Object.keys(value);
  return show(value)
    .split(',')
    .map((word) => word.trim());
}

function isSame(left: unknown, right: unknown): boolean {
  return show(left) === show(right) || quantity(left) === quantity(right);
}

/** NaN, which is neither more nor less than anything, for what is neither a number nor a duration. */
function quantity(value: unknown): number {
  return numberAt(value) ?? durationMsAt(value) ?? Number.NaN;
}

export function show(value: unknown): string {
  if (Array.isArray(value)) return value.map(show).join(', ') || 'none';
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? 'not set');
}
