import { isClusterName, isCookieName, isStatusUri } from '../config/values.ts';
import { findSharedNames, type NamedScript, type SharedName } from './applications.ts';
import type { Found, OriginalSettings, PoolSettings } from './original-settings.ts';

/** Valid nowhere in a config file, so that `check` names each key that still has it. */
export const FILL_IN = '<fill in>';

/**
 * The config file that does what the script did, as YAML with comments. What the script does not say is marked
 * {@link FILL_IN}, or stands there as a comment where it is not needed to run the sidecar.
 * @param source where the script is from, and so what its line numbers count
 */
export function printImportedConfig(settings: OriginalSettings, source: string): string {
  const { statusUri, remarks } = settings;
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
    ...(settings.isLocalFirst
      ? ["# As in the script, clients with both sites' cookies stay here:", 'both_cookies: local']
      : [
          "# The script expires no cookie. As long as another site still runs it, keep clients with both sites' cookies here:",
          '# both_cookies: local',
        ]),
    ...pools('', settings),
    ...ENVOY,
  ];
  return `${lines.join('\n')}\n`;
}

/**
 * The config file with an application for each of several scripts, as YAML with comments. What no script says, its hosts
 * above all, is marked {@link FILL_IN}.
 */
export function printImportedApplications(scripts: readonly NamedScript[]): string {
  const shared = findSharedNames(scripts);
  const lines = [
    `# By "site-persistence import": an application of each script. What the scripts do not say is marked ${FILL_IN};`,
    '# "site-persistence check" names each such key by its line.',
    '',
    `site: ${FILL_IN}                 # this site's name, such as east`,
    'applications:',
    ...scripts.flatMap((script) => application(script, shared)),
    ...ENVOY,
  ];
  return `${lines.join('\n')}\n`;
}

function application({ name, source, settings }: NamedScript, shared: readonly SharedName[]): string[] {
  const { statusUri, remarks } = settings;
  const others = (what: SharedName['what'], value: string) => {
    const users = shared.find((each) => each.what === what && each.value === value)?.applications ?? [];
    // The first to have a name can keep it.
    return users[0] === name ? undefined : users[0];
  };
  return [
    `  # From ${clean(source)}.`,
    ...(remarks.length === 0 ? [] : ['  # Not taken over, for it goes beyond the original rules or cannot be read:']),
    ...remarks.map(({ line, text }) => `  #   ${line === null ? '' : `line ${line}: `}${clean(text)}`),
    `  - name: ${JSON.stringify(name)}`,
    `    hosts: [${FILL_IN}]            # the host names of its virtual service, such as shop.example.com`,
    ...setting('    ', 'status_uri', statusUri, isStatusUri),
    settings.isLocalFirst
      ? '    both_cookies: local           # as in the script'
      : '    # both_cookies: local         # as long as another site still runs this script, which expires no cookie',
    ...pools('    ', settings, {
      cluster: (value) => {
        const other = others('pool', value);
        return other === undefined ? '' : `; ${other} has it too: remove this line, or write another name`;
      },
      cookie: (value) => {
        const other = others('cookie', value);
        return other === undefined ? '' : `; ${other} has it too: leave its domain out, or choose another name`;
      },
    }),
  ];
}

const ENVOY = [
  'envoy:',
  '  admin: http://127.0.0.1:9901',
  '  # listen: 0.0.0.0:8080                         # for "site-persistence envoy"',
];

/** What else is to be said of a name, behind its line's number. */
interface Notes {
  readonly cluster: (value: string) => string;
  readonly cookie: (value: string) => string;
}

const NO_NOTES: Notes = { cluster: () => '', cookie: () => '' };

function pools(indent: string, { local, remotes }: OriginalSettings, notes = NO_NOTES): string[] {
  return [
    'local_pool:',
    ...pool('  ', local, notes),
    '  # servers: [10.0.0.11:8080, 10.0.0.12:8080]   # for "site-persistence envoy"',
    'remote_pools:',
    ...remotes.flatMap((remote) => [
      `  - site: ${FILL_IN}             # the other site's name, such as west`,
      ...pool('    ', remote, notes),
      '    # servers: [west.example.com:443]   # that site\'s virtual IP, for "site-persistence envoy"',
    ]),
  ].map((line) => `${indent}${line}`);
}

function pool(indent: string, { pool: found, cookie, also }: PoolSettings, notes: Notes): string[] {
  const unusable = also.find(({ value }) => !isCookieName(value));
  return [
    ...setting(indent, 'cluster', found, isClusterName, notes.cluster),
    ...(cookie === null || also.length === 0 || unusable !== undefined || !isCookieName(cookie.value)
      ? setting(indent, 'cookie', unusable ?? cookie, isCookieName, notes.cookie)
      : [severalCookies(indent, [cookie, ...also], notes)]),
  ];
}

/** A cookie with others that tell the same site. */
function severalCookies(indent: string, cookies: readonly Found[], notes: Notes): string {
  const [name, ...also] = cookies.map(({ value }) => JSON.stringify(value));
  const lines = [...new Set(cookies.map(({ line }) => line))].join(', ');
  const note = cookies.map(({ value }) => notes.cookie(value)).find((text) => text !== '') ?? '';
  return `${indent}cookie: { name: ${name}, also: [${also.join(', ')}] }   # line ${lines}${note}`;
}

function setting(
  indent: string,
  key: string,
  found: Found | null,
  isValid: (value: string) => boolean,
  note: (value: string) => string = () => '',
): string[] {
  if (found === null) return [`${indent}${key}: ${FILL_IN}            # the script does not say it`];
  if (isValid(found.value))
    return [`${indent}${key}: ${JSON.stringify(found.value)}   # line ${found.line}${note(found.value)}`];
  return [
    `${indent}${key}: ${FILL_IN}            # line ${found.line} has ${clean(JSON.stringify(found.value))}, which cannot be used here`,
  ];
}

/** Fit for a comment: a script's text must not end its line. */
function clean(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, ' ');
}
