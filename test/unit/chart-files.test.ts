import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { CHART, chartFiles } from '../../lab/chart-files.ts';

const ROOT = new URL('../../', import.meta.url).pathname;

test('what of the chart is made from other files is as they are (npm run render:chart)', async () => {
  for (const [path, text] of await chartFiles(ROOT)) expect(await readFile(`${ROOT}${path}`, 'utf8'), path).toBe(text);
});

test('the chart runs the image of this version', async () => {
  const { version } = JSON.parse(await readFile(`${ROOT}package.json`, 'utf8')) as { version: string };
  expect(parse(await readFile(`${ROOT}${CHART}/Chart.yaml`, 'utf8'))).toMatchObject({ appVersion: version });
});
