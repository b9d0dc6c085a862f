import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/config/config-error.ts';
import { loadConfig } from '../../src/config/load.ts';
import { loadConfigInWorker } from '../../src/config/load-in-worker.ts';
import { EVERY_KEY, MINIMAL } from '../unit/config/good-configs.ts';
import { writeSiteFile } from './site.ts';

/** As built: a worker starts from JavaScript. */
const worker = new URL('../../dist/config/load-worker.js', import.meta.url);

const script = (text: string) => new URL(`data:text/javascript,${encodeURIComponent(text)}`);

describe('loadConfigInWorker()', () => {
  test('gives what loadConfig() gives', async () => {
    const file = await writeSiteFile(EVERY_KEY);
    await writeFile(join(dirname(file), 'edge-extra.yaml'), 'admin: { profile_path: /tmp/x }\n');
    expect(await loadConfigInWorker(file, { worker })).toEqual(await loadConfig(file));
  });

  test('throws what loadConfig() throws', async () => {
    const file = await writeSiteFile(
      MINIMAL + 'x: 1\n'.replace(/x/g, 'bogus') + Array.from({ length: 30 }, (_, n) => `k${n}: 1\n`).join(''),
    );
    const expected: unknown = await loadConfig(file).catch((error: unknown) => error);
    const found: unknown = await loadConfigInWorker(file, { worker }).catch((error: unknown) => error);
    expect(found).toBeInstanceOf(ConfigError);
    expect(found).toEqual(expected);
    expect(found).toMatchObject({ more: 11 });
  });

  test('throws what loadConfig() throws for an overlay, with the name of its file', async () => {
    const file = await writeSiteFile(`${MINIMAL}envoy: { overlay: broken.yaml }\n`);
    await writeFile(join(dirname(file), 'broken.yaml'), 'a: 1\na: 2\n');
    const expected: unknown = await loadConfig(file).catch((error: unknown) => error);
    expect(await loadConfigInWorker(file, { worker }).catch((error: unknown) => error)).toEqual(expected);
    expect(expected).toMatchObject({ message: expect.stringMatching(/\/broken\.yaml:2: .*given twice$/) });
  });

  test.each<[string, string, RegExp]>([
    ['takes too long', 'for (;;);', /^reading the config took longer than 0\.3 s: the old config stays$/],
    ['fails', 'throw new Error("out of ideas")', /^reading the config failed: out of ideas: the old config stays$/],
    [
      'takes too much memory',
      'const all = []; for (;;) all.push({})',
      /^reading the config failed: .*memory.*: the old config stays$/,
    ],
    ['says nothing', '', /^reading the config ended with code 0: the old config stays$/],
  ])(
    'says so when the reading %s',
    async (what, text, message) => {
      const timeoutMs = what === 'takes too long' ? 300 : 20_000;
      await expect(loadConfigInWorker('site.yaml', { worker: script(text), timeoutMs })).rejects.toThrow(message);
    },
    30_000,
  );

  test('ends with its signal', async () => {
    const signal = AbortSignal.timeout(100);
    await expect(loadConfigInWorker('site.yaml', { worker: script('for (;;);'), signal })).rejects.toThrow('aborted');
    await expect(loadConfigInWorker('site.yaml', { worker: script('for (;;);'), signal })).rejects.toThrow('aborted');
  });
});
