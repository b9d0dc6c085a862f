/** 64-bit numbers, which protobuf's JSON writes as text. */
const OF_64_BITS = new Set([
  ...['start', 'end', 'host_selection_retry_max_attempts', 'request_body_buffer_limit'],
  'max_active_downstream_connections',
]);

/** What protobuf leaves out because a field is that anyhow. Those of the wrapped types, such as BoolValue, stay. */
const DEFAULTS = new Map<string, unknown>([
  ...['disable_immediate_response', 'disabled', 'merge_slashes', 'observability_mode', 'strict'].map(
    (name) => [name, false] as const,
  ),
  ...['numerator', 'value'].map((name) => [name, 0] as const),
  ...['request_body_mode', 'response_body_mode'].map((name) => [name, 'NONE'] as const),
  ['append_action', 'APPEND_IF_EXISTS_OR_ADD'],
  ['denominator', 'HUNDRED'],
  ['fallback_policy', 'NO_FALLBACK'],
  ['lb_policy', 'ROUND_ROBIN'],
  ['op', 'EQ'],
  ['route_cache_action', 'DEFAULT'],
]);

const DURATION = /^(\d+)\.(\d+)s$/;
/** A fraction of a second has this many digits, or two or three times as many. */
const DIGITS = 3;

/** Config as Envoy writes it into its config dump, which is not as it was given. */
export function asDumped(config: unknown, name = ''): unknown {
  if (Array.isArray(config)) return config.map((item: unknown) => asDumped(item, name));
  if (typeof config === 'object' && config !== null) {
    const members = Object.entries(config).filter(([key, value]) => !isLeftOut(key, value));
    return Object.fromEntries(members.map(([key, value]) => [key, asDumped(value, key)]));
  }
  if (typeof config === 'number' && OF_64_BITS.has(name)) return String(config);
  const [, seconds, fraction = ''] = typeof config === 'string' ? (DURATION.exec(config) ?? []) : [];
  if (seconds === undefined) return config;
  return `${seconds}.${fraction.padEnd(Math.ceil(fraction.length / DIGITS) * DIGITS, '0')}s`;
}

function isLeftOut(name: string, value: unknown): boolean {
  if (value === undefined || value === null || (Array.isArray(value) && value.length === 0)) return true;
  return DEFAULTS.has(name) && DEFAULTS.get(name) === value;
}
