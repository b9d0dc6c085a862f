/**
 * Reads of JSON whose shape nobody vouches for: an operator's own Envoy config. What is not there, or is of another
 * type, is undefined or empty; nothing here throws.
 */

/** The value at a path of member names. */
export function at(value: unknown, ...path: readonly string[]): unknown {
  let current = value;
  for (const name of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, name)) return undefined;
    current = Reflect.get(current, name);
  }
  return current;
}

export function listAt(value: unknown, ...path: readonly string[]): readonly unknown[] {
  const found = at(value, ...path);
  return Array.isArray(found) ? found : [];
}

export function textAt(value: unknown, ...path: readonly string[]): string | undefined {
  const found = at(value, ...path);
  return typeof found === 'string' ? found : undefined;
}

/** A number; protobuf's JSON writes those of 64 bits as text. */
export function numberAt(value: unknown, ...path: readonly string[]): number | undefined {
  const found = at(value, ...path);
  const number = typeof found === 'string' && found !== '' ? Number(found) : found;
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined;
}

export function isTrueAt(value: unknown, ...path: readonly string[]): boolean {
  return at(value, ...path) === true;
}

/** A protobuf duration, such as `0.250s`, in milliseconds. */
export function durationMsAt(value: unknown, ...path: readonly string[]): number | undefined {
  const match = /^(\d+(?:\.\d+)?)s$/.exec(textAt(value, ...path) ?? '');
  return match === null ? undefined : Math.round(Number(match[1]) * 1000);
}

/** The members of an object. */
export function entriesAt(value: unknown, ...path: readonly string[]): readonly (readonly [string, unknown])[] {
  const found = at(value, ...path);
  return typeof found === 'object' && found !== null && !Array.isArray(found) ? Object.entries(found) : [];
}

/** The protobuf type of a `google.protobuf.Any`, such as `envoy.config.cluster.v3.Cluster`. */
export function typeOf(value: unknown): string | undefined {
  return textAt(value, '@type')?.replace(/^.*\//, '');
}

/** A copy with only the member at this path, as one writes it into a file: `{ a: { b: value } }`. */
export function pick(value: unknown, ...path: readonly string[]): unknown {
  return path.reduceRight<unknown>((inner, name) => ({ [name]: inner }), at(value, ...path));
}
