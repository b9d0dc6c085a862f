import { expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.ts';
import { whyNotHold } from '../../../src/ops/hold-guard.ts';

const CONFIG = parseConfig(
  `
site: east
applications:
  - name: shop
    hosts: [shop.example.com]
    local_pool: { cookie: SE }
    remote_pools: [{ site: west, cookie: SW }, { site: north, cookie: SN }]
  - name: mail
    hosts: [mail.example.com]
    local_pool: { cookie: ME }
    remote_pools: [{ site: west, cookie: MW }]
`,
  'site.yaml',
);

interface Stand {
  /** `application site` of those that are up. */
  readonly up: readonly string[];
  readonly draining?: readonly string[];
  readonly isKnown?: boolean;
}

function whyNot(names: readonly string[], { up, draining = [], isKnown = true }: Stand): string | null {
  const pools = CONFIG.applications.flatMap(({ name, remotePools }) =>
    ['east', ...remotePools.map(({ site }) => site)].map((site) => ({
      application: name,
      site,
      up: up.includes(`${name} ${site}`),
    })),
  );
  const applications = CONFIG.applications.map(({ name }) => ({ name, draining: draining.includes(name) }));
  return whyNotHold(CONFIG, { health_known: isKnown, applications, pools }, { site: 'west', names });
}

const ALL = ['shop east', 'shop west', 'shop north', 'mail east', 'mail west'];
const BOTH = ['shop', 'mail'];
const without = (...down: readonly string[]) => ALL.filter((pool) => !down.includes(pool));
const NOWHERE = "takes new clients: east's pool is down or drains, and no third site is up";

test.each<[string, readonly string[], Stand, string | null]>([
  ['while this site serves', BOTH, { up: ALL }, null],
  ['while it does, though west is down', BOTH, { up: without('shop west', 'mail west') }, null],
  ['not while the local pool is down', BOTH, { up: without('mail east') }, `without west no site of mail ${NOWHERE}`],
  ['while it is down and a third site is up', ['shop'], { up: without('shop east') }, null],
  ['not while it and the third are down', ['shop'], { up: ['shop west'] }, `without west no site of shop ${NOWHERE}`],
  ['while only another application is down', ['shop'], { up: without('mail east') }, null],
  ['not while it drains', BOTH, { up: ALL, draining: BOTH }, `without west no site of mail ${NOWHERE}`],
  [
    'not while health is not known',
    BOTH,
    { up: [], isKnown: false },
    'health is not known, so nobody knows whether a site of shop, mail is up without west',
  ],
])('a site is held %s', (_, names, stand, expected) => {
  expect(whyNot(names, stand)).toBe(expected);
});
