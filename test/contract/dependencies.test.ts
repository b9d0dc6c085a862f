import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { z } from 'zod';

const LOCKFILE = new URL('../../package-lock.json', import.meta.url);
const LIST = '../../docs/licences.md';

const lockfile = z.object({
  packages: z.record(
    z.string(),
    z.object({
      version: z.string(),
      license: z.string().optional(),
      dev: z.boolean().optional(),
      hasInstallScript: z.boolean().optional(),
      resolved: z.string().optional(),
    }),
  ),
});

async function productionPackages() {
  const { packages } = lockfile.parse(JSON.parse(await readFile(LOCKFILE, 'utf8')));
  return Object.entries(packages)
    .filter(([path, { dev }]) => path !== '' && dev !== true)
    .map(([path, entry]) => ({ name: path.replace(/^.*node_modules\//, ''), ...entry }));
}

/** These ask for nothing but to be named, which docs/licences.md does. */
const LICENCES = ['MIT', 'ISC', 'BSD-3-Clause', 'Apache-2.0'];

test('every package that runs in production may be used by anybody', async () => {
  const packages = await productionPackages();
  expect(packages.filter(({ license = 'none' }) => !LICENCES.includes(license))).toEqual([]);
});

// Made anew by: npx vitest run --project contract test/contract/dependencies.test.ts -u
test('docs/licences.md lists each of them', async () => {
  const rows = (await productionPackages()).map(
    ({ name, version, license }) => `| ${name} | ${version} | ${license} |`,
  );
  const text = [
    '# Licences',
    '',
    'site-persistence is under the Apache License 2.0, see [LICENSE](../LICENSE). What it needs in production, as in the lockfile:',
    '',
    '| package | version | licence |',
    '|---|---|---|',
    ...[...new Set(rows)].sort(),
    '',
  ].join('\n');
  await expect(text).toMatchFileSnapshot(LIST);
});

test('no package names an address to be fetched from', async () => {
  expect((await productionPackages()).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
});
