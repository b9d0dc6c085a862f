import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { Client } from '../support/client.ts';
import type { Examined } from '../support/doctor-file.ts';
import { DoctorSite, type LiveChanges } from '../support/doctor-site.ts';
import { list, paste, type Tree, tree } from '../support/json-tree.ts';

const HCM = ['static_resources', 'listeners', 0, 'filter_chains', 0, 'filters', 0, 'typed_config'] as const;
const hosts = (bootstrap: Tree) => list(bootstrap, ...HCM, 'route_config', 'virtual_hosts');
const host = (bootstrap: Tree, name: string) => tree(hosts(bootstrap), `name=${name}`);

const ALL_WELL = { code: 0, troubles: [] };
const outcome = ({ code, findings }: Examined) => ({
  code,
  troubles: findings.filter(({ mark }) => mark !== 'ok').map(({ check, mark, text }) => `${mark} ${check}: ${text}`),
});
const fixOf = ({ findings }: Examined): unknown =>
  parse(findings.find(({ mark }) => mark === 'wrong' || mark === 'warn')?.fix?.lines ?? '');

/** A virtual host of something else on this Envoy, whose server says `ok` to everything. */
function addOther(bootstrap: Tree): void {
  const clusters = list(bootstrap, 'static_resources', 'clusters');
  const { load_assignment } = tree(clusters[0]);
  clusters.push({ name: 'cdn', load_assignment: { ...tree(load_assignment), cluster_name: 'cdn' } });
  const routes = [{ match: { prefix: '/' }, route: { cluster: 'cdn' } }];
  hosts(bootstrap).push({ name: 'cdn', domains: ['cdn.example.com'], routes });
}

/** Two applications in place of the one of the file. */
function twoApplications(site: DoctorSite): Tree {
  const file: unknown = parse(site.file.text());
  const [local, remote] = [tree(file, 'local_pool').servers, tree(file, 'remote_pools', 0).servers];
  const application = (name: string) => ({
    ...{ name, hosts: [`${name}.example.com`, `*.${name}.example.com`] },
    local_pool: { cookie: `${name.toUpperCase()}EAST`, servers: local },
    remote_pools: [{ site: 'west', cookie: `${name.toUpperCase()}WEST`, servers: remote }],
  });
  return { local_pool: undefined, remote_pools: undefined, applications: [application('shop'), application('wiki')] };
}

describe.each(['1.36.4', '1.40.0'])('on Envoy %s', (release) => {
  let site: DoctorSite;
  beforeAll(async () => {
    site = await DoctorSite.start(release);
  });
  afterAll(async () => await site?.close());

  test('a virtual host of something else that the filters do not leave alone is wrong, and right with what is printed', async () => {
    const answers: string[] = [];
    const meanwhile = async (edge: string) => {
      const headers = { host: 'cdn.example.com' };
      answers.push((await new Client().request(`${edge}/local_pool_status`, { headers })).body);
    };
    const broken = await site.examine({ bootstrap: addOther, meanwhile });
    expect(outcome(broken)).toEqual({
      code: 1,
      troubles: [expect.stringMatching(/^wrong others: virtual host cdn leads to none of the pools, but the sidecar/)],
    });
    const bootstrap = (b: Tree) => {
      addOther(b);
      paste(host(b, 'cdn'), fixOf(broken));
    };
    expect(outcome(await site.examine({ bootstrap, meanwhile }))).toEqual(ALL_WELL);
    expect(answers).toEqual([expect.stringMatching(/^LOCAL POOL STATE: /), 'ok']);
  });

  test.each([false, true])(
    'several applications, as they are printed: all is well, with fast_path: %s',
    async (fast_path) => {
      const rendered = { ...twoApplications(site), envoy: { fast_path } };
      expect(outcome(await site.examine({ rendered }))).toEqual(ALL_WELL);
      expect(outcome(await site.examine({ rendered, bootstrap: addOther }))).toEqual(ALL_WELL);
    },
  );

  test.each<[string, RegExp, (b: Tree) => void, (b: Tree) => unknown]>([
    [
      'has no virtual host',
      /^wrong own: wiki: .* has no virtual host: it is answered 404$/,
      (b) => hosts(b).splice(1, 1),
      hosts,
    ],
    [
      'gets no cookie',
      /^wrong stickiness: shop: virtual host shop does not set the cookie SHOPEAST$/,
      (b) => {
        host(b, 'shop').typed_per_filter_config = {};
      },
      (b) => tree(host(b, 'shop'), 'typed_per_filter_config'),
    ],
    [
      'is not told apart by the sidecar',
      /^wrong headers sent: forward_rules lacks :authority/,
      (b) => {
        const rules = tree(list(b, ...HCM, 'http_filters')[0], 'typed_config', 'forward_rules', 'allowed_headers');
        rules.patterns = list(rules, 'patterns').slice(1);
      },
      (b) => tree(list(b, ...HCM, 'http_filters')[0], 'typed_config'),
    ],
  ])('one of several applications %s: found, and all is well with what is printed', async (_, finds, change, at) => {
    const changes: LiveChanges = { rendered: twoApplications(site) };
    const broken = await site.examine({ ...changes, bootstrap: change });
    const found = outcome(broken);
    expect(found.troubles.filter((trouble) => !trouble.startsWith('unchecked'))).toEqual([
      expect.stringMatching(finds),
    ]);
    const bootstrap = (b: Tree) => {
      change(b);
      paste(at(b), fixOf(broken));
    };
    expect(outcome(await site.examine({ ...changes, bootstrap }))).toEqual(ALL_WELL);
  });
});
