import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { printBootstrap } from '../../src/envoy-config/print.ts';

test.each([
  ['east.envoy.yaml', 'east.yaml'],
  ['west.envoy.yaml', 'west.yaml'],
  ['compose/east/envoy.yaml', 'compose/east/site.yaml'],
  ['compose/west/envoy.yaml', 'compose/west/site.yaml'],
])('envoy/%s is what the envoy command prints for %s (npm run render)', async (bootstrap, config) => {
  const directory = new URL('../../envoy/', import.meta.url).pathname;
  const printed = printBootstrap(await loadConfig(`${directory}${config}`, 'rendering'));
  expect(await readFile(`${directory}${bootstrap}`, 'utf8')).toBe(printed);
});
