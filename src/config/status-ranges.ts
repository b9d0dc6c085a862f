import type { StatusRange } from './config.ts';

/** Every status there is, one by one, is no list that anybody writes. */
const MAX_LENGTH = 200;

const FORM = 'is not a list of statuses: write 200, 200-399 or 200,204,301-302';

/**
 * Parses HTTP statuses such as `200-399` or `200,204,301-302`.
 * @throws Error whose message says what to write instead.
 */
export function parseStatusRanges(text: string): readonly StatusRange[] {
  if (text.length > MAX_LENGTH) throw new Error(FORM);
  return text.split(',').map((part) => {
    const match = /^ *(\d{3})(?:-(\d{3}))? *$/.exec(part);
    const from = Number(match?.[1]);
    const to = Number(match?.[2] ?? match?.[1]);
    if (match === null) throw new Error(FORM);
    if (from < 100 || to > 599 || from > to) throw new Error('is not a range of statuses: they go from 100 to 599');
    return [from, to] as const;
  });
}

/** The text form that {@link parseStatusRanges} reads. */
export function formatStatusRanges(ranges: readonly StatusRange[]): string {
  return ranges.map(([from, to]) => (from === to ? String(from) : `${from}-${to}`)).join(',');
}
