import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/config/load.ts';
import { isApplicationName } from '../../../src/config/values.ts';
import {
  applicationNames,
  describeSharedName,
  findSharedNames,
  type NamedScript,
} from '../../../src/import/applications.ts';
import type { PoolSettings } from '../../../src/import/original-settings.ts';
import { printImportedApplications } from '../../../src/import/print-config.ts';

describe('names of applications', () => {
  test.each([
    ['are those of the files', ['shop', 'mail'], ['shop', 'mail']],
    ['have dashes for what cannot stand in them', ['shop_v2', 'web mail', '..x..'], ['shop-v2', 'web-mail', 'x']],
    ['are counted where a text comes again', ['shop', 'shop', 'shop'], ['shop', 'shop-2', 'shop-3']],
    ['are counted past names that are taken', ['a-2', 'a', 'a'], ['a-2', 'a', 'a-3']],
    ['are counted where they become the same', ['a.b', 'a_b'], ['a-b', 'a-b-2']],
    ['lose accents', ['Bücher'], ['Bucher']],
    ['are made up where nothing is left', ['___', '商店'], ['application', 'application-2']],
    ['are not reserved ones', ['none'], ['none-application']],
    [
      'are cut, with their number within the limit',
      ['a'.repeat(80), 'a'.repeat(80)],
      ['a'.repeat(63), `${'a'.repeat(61)}-2`],
    ],
  ])('%s', (_, texts, expected) => {
    expect(applicationNames(texts)).toEqual(expected);
  });

  test('are valid and given once, whatever the texts', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('a', 'a-2', 'none'))), (texts) => {
        const names = applicationNames(texts);
        expect(names.filter((name) => !isApplicationName(name))).toEqual([]);
        expect(new Set(names).size).toBe(texts.length);
      }),
    );
  });
});

function pool(name: string, cookie: string): PoolSettings {
  return { pool: { value: name, line: 3 }, cookie: { value: cookie, line: 4 }, also: [] };
}

function scriptOf(name: string, local: PoolSettings, remote: PoolSettings): NamedScript {
  const settings = {
    statusUri: { value: '/status', line: 5 },
    local,
    remotes: [remote],
    isLocalFirst: false,
    remarks: [],
  };
  return { name, source: `${name}.lua`, settings };
}

const SHOP = scriptOf('shop', pool('shop-pool', 'SHOPEAST'), pool('shop-west', 'SHOPWEST'));
const MAIL = scriptOf('mail', pool('mail-pool', 'MAILEAST'), pool('mail-west', 'MAILWEST'));

describe('shared names', () => {
  test('of scripts with their own there are none', () => {
    expect(findSharedNames([SHOP, MAIL])).toEqual([]);
  });

  test('are found on either side, with those who have them', () => {
    const other = scriptOf('other', pool('shop-west', 'OTHER'), pool('other-west', 'SHOPEAST'));
    const shared = findSharedNames([SHOP, MAIL, other]);
    expect(shared).toEqual([
      { what: 'pool', value: 'shop-west', applications: ['shop', 'other'] },
      { what: 'cookie', value: 'SHOPEAST', applications: ['shop', 'other'] },
    ]);
    expect(shared.map(describeSharedName)).toEqual([
      'the pool "shop-west" is in the scripts of shop and other: each pool needs a cluster of its own here. Remove the line "cluster" of all but one (the default is <application>_local or <application>_<site>), or write another name',
      'the cookie "SHOPEAST" is in the scripts of shop and other: leave its domain out, so that no browser sends it to several of them, or choose another name at every site',
    ]);
  });

  test('are found among the other cookies that tell a site', () => {
    const other = {
      ...scriptOf('other', pool('p', 'P'), { ...pool('q', 'Q'), also: [{ value: 'SHOPWEST', line: 5 }] }),
    };
    expect(findSharedNames([SHOP, other])).toEqual([
      { what: 'cookie', value: 'SHOPWEST', applications: ['shop', 'other'] },
    ]);
    expect(printImportedApplications([SHOP, other])).toContain(
      'cookie: { name: "Q", also: ["SHOPWEST"] }   # line 4, 5; shop has it too: leave its domain out',
    );
  });

  test('of many applications name the first ones', () => {
    const text = describeSharedName({ what: 'pool', value: 'p', applications: ['a', 'b', 'c', 'd', 'e', 'f'] });
    expect(text).toContain('in the scripts of a, b, c, d and 2 more:');
  });
});

describe('the config of several scripts', () => {
  test('is fine once its sites and hosts are filled in', () => {
    let count = 0;
    const filled = printImportedApplications([SHOP, MAIL])
      .replace('site: <fill in>', 'site: east')
      .replaceAll('- site: <fill in>', '- site: west')
      .replaceAll('[<fill in>]', () => `[host-${++count}.example.com]`);
    expect(filled).not.toMatch(/^[^#]*<fill in>/m);
    expect(parseConfig(filled, 'site.yaml').applications).toMatchObject([
      {
        name: 'shop',
        hosts: ['host-1.example.com'],
        statusUri: '/status',
        localPool: { cluster: 'shop-pool', cookie: { name: 'SHOPEAST' } },
        remotePools: [{ site: 'west', cluster: 'shop-west', cookie: { name: 'SHOPWEST' } }],
      },
      { name: 'mail', hosts: ['host-2.example.com'], localPool: { cluster: 'mail-pool' } },
    ]);
  });

  test('says of a name that an application in front has it too', () => {
    const again = { ...SHOP, name: 'again' };
    const lines = printImportedApplications([SHOP, again]).split('\n');
    expect(lines.filter((line) => line.includes('has it too')).map((line) => line.trim())).toEqual([
      'cluster: "shop-pool"   # line 3; shop has it too: remove this line, or write another name',
      'cookie: "SHOPEAST"   # line 4; shop has it too: leave its domain out, or choose another name',
      'cluster: "shop-west"   # line 3; shop has it too: remove this line, or write another name',
      'cookie: "SHOPWEST"   # line 4; shop has it too: leave its domain out, or choose another name',
    ]);
  });

  test('keeps clients with both cookies here where the script does', () => {
    const lines = printImportedApplications([SHOP, { ...MAIL, settings: { ...MAIL.settings, isLocalFirst: true } }]);
    expect(lines.match(/^.*both_cookies: local/gm)).toEqual(['    # both_cookies: local', '    both_cookies: local']);
  });

  test('keeps a script out of its comments, whatever its file is called', () => {
    const printed = printImportedApplications([SHOP, { ...MAIL, source: 'x\nsite: y' }]);
    expect(printed).toContain('# From x site: y.');
  });
});
