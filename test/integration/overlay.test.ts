import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { runDoctor as runCommand } from '../support/doctor-site.ts';

const SITE = `site: east
local_pool: { cluster: local_pool, cookie: KVAAVROI, servers: ["127.0.0.1:3001"] }
remote_pools: [{ site: west, cluster: remote_pool, cookie: DDVHSLLQ, servers: ["127.0.0.1:81"] }]
envoy: { admin: unix:/run/envoy/admin.sock, listen: 127.0.0.1:80, overlay: extra.yaml }
`;

/** A change of the ext_proc filter. */
const filter = (settings: string) => `static_resources:
  listeners:
    - name: edge
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                http_filters:
                  - { name: envoy.filters.http.ext_proc, ${settings} }
`;

let directory: string;
let config: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'site-persistence-overlay-'));
  config = join(directory, 'site.yaml');
  await writeFile(config, SITE);
});
afterAll(async () => await rm(directory, { recursive: true }));

async function withOverlay(text: string, ...args: string[]) {
  await writeFile(join(directory, 'extra.yaml'), text);
  return await runCommand([...args, '-c', config]);
}

describe('an overlay that breaks nothing', () => {
  const text = filter('typed_config: { message_timeout: 2s }');

  test('is fine to check, printed by envoy, and what doctor expects', async () => {
    const check = await withOverlay(text, 'check');
    expect(check).toMatchObject({ code: 0, stderr: '' });
    expect(check.stdout).toContain(`${directory}/extra.yaml (envoy.overlay) leaves alone what the decision needs\n`);
    const envoy = await withOverlay(text, 'envoy');
    expect(envoy).toMatchObject({ code: 0, stderr: '' });
    expect(envoy.stdout).toContain('message_timeout: 2s');
    const printed = join(directory, 'printed.yaml');
    await writeFile(printed, envoy.stdout);
    const doctor = await withOverlay(text, 'doctor', '--config-dump', printed);
    expect(doctor).toMatchObject({ code: 0, stderr: '' });
    expect(doctor.stdout).toMatch(/^site east, Envoy of unknown version in .*printed\.yaml\n/);
    expect(doctor.stdout).toMatch(/\n\d+ ok, 0 warn, 0 wrong, \d+ could not be checked\n$/);
    // One that is made of the config alone.
    const before = await withOverlay('{}', 'envoy');
    await writeFile(printed, before.stdout);
    expect((await withOverlay(text, 'doctor', '--config-dump', printed)).stdout).toMatch(/ warn {3}message timeout /);
  });
});

describe('an overlay that breaks the decision', () => {
  const text = filter('typed_config: { failure_mode_allow: false }');
  const finding =
    /^Filter ext_proc\n {2}WRONG {2}failure mode {2}failure_mode_allow is false: .*\n.*\n +failure_mode_allow: true\n/m;

  test('fails check, with the lines that put it right', async () => {
    const { code, stdout, stderr } = await withOverlay(text, 'check');
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `${directory}/extra.yaml (envoy.overlay) breaks what the decision needs\n`,
    });
    expect(stdout).toMatch(finding);
    expect(stdout).not.toContain('is fine');
  });

  test('is printed with --force only', async () => {
    const refused = await withOverlay(text, 'envoy');
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toMatch(finding);
    expect(refused.stderr).toContain('nothing is printed without --force');
    const forced = await withOverlay(text, 'envoy', '--force');
    expect(forced.code).toBe(0);
    expect(forced.stderr).toMatch(finding);
    expect(forced.stdout).toContain('failure_mode_allow: false');
    expect((await withOverlay(text, 'envoy', '--only', 'filters')).code).toBe(1);
  });

  test('is wrong to doctor, though Envoy has what was printed', async () => {
    const printed = join(directory, 'forced.yaml');
    await writeFile(printed, (await withOverlay(text, 'envoy', '--force')).stdout);
    const { code, stdout } = await withOverlay(text, 'doctor', '--config-dump', printed, '--json');
    expect(code).toBe(1);
    const report: unknown = JSON.parse(stdout);
    expect(report).toMatchObject({ envoy: { file: printed, version: null }, counts: { wrong: 1 } });
    expect(stdout).toContain(`by ${directory}/extra.yaml: failure_mode_allow is false`);
  });
});

test.each(['check', 'envoy', 'doctor'])('%s names the line of what does not fit', async (command) => {
  const { code, stdout, stderr } = await withOverlay(filter('$before: nobody'), command);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(/^.*\/extra\.yaml:9: .*\."\$before": is for what is new: .*\n$/);
});

describe('doctor --config-dump of what "egctl x translate" prints', () => {
  const camelCased = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(camelCased);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, member]) => [
        // Keys of maps stay: names of extensions and of the runtime.
        key.includes('.') ? key : key.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
        camelCased(member),
      ]),
    );
  };

  /** What is rendered for the site, as a translation has it. */
  async function translation(): Promise<unknown> {
    const { stdout } = await withOverlay('{}', 'envoy');
    const { static_resources: parts, ...bootstrap } = z
      .looseObject({ static_resources: z.object({ clusters: z.array(z.unknown()), listeners: z.array(z.unknown()) }) })
      .parse(parse(stdout));
    const type = (name: string) => ({ '@type': `type.googleapis.com/envoy.admin.v3.${name}ConfigDump` });
    return camelCased({
      configs: [
        { ...type('Bootstrap'), bootstrap },
        { ...type('Clusters'), dynamic_active_clusters: parts.clusters.map((cluster) => ({ cluster })) },
        {
          ...type('Listeners'),
          dynamic_listeners: parts.listeners.map((listener) => ({ active_state: { listener } })),
        },
      ],
    });
  }

  const file = () => join(directory, 'translation.yaml');

  test('reads its spelling, with its wrapping and without', async () => {
    const dump = await translation();
    for (const written of [dump, { xds: { 'shop/site-persistence': dump } }]) {
      await writeFile(file(), stringify(written));
      const { code, stdout, stderr } = await withOverlay('{}', 'doctor', '--config-dump', file());
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toMatch(/\n\d\d ok, 0 warn, 0 wrong, \d+ could not be checked\n$/);
    }
  });

  test('wants one of several Envoys', async () => {
    await writeFile(file(), stringify({ xds: { 'shop/east': await translation(), 'shop/west': {} } }));
    const { code, stderr } = await withOverlay('{}', 'doctor', '--config-dump', file());
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: `--config-dump: ${file()} has 2 Envoys (shop/east, shop/west): leave one of them\n`,
    });
  });
});

const ALIASES = /cannot be read: its aliases \(\*name\) lead in a circle, or to too much\n$/;
const ALIASES_OF_ALIASES = Array.from({ length: 9 }, (_, index) => {
  return `  - &a${index + 1} [${Array.from({ length: 9 }, () => `*a${index}`).join(', ')}]\n`;
}).join('');

describe('doctor --config-dump refuses', () => {
  test.each<[string, string, RegExp]>([
    ['a file that is neither', '{"a": 1}', /is neither an answer to GET \/config_dump \("configs"\) nor a bootstrap/],
    ['a list', '[]', /is neither/],
    ['half of an answer', '{"configs": [', /is not valid JSON: /],
    ['what is no YAML', 'a: [', /is not valid YAML: /],
    ['an empty file', '', /is neither/],
    ['aliases in a circle', 'admin: &circle { address: *circle }\n', ALIASES],
    ['aliases of aliases', `admin:\n  - &a0 [x]\n${ALIASES_OF_ALIASES}`, ALIASES],
  ])('%s', async (_, text, why) => {
    const file = join(directory, 'dump');
    await writeFile(file, text);
    const { code, stdout, stderr } = await withOverlay('{}', 'doctor', '--config-dump', file);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(why);
    expect(stderr).toContain(`--config-dump: ${file} `);
    expect(stderr.split('\n')).toHaveLength(2);
  });

  test('a file that is not there', async () => {
    const { code, stderr } = await withOverlay('{}', 'doctor', '--config-dump', join(directory, 'nowhere'));
    expect({ code, stderr }).toEqual({ code: 2, stderr: `--config-dump: ${directory}/nowhere no such file\n` });
  });
});

test.each<[string[], RegExp]>([
  [['--only', 'nothing'], /'nothing' is invalid\. Allowed choices are bootstrap, clusters/],
  [['--prefix', 'sp_'], /^--prefix: is for parts: add --only PART\n/],
  [['--only', 'clusters', '--prefix', 's p'], /^--prefix: "s p" is not up to 32 letters/],
  [['--only', 'clusters', '--application', 'shop'], /^--application: there is no shop in the config file: default\n/],
  [['--only', 'filters', '--xds'], /^--xds: is for clusters, listeners and routes, not for filters\n/],
])('envoy %j is wrong use', async (args, why) => {
  const { code, stdout, stderr } = await withOverlay('{}', 'envoy', ...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(why);
});
