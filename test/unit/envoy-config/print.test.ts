import { describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { parseConfig } from '../../../src/config/load.ts';
import { renderBootstrap } from '../../../src/envoy-config/bootstrap.ts';
import { printBootstrap } from '../../../src/envoy-config/print.ts';

function configOf(site: string, remotes: number, redirects = false) {
  const pool = (index: number) =>
    `{ site: s${index}, cluster: "r:${index}", cookie: "C${index}", servers: ["[2001:db8::${index}]:80", "10.0.0.${index}:80"]${
      redirects ? `, redirect: "https://s${index}.example.com"` : ''
    } }`;
  const text = `
site: "${site}"
local_pool: { cluster: "on", cookie: "no", servers: [127.0.0.1:3001], protocol: downstream, close_when_down: true }
remote_pools: [${Array.from({ length: remotes }, (_, index) => pool(index + 1)).join(', ')}]
envoy: { listen: 0.0.0.0:80, fast_path: true }
`;
  return parseConfig(text, 'site.yaml', 'rendering');
}

describe('what is printed', () => {
  test.each(['east', 'no', 'on', 'y', '0x1', '1e3', '1_000'])('says the same as was rendered, of site %s', (site) => {
    const config = configOf(site, 2, site === 'no');
    const printed = printBootstrap(config);
    const rendered: unknown = JSON.parse(JSON.stringify(renderBootstrap(config)));
    expect(parse(printed)).toEqual(rendered);
    // As yaml-cpp reads it, which Envoy has.
    expect(parse(printed, { version: '1.1' })).toEqual(rendered);
  });

  test.each([false, true])(
    'can be read with the limits on references that readers have, with as many sites as there may be, with redirects: %s',
    (redirects) => {
      expect(() => parse(printBootstrap(configOf('east', 8, redirects)))).not.toThrow();
    },
  );

  test('can be read so with a dozen applications, and says the same as was rendered', () => {
    const applications = Array.from({ length: 12 }, (_, index) => ({
      ...{ name: `a${index}`, hosts: [`a${index}.example.com`] },
      local_pool: { cookie: `E${index}`, servers: ['127.0.0.1:3001'] },
      remote_pools: [{ site: 'west', cookie: `W${index}`, servers: ['10.0.0.1:80'] }],
    }));
    const file = { site: 'east', applications, envoy: { listen: '0.0.0.0:80' } };
    const config = parseConfig(stringify(file), 'site.yaml', 'rendering');
    expect(parse(printBootstrap(config))).toEqual(JSON.parse(JSON.stringify(renderBootstrap(config))));
  });

  test.each([false, true])('repeats no comment, with redirects: %s', (redirects) => {
    const comments = printBootstrap(configOf('east', 1, redirects))
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line.startsWith('#'));
    expect(new Set(comments).size).toBe(comments.length);
  });
});
