import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { printBootstrap } from '../../src/envoy-config/print.ts';

test.each(['east', 'west', 'compose/east', 'compose/west'])(
  'envoy/%s.envoy.yaml is what the envoy command prints (npm run render)',
  async (site) => {
    const directory = new URL('../../envoy/', import.meta.url).pathname;
    const printed = printBootstrap(await loadConfig(`${directory}${site}.yaml`, 'rendering'));
    expect(await readFile(`${directory}${site}.envoy.yaml`, 'utf8')).toBe(printed);
  },
);
