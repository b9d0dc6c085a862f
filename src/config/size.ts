const UNIT_BYTES: Readonly<Record<string, number>> = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 };

/**
 * Parses a size such as `512MiB`, `1GiB` or `1.5GiB` into bytes.
 * @throws Error whose message says what to write instead.
 */
export function parseSizeBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(KiB|MiB|GiB|TiB)$/.exec(text);
  const unitBytes = UNIT_BYTES[match?.[2] ?? ''];
  if (unitBytes === undefined) throw new Error('is not a size: write a number with a unit, such as 512MiB or 1GiB');
  return Math.round(Number(match?.[1]) * unitBytes);
}
