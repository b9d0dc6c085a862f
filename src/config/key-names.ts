/** A length of time as the file gives it; in the code it is a number of milliseconds, and its key ends in `Ms`. */
export class Duration<Ms extends number | null = number> {
  readonly ms: Ms;

  constructor(ms: Ms) {
    this.ms = ms;
  }
}

/** A size as the file gives it; in the code it is a number of bytes, and its key ends in `Bytes`. */
export class Size<Bytes extends number | null = number> {
  readonly bytes: Bytes;

  constructor(bytes: Bytes) {
    this.bytes = bytes;
  }
}

type CamelCase<Key extends string> = Key extends `${infer First}_${infer Rest}`
  ? `${First}${Capitalize<CamelCase<Rest>>}`
  : Key;

type KeyInCode<Key, Value> = Key extends string
  ? Value extends Duration<number | null>
    ? `${CamelCase<Key>}Ms`
    : Value extends Size<number | null>
      ? `${CamelCase<Key>}Bytes`
      : CamelCase<Key>
  : Key;

/** What the file says, with the keys that the code uses: `hold_up: 3s` is `holdUpMs: 3000`. */
export type InCode<Value> =
  Value extends Duration<infer Ms>
    ? Ms
    : Value extends Size<infer Bytes>
      ? Bytes
      : Value extends readonly unknown[]
        ? { readonly [Index in keyof Value]: InCode<Value[Index]> }
        : Value extends object
          ? { readonly [Key in keyof Value as KeyInCode<Key, Value[Key]>]: InCode<Value[Key]> }
          : Value;

/** What stands in the file, without a second list of its keys. */
export function inCode<Value>(value: Value): InCode<Value>;
export function inCode(value: unknown): unknown {
  if (value instanceof Duration) return value.ms;
  if (value instanceof Size) return value.bytes;
  if (Array.isArray(value)) return value.map((item: unknown) => inCode(item));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [keyInCode(key, item), inCode(item)]));
}

function keyInCode(key: string, value: unknown): string {
  const camelCase = key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  if (value instanceof Duration) return `${camelCase}Ms`;
  return value instanceof Size ? `${camelCase}Bytes` : camelCase;
}

/** The way back, for what is said of a key. */
export function keyInFile(keyInCode: string): string {
  return keyInCode.replace(/(Ms|Bytes)$/, '').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
