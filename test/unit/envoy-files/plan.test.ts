import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadConfig, parseConfig } from '../../../src/config/load.ts';
import { type Plan, planFiles } from '../../../src/envoy-files/plan.ts';

const DIRECTORY = '/etc/envoy/site';

function config(options: { servers?: string; more?: string; pool?: string; envoy?: string } = {}) {
  const { servers = '[127.0.0.1:1]', more = '', pool = '', envoy = '' } = options;
  const text = `
site: east
local_pool: { cluster: local_pool, cookie: EAST, servers: ${servers}${pool} }
remote_pools: [{ site: west, cluster: remote_pool, cookie: WEST, servers: ["127.0.0.1:2"] }${more}]
envoy: { listen: "127.0.0.1:80", config_dir: ${DIRECTORY}${envoy} }
`;
  return parseConfig(text, 'site.yaml');
}

const NORTH = ', { site: north, cluster: north, cookie: NORTH, servers: ["127.0.0.1:3"] }';

/** What is there after a plan. */
const written = (plan: Plan) => new Map(plan.files.map(({ name, text }) => [name, text]));
const first = planFiles(config(), DIRECTORY, new Map());
const THERE = written(first);
/** Each step, as the kind and what the files are of. */
const steps = (plan: Plan) =>
  plan.steps.map(({ kind, files }) => `${kind}: ${files.map(({ name }) => name).join(' ')}`);
const namesIn = (text: string | undefined) =>
  (parse(text ?? '', { maxAliasCount: -1 }) as { resources: { name: string }[] }).resources.map(({ name }) => name);

test('what is there already is not written again', () => {
  expect(planFiles(config(), DIRECTORY, THERE)).toMatchObject({ steps: [], stale: [], replaced: [] });
});

test('the first files are clusters with their servers, then what leads there', () => {
  expect(first.steps.map(({ kind }) => kind)).toEqual(['endpoints', 'clusters', 'routes', 'listeners']);
  expect(first.steps.flatMap(({ awaited }) => awaited)).toEqual([]);
  expect(first.replaced).toEqual([]);
});

test('a server more is in the files of its clusters, and in no other', () => {
  const plan = planFiles(config({ servers: '[127.0.0.1:1, 127.0.0.1:4]' }), DIRECTORY, THERE);
  expect(plan.steps.map(({ kind }) => kind)).toEqual(['endpoints']);
  const [step] = plan.steps;
  expect(step?.files.map(({ name }) => name)).toEqual([
    expect.stringMatching(/^endpoints_local_pool_[0-9a-f]{8}\.yaml$/),
    expect.stringMatching(/^endpoints_local_pool_or_elsewhere_[0-9a-f]{8}\.yaml$/),
  ]);
  expect(step?.awaited).toEqual(step?.files);
});

test('what goes stays until nothing leads there any more', () => {
  const withNorth = planFiles(config({ more: NORTH }), DIRECTORY, THERE);
  expect(withNorth.steps.map(({ kind }) => kind)).toEqual([
    ...['endpoints', 'clusters', 'listeners', 'clusters', 'routes', 'listeners'],
  ]);
  const [, added] = withNorth.steps;
  expect(namesIn(added?.files[0]?.text)).toEqual(expect.arrayContaining(['north', 'north_or_local', 'remote_pool']));

  const without = planFiles(config(), DIRECTORY, written(withNorth));
  expect(without.steps.map(({ kind }) => kind)).toEqual(['listeners', 'clusters', 'routes', 'listeners', 'clusters']);
  const [, kept, , , gone] = without.steps.map(({ files }) => namesIn(files[0]?.text));
  expect([kept?.includes('north'), gone?.includes('north')]).toEqual([true, false]);
  expect(without.stale.map((name) => name.replace(/_[0-9a-f]{8}\.yaml$/, '')).sort()).toEqual([
    ...['endpoints_north', 'endpoints_north_closing', 'endpoints_north_http2'],
  ]);
});

test('a cluster that changes with its servers has them in a file of another name', () => {
  const plan = planFiles(config({ servers: '[127.0.0.1:8443]', pool: ', tls: { sni: app }' }), DIRECTORY, THERE);
  expect(plan.replaced).toEqual(expect.arrayContaining(['local_pool', 'local_pool_or_elsewhere']));
  expect(
    plan.steps.flatMap(({ files }) => files).filter(({ name, kind }) => kind === 'endpoints' && THERE.has(name)),
  ).toEqual([]);
  // Those of the old one are as they were until it is gone.
  expect(plan.stale).toHaveLength(2);
});

test("a cookie changes no listener of the clients'", () => {
  const renamed = parseConfig(
    `${'site: east\nlocal_pool: { cluster: local_pool, cookie: { name: EAST, same_site: Lax }, servers: [127.0.0.1:1] }\n'}` +
      'remote_pools: [{ site: west, cluster: remote_pool, cookie: WEST, servers: ["127.0.0.1:2"] }]\n' +
      `envoy: { listen: "127.0.0.1:80", config_dir: ${DIRECTORY} }\n`,
    'site.yaml',
  );
  const plan = planFiles(renamed, DIRECTORY, THERE);
  // The stand-in listener is another one, within this Envoy; that of the clients is as it was.
  expect(steps(plan)).toEqual([
    ...[
      'listeners: listeners.yaml',
      'clusters: clusters.yaml',
      'routes: routes_sites.yaml routes_site_persistence_stand_in.yaml',
      'listeners: listeners.yaml',
    ],
  ]);
  const edgeIn = (text: string | undefined) =>
    (parse(text ?? '', { maxAliasCount: -1 }) as { resources: { name: string }[] }).resources.find(
      ({ name }) => name === 'edge',
    );
  expect(edgeIn(written(plan).get('listeners.yaml'))).toEqual(edgeIn(THERE.get('listeners.yaml')));
});

test("a cluster of another site's name waits for it, and not for long", () => {
  const named = parseConfig(
    'site: east\nlocal_pool: { cluster: local_pool, cookie: EAST, servers: [127.0.0.1:1] }\n' +
      'remote_pools: [{ site: west, cluster: remote_pool, cookie: WEST, servers: ["west.example.com:2"] }]\n' +
      `envoy: { listen: "127.0.0.1:80", config_dir: ${DIRECTORY} }\n`,
    'site.yaml',
  );
  const text = written(planFiles(named, DIRECTORY, new Map())).get('clusters.yaml') ?? '';
  expect(text).not.toContain('wait_for_warm_on_init');
  expect(text.match(/query_tries: 1/g)?.length).toBe(text.match(/envoy\.clusters\.dns/g)?.length);
});

describe('what somebody has made of a file', () => {
  const [firstLine] = (THERE.get('clusters.yaml') ?? '').split('\n');

  test("is not touched where it is somebody's own", () => {
    const own = new Map(THERE).set('routes_mine.yaml', 'resources: []\n').set('notes.txt', 'mine');
    expect(planFiles(config(), DIRECTORY, own)).toMatchObject({ steps: [], stale: [] });
    expect(() => planFiles(config(), DIRECTORY, new Map([['clusters.yaml', 'resources: []\n']]))).toThrow(
      `${DIRECTORY}/clusters.yaml is not written by this program: name another directory`,
    );
  });

  test.each([['nothing'], ['[}'], ['resources: text'], ['resources: [1, null]']])('%s: is written anew', (text) => {
    const disk = new Map(THERE).set('clusters.yaml', `${firstLine}\n${text}`);
    const plan = planFiles(config(), DIRECTORY, disk);
    expect(plan.steps.at(-1)?.files[0]?.text).toBe(THERE.get('clusters.yaml'));
    expect(plan.stale).toEqual([]);
  });
});

test('what Envoy reads at its start alone is told apart', () => {
  const plan = planFiles(config({ envoy: ', node_id: other' }), DIRECTORY, THERE);
  expect(plan.steps).toEqual([]);
  const changed = Object.keys(plan.bootstrap).filter((key) => plan.bootstrap[key] !== first.bootstrap[key]);
  expect(changed).toEqual(['node']);
});

test('of the first files listeners.yaml is written last: docker-compose.yml has Envoy wait for it', async () => {
  const file = new URL('../../../envoy/compose/east/site.yaml', import.meta.url).pathname;
  const { steps, files } = planFiles(await loadConfig(file, 'rendering'), '/etc/envoy/site-persistence', new Map());
  const written = steps.flatMap((step) => step.files.map(({ name }) => name));
  expect(written.at(-1)).toBe('listeners.yaml');
  expect(written.toSorted()).toEqual(files.map(({ name }) => name).toSorted());
});
