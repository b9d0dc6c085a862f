import type { Check } from '../checks/check.ts';
import type { Facts } from '../facts.ts';
import { type Fix, type Mark, ok, type Said, type Verdict, yaml } from '../finding.ts';
import { at, entriesAt, listAt, textAt } from '../json.ts';
import type { Field, FieldTable, Subject } from './field.ts';
import { asRendered, show } from './rules.ts';

/** Says what there is to say of an object. */
export type Judge = (subject: Subject) => Verdict[];

/** A check for each name of a table. @param each finds the objects, and lets each be judged */
export function fieldChecks(table: FieldTable, each: (facts: Facts, judge: Judge) => Said): Check[] {
  return Object.entries(table).map(([name, fields]) => ({
    name,
    run: (facts) => each(facts, (subject) => judge(fields, subject)),
  }));
}

/** One line for each harm, with all fields that do it; one line where all are right. */
export function judge(fields: readonly Field[], subject: Subject): Verdict[] {
  const label = subject.label === undefined ? '' : `${subject.label}: `;
  const harms = new Map<string, { mark: Mark; harm: string; complaints: string[]; fields: Field[] }>();
  const failed: string[] = [];
  const right = new Set<string>();
  for (const field of fields) {
    // What is within something that is not there has been said of that.
    if (field.when?.(subject) === false || failed.some((path) => isWithin(field.path, path))) continue;
    const complaint = complaintOf(field, subject);
    if (complaint === null) {
      right.add(describe(field, subject));
      continue;
    }
    failed.push(field.path);
    const [mark, harm] = harmOf(field);
    const same = harms.get(harm) ?? { mark, harm, complaints: [], fields: [] };
    same.complaints.push(`${nameOf(field)} ${complaint}`);
    same.fields.push(field);
    harms.set(harm, same);
  }
  if (harms.size === 0) return [ok(label + [...right].join(', '))];
  return [...harms.values()].map(({ mark, harm, complaints, fields: bad }) => ({
    mark,
    text: `${label}${complaints.join(', ')}: ${harm}`,
    fix: mark === 'unchecked' ? null : fixOf(bad, subject),
  }));
}

/** What is not as it must be. */
export function troublesOf(fields: readonly Field[], subject: Subject): Verdict[] {
  return judge(fields, subject).filter(({ mark }) => mark !== 'ok');
}

function harmOf(field: Field): [Mark, string] {
  if ('wrong' in field) return ['wrong', field.wrong];
  return 'warn' in field ? ['warn', field.warn] : ['unchecked', field.unchecked];
}

function complaintOf(field: Field, { actual, rendered }: Subject): string | null {
  const { must = asRendered(), want, unset } = field;
  const wanted = want ?? valuesOf(field, rendered)[0] ?? unset;
  const complaints = valuesOf(field, actual).map((value) =>
    must({ value: value ?? unset, wanted, says: says(field, value) }),
  );
  return complaints.includes(null) ? null : (complaints[0] ?? null);
}

function says({ unset }: Field, value: unknown): string {
  if (value === undefined) return unset === undefined ? 'is not set' : `is ${show(unset)} (Envoy's default)`;
  return `is ${show(value)}`;
}

/** `max_retries 1000000`; of what has members only the name. */
function describe(field: Field, { actual }: Subject): string {
  const value = valuesOf(field, actual)[0] ?? field.unset;
  return [value].flat().some(isObject) ? nameOf(field) : `${nameOf(field)} ${show(value)}`;
}

/** Of what is in a list or an extension those are not named. */
function nameOf({ path }: Field): string {
  return path.replace(/^.*(\[\]|\btyped_config)\./, '');
}

/** One value, or those of the items of a list: a limit's only where it is for requests of ordinary priority. */
function valuesOf({ path, read }: Field, object: unknown): readonly unknown[] {
  if (read !== undefined) return [read(object)];
  const [outer, inner] = stepsOf(path);
  if (inner === undefined) return [at(object, ...outer)];
  const items = listAt(object, ...outer).filter((item) => (textAt(item, 'priority') ?? 'DEFAULT') === 'DEFAULT');
  return items.length === 0 ? [undefined] : items.map((item) => at(item, ...inner));
}

/** What is rendered, or what is wanted in its place. */
function fixOf(fields: readonly Field[], { place, rendered }: Subject): Fix {
  const list = fields.find(({ inItem }) => inItem)?.path.split('[].')[0];
  const lines = fields.map((field) => linesOf(field, rendered)).reduce(merge);
  return yaml(`in ${list === undefined ? '' : `${list} of `}${place}:`, lines);
}

/** A list is printed whole. */
function linesOf({ path, fix, want, unset, inItem }: Field, rendered: unknown): unknown {
  const [outer, inner] = stepsOf(fix ?? path);
  if (inItem && inner !== undefined) return nest(inner, want);
  const model = fix === undefined && want !== undefined ? undefined : at(rendered, ...outer);
  if (model !== undefined) return nest(outer, model);
  return nest(outer, inner === undefined ? (want ?? unset) : [nest(inner, want ?? unset)]);
}

function nest(steps: readonly string[], value: unknown): unknown {
  return steps.reduceRight<unknown>((within, step) => ({ [step]: within }), value);
}

/** Lines that go to the same place, as one. */
function merge(left: unknown, right: unknown): unknown {
  if (!isObject(left) || !isObject(right)) return right;
  const merged = new Map(entriesAt(left));
  for (const [name, value] of entriesAt(right)) merged.set(name, merge(merged.get(name), value));
  return Object.fromEntries(merged);
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isWithin(path: string, outer: string): boolean {
  return path.startsWith(`${outer}.`) || path.startsWith(`${outer}[].`);
}

/** To a member, or to a list and within its items. */
function stepsOf(path: string): [outer: readonly string[], inner?: readonly string[]] {
  const [outer = '', inner] = path.split('[].');
  return inner === undefined ? [outer.split('.')] : [outer.split('.'), inner.split('.')];
}
