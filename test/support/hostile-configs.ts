import { MINIMAL } from '../unit/config/good-configs.ts';

const NAMES = 'site: east\nlocal_pool: { cluster: local_pool, cookie: KVAAVROI }\n';

function many(count: number, part: (index: number) => string): string {
  return Array.from({ length: count }, (_, index) => part(index)).join('');
}

/** Texts that once took seconds to minutes, or would fill a log. None of them is a config. */
export const HOSTILE_CONFIGS: Readonly<Record<string, string>> = {
  '10,000 unknown keys': MINIMAL + many(10_000, (index) => `k${index}: 1\n`),
  'unknown keys in as many bytes as there may be': `${MINIMAL}envoy: {${many(60_000, (index) => `${index},`)}}\n`,
  'an unknown key of 100 kB': `${MINIMAL}"${'\\u0001'.repeat(17_000)}": 1\n`,
  'a key of 100 kB twice': `${MINIMAL}${`${'k'.repeat(100_000)}: 1\n`.repeat(2)}`,
  'a value of 100 kB': `site: "${'\\u0001'.repeat(17_000)}"\n`,
  'a tag of 100 kB': `${MINIMAL}envoy: !${'%41'.repeat(30_000)} 1\n`,
  'an alias of 100 kB': `${MINIMAL}envoy: *${'a'.repeat(100_000)}\n`,
  'a directory of 400,000 slashes': `${MINIMAL}envoy: { secrets_dir: "/${'/'.repeat(400_000)}a" }\n`,
  'one key 80,000 times': 'a: 1\n'.repeat(80_000),
  '100,000 keys of a flow mapping': `{${many(100_000, (index) => `${index.toString(36)},`)}`,
  '50,000 aliases': `${MINIMAL}envoy: &a {}\nx:\n${'- *a\n'.repeat(50_000)}`,
  '100,000 aliases without an anchor': `x: [${'*a,'.repeat(100_000)}]\n`,
  '40,000 anchors': `${MINIMAL}x:\n${many(40_000, (index) => `- &a${index} 1\n`)}`,
  'aliases of aliases': many(30, (index) => `a${index}: &a${index} [${`*a${index - 1},`.repeat(3)}]\n`).replaceAll(
    '*a-1',
    'x',
  ),
  'brackets that never close': '['.repeat(250_000),
  'brackets that close': `${'['.repeat(250_000)}${']'.repeat(250_000)}`,
  'mappings in mappings': '{a: '.repeat(100_000),
  '500,000 commas': `a: [${','.repeat(500_000)}]\n`,
  '170,000 wrong servers': `${MINIMAL.replace('cookie: KVAAVROI', 'cookie: KVAAVROI\n  servers: [SERVERS]')}`.replace(
    'SERVERS',
    'a,'.repeat(170_000),
  ),
  '10,000 remote pools': `${NAMES}remote_pools:\n${many(10_000, (index) => `- { site: s${index}, cluster: c${index}, cookie: k${index} }\n`)}`,
  '100,000 remote pools that are none': `${NAMES}remote_pools: [${'1,'.repeat(100_000)}]\n`,
  '8 pools with the same 9,000 servers': `${NAMES.replace('KVAAVROI', `KVAAVROI, servers: &s [${many(9_000, (index) => `10.0.${index >> 8}.${index & 255}:80,`)}]`)}remote_pools: [${many(8, (index) => `{ site: s${index}, cluster: c${index}, cookie: k${index}, servers: *s },`)}]\n`,
  '200,000 lines that are directives without a name': '%\n'.repeat(200_000),
  '100,000 keys that are lists': '[]: 1\n'.repeat(80_000),
  '100,000 quoted lines': `'a'\n`.repeat(100_000),
};
