import { at, isTrueAt, listAt, numberAt, textAt } from './json.ts';

/** A request as routes see it: a GET without a body. */
export interface Probe {
  /** Without a query. */
  readonly path: string;
  /** By lower-case name. Those that are not here are absent. */
  readonly headers: Readonly<Record<string, string>>;
  /** The runtime as it would be, for keys that decide by whole requests: 0 or 100 percent. */
  readonly runtime: ReadonlyMap<string, string>;
}

/** `unknown`: it depends on what a probe does not say, such as the client's certificate. */
export type Match = 'yes' | 'no' | 'unknown';

/** Whether a route takes the request, by Envoy's rules. */
export function matchRoute(route: unknown, probe: Probe): Match {
  const match = at(route, 'match');
  const byPath = matchPath(match, probe.path);
  // Most routes end here, which counts where there are thousands.
  if (byPath === 'no') return byPath;
  return all([
    byPath,
    ...listAt(match, 'headers').map((matcher) => matchHeader(matcher, probe)),
    // A probe has no query, and is no gRPC call.
    ...listAt(match, 'query_parameters').map(
      (matcher): Match => (isTrueAt(matcher, 'present_match') ? 'no' : 'unknown'),
    ),
    at(match, 'grpc') === undefined ? 'yes' : 'no',
    matchRuntime(match, probe),
    ...['tls_context', 'dynamic_metadata', 'filter_state', 'cookies'].map(
      (name): Match => (at(match, name) === undefined ? 'yes' : 'unknown'),
    ),
  ]);
}

function all(matches: readonly Match[]): Match {
  if (matches.includes('no')) return 'no';
  return matches.includes('unknown') ? 'unknown' : 'yes';
}

function matchPath(match: unknown, path: string): Match {
  const ignoreCase = at(match, 'case_sensitive') === false;
  const fold = (text: string) => (ignoreCase ? text.toLowerCase() : text);
  const prefix = textAt(match, 'prefix');
  if (prefix !== undefined) return toMatch(fold(path).startsWith(fold(prefix)));
  const exact = textAt(match, 'path');
  if (exact !== undefined) return toMatch(fold(path) === fold(exact));
  const segments = textAt(match, 'path_separated_prefix');
  if (segments !== undefined) {
    return toMatch(fold(path) === fold(segments) || fold(path).startsWith(`${fold(segments)}/`));
  }
  if (at(match, 'safe_regex') !== undefined) return matchRegex(at(match, 'safe_regex'), path, ignoreCase);
  return at(match, 'connect_matcher') === undefined ? 'unknown' : 'no';
}

function matchHeader(matcher: unknown, probe: Probe): Match {
  const name = textAt(matcher, 'name')?.toLowerCase() ?? '';
  const present =
    name === ':path' ? probe.path : name === ':method' ? (probe.headers[name] ?? 'GET') : probe.headers[name];
  const isInverted = isTrueAt(matcher, 'invert_match');
  if (present === undefined && !isTrueAt(matcher, 'treat_missing_header_as_empty')) {
    const wanted = at(matcher, 'present_match');
    // A missing header matches no value, inverted or not; of presence alone it can be the opposite that is asked for.
    return typeof wanted === 'boolean' ? toMatch(!wanted !== isInverted) : 'no';
  }
  const found = matchHeaderValue(matcher, present ?? '', present !== undefined);
  if (found === 'unknown') return found;
  return toMatch((found === 'yes') !== isInverted);
}

function matchHeaderValue(matcher: unknown, value: string, isPresent: boolean): Match {
  const wanted = at(matcher, 'present_match');
  if (typeof wanted === 'boolean') return toMatch(wanted === isPresent);
  if (at(matcher, 'range_match') !== undefined) return 'unknown';
  const stringMatch = at(matcher, 'string_match');
  if (stringMatch !== undefined) return matchString(stringMatch, value);
  // The fields of Envoy's older configs.
  for (const kind of ['exact', 'prefix', 'suffix', 'contains'] as const) {
    const pattern = textAt(matcher, `${kind}_match`);
    if (pattern !== undefined) return matchString({ [kind]: pattern }, value);
  }
  const regex = at(matcher, 'safe_regex_match');
  if (regex !== undefined) return matchRegex(regex, value, false);
  return toMatch(isPresent);
}

/** Envoy's StringMatcher. */
export function matchString(matcher: unknown, value: string): Match {
  const ignoreCase = isTrueAt(matcher, 'ignore_case');
  const fold = (text: string) => (ignoreCase ? text.toLowerCase() : text);
  const exact = textAt(matcher, 'exact');
  if (exact !== undefined) return toMatch(fold(value) === fold(exact));
  const prefix = textAt(matcher, 'prefix');
  if (prefix !== undefined) return toMatch(fold(value).startsWith(fold(prefix)));
  const suffix = textAt(matcher, 'suffix');
  if (suffix !== undefined) return toMatch(fold(value).endsWith(fold(suffix)));
  const contains = textAt(matcher, 'contains');
  if (contains !== undefined) return toMatch(fold(value).includes(fold(contains)));
  return at(matcher, 'safe_regex') === undefined ? 'unknown' : matchRegex(at(matcher, 'safe_regex'), value, false);
}

/** RE2 matches the whole text. What JavaScript does not read, or reads otherwise, is unknown. */
function matchRegex(matcher: unknown, value: string, ignoreCase: boolean): Match {
  const pattern = textAt(matcher, 'regex');
  if (pattern === undefined) return 'unknown';
  const key = `${ignoreCase ? 'i' : ''} ${pattern}`;
  let regex = compiled.get(key);
  if (regex === undefined) {
    if (compiled.size >= MAX_COMPILED) compiled.clear();
    regex = compile(pattern, ignoreCase);
    compiled.set(key, regex);
  }
  return regex === null ? 'unknown' : toMatch(regex.test(value));
}

/** Each is matched against many requests; a config may have any number of them. */
const MAX_COMPILED = 1_000;
const compiled = new Map<string, RegExp | null>();

/** Null where JavaScript does not read it. */
function compile(pattern: string, ignoreCase: boolean): RegExp | null {
  const [, given = '', rest = ''] = /^(?:\(\?([is]+)\))?([\s\S]*)$/.exec(pattern) ?? [];
  const flags = new Set([...given, ...(ignoreCase ? ['i'] : [])]);
  // `\C` is any byte.
  const translated = rest.replace(/\\([\s\S])/g, (whole, letter: string) => (letter === 'C' ? '[^]' : whole));
  try {
    return new RegExp(`^(?:${translated})$`, [...flags].join(''));
  } catch {
    return null;
  }
}

const DENOMINATORS: Readonly<Record<string, number>> = { TEN_THOUSAND: 10_000, MILLION: 1_000_000 };

function matchRuntime(match: unknown, probe: Probe): Match {
  const fraction = at(match, 'runtime_fraction');
  if (fraction === undefined) return 'yes';
  const denominator = DENOMINATORS[textAt(fraction, 'default_value', 'denominator') ?? ''] ?? 100;
  const inForce = probe.runtime.get(textAt(fraction, 'runtime_key') ?? '');
  // A number in the runtime counts percent, whatever the default's denominator.
  const share =
    inForce === undefined
      ? (numberAt(fraction, 'default_value', 'numerator') ?? 0) / denominator
      : Number(inForce) / 100;
  if (share >= 1) return 'yes';
  return share <= 0 ? 'no' : 'unknown';
}

function toMatch(holds: boolean): Match {
  return holds ? 'yes' : 'no';
}
