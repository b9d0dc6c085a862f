import { isClusterName, isCookieName, isStatusUri } from '../config/schema.ts';
import type { Found, OriginalSettings, PoolSettings } from './original-settings.ts';

/** Valid nowhere in a config file, so that `check` names each key that still has it. */
export const FILL_IN = '<fill in>';

/**
 * The config file that does what the script did, as YAML with comments. What the script does not say is marked
 * {@link FILL_IN}, or stands there as a comment where it is not needed to run the sidecar.
 * @param source where the script is from, and so what its line numbers count
 */
export function printImportedConfig(settings: OriginalSettings, source: string): string {
  const { statusUri, local, remotes, remarks } = settings;
  const lines = [
    `# From ${clean(source)}, by "site-persistence import". What the script does not say is marked ${FILL_IN};`,
    '# "site-persistence check" names each such key by its line.',
    ...(remarks.length === 0
      ? []
      : ['#', '# Not taken over, for it goes beyond the original rules or cannot be read:']),
    ...remarks.map(({ line, text }) => `#   ${line === null ? '' : `line ${line}: `}${clean(text)}`),
    '',
    `site: ${FILL_IN}                 # this site's name, such as east`,
    ...setting('', 'status_uri', statusUri, isStatusUri),
    "# The script expires no cookie. As long as another site still runs it, keep clients with both sites' cookies here:",
    '# both_cookies: local',
    'local_pool:',
    ...pool('  ', local),
    '  # servers: [10.0.0.11:8080, 10.0.0.12:8080]   # for "site-persistence envoy"',
    'remote_pools:',
    ...remotes.flatMap((remote) => [
      `  - site: ${FILL_IN}             # the other site's name, such as west`,
      ...pool('    ', remote),
      '    # servers: [west.example.com:443]   # that site\'s virtual IP, for "site-persistence envoy"',
    ]),
    'envoy:',
    '  admin: http://127.0.0.1:9901',
    '  # listen: 0.0.0.0:8080                         # for "site-persistence envoy"',
  ];
  return `${lines.join('\n')}\n`;
}

function pool(indent: string, { pool: found, cookie }: PoolSettings): string[] {
  return [...setting(indent, 'cluster', found, isClusterName), ...setting(indent, 'cookie', cookie, isCookieName)];
}

function setting(indent: string, key: string, found: Found | null, isValid: (value: string) => boolean): string[] {
  if (found === null) return [`${indent}${key}: ${FILL_IN}            # the script does not say it`];
  if (isValid(found.value)) return [`${indent}${key}: ${JSON.stringify(found.value)}   # line ${found.line}`];
  return [
    `${indent}${key}: ${FILL_IN}            # line ${found.line} has ${clean(JSON.stringify(found.value))}, which cannot be used here`,
  ];
}

/** Fit for a comment: a script's text must not end its line. */
function clean(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, ' ');
}
