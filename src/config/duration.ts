const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Parses a duration such as `250ms`, `3s`, `1.5s`, `30m`, `12h` or `7d` into milliseconds.
 * @throws Error whose message says what to write instead.
 */
export function parseDurationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
  const unitMs = UNIT_MS[match?.[2] ?? ''];
  if (unitMs === undefined) throw new Error('is not a duration: write a number with a unit, such as 250ms, 3s or 30m');
  return Math.round(Number(match?.[1]) * unitMs);
}

/** Milliseconds in the form that protobuf's JSON mapping (and so Envoy's YAML) reads: `0.25s`. */
export function formatProtoDuration(ms: number): string {
  return `${ms / 1000}s`;
}
