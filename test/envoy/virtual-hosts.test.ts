import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';
import { startEnvoyProcess } from '../../lab/site-processes.ts';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';
import { findByHost, hostTable, NO_APPLICATION } from '../../src/config/virtual-hosts.ts';
import { renderRouteConfig } from '../../src/envoy-config/virtual-hosts.ts';
import { freePorts } from '../support/free-ports.ts';
import { list, tree } from '../support/json-tree.ts';
import { sendBytes } from '../support/raw-http.ts';

/** So many sets of applications, each with so many hosts asked for. */
const CONFIGS = 40;
const ASKED_OF_EACH = 100;

// Few and short, so that hosts meet: one is another's suffix, prefix, or that with something before it.
const label = fc.constantFrom('a', 'b', 'ab', 'shop', 'x-a', '10', '_');
const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join('.'));
const domain = fc.oneof(
  name,
  name.map((text) => `*.${text}`),
  name.map((text) => `*${text}`),
  name.map((text) => `*-${text}`),
  name.map((text) => `${text}.*`),
  name.map((text) => `${text}*`),
  fc.constantFrom('*', '[::1]', '127.0.0.1'),
);
const applications = fc
  .uniqueArray(domain, { minLength: 1, maxLength: 12 })
  .chain((hosts) => fc.tuple(fc.constant(hosts), fc.array(fc.nat({ max: 3 }), { minLength: 12, maxLength: 12 })))
  .map(([hosts, owners]) => [0, 1, 2, 3].map((owner) => hosts.filter((_, index) => owners[index] === owner)))
  .map((all) => all.filter((hosts) => hosts.length > 0));

const asked = fc
  .tuple(
    fc.oneof(name, domain, fc.constantFrom('[::1]', '127.0.0.1', '.a', 'a.', '-a', 'shop.')),
    fc.constantFrom('', '', '', ':80', ':8443', ':', ':x', ':1:2', ']:1'),
    fc.boolean(),
  )
  .map(([host, port, isUpper]) => `${isUpper ? host.toUpperCase() : host}${port}`);

function configOf(all: readonly (readonly string[])[]): Config {
  const entries = all.map((hosts, index) => ({
    name: `a${index}`,
    hosts,
    local_pool: { cookie: `EAST${index}`, servers: ['127.0.0.1:1'] },
    remote_pools: [{ site: 'west', cookie: `WEST${index}`, servers: ['127.0.0.1:2'] }],
  }));
  return parseConfig(stringify({ site: 'east', applications: entries }), 'site.yaml');
}

/** A listener whose virtual hosts are those that `envoy` renders, each of which answers with its name. */
function listener(config: Config, index: number, port: number): object {
  const routes = tree(renderRouteConfig(config));
  const virtual_hosts = list(routes, 'virtual_hosts').map((host, at) => {
    const text = config.applications[at]?.name;
    const { domains } = tree(host);
    return {
      ...{ name: text, domains },
      routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: text } } }],
    };
  });
  const typed_config = {
    '@type': 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    stat_prefix: `l${index}`,
    http_filters: [
      {
        name: 'envoy.filters.http.router',
        typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
      },
    ],
    route_config: {
      name: `r${index}`,
      ignore_port_in_host_matching: routes.ignore_port_in_host_matching ?? false,
      virtual_hosts,
    },
  };
  return {
    name: `l${index}`,
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
    filter_chains: [{ filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config }] }],
  };
}

/** Which virtual host answers for each of these hosts; null for a 404, undefined where Envoy takes it for no host. */
async function askEach(port: number, hosts: readonly string[]): Promise<(string | null | undefined)[]> {
  const answers: (string | null | undefined)[] = [];
  for (const host of hosts) {
    const { status, body } = await sendBytes(`http://127.0.0.1:${port}`, `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    answers.push(status === 200 ? body : status === 404 ? null : undefined);
  }
  return answers;
}

describe.each(['1.36.4', '1.40.0'])('Envoy %s', (release) => {
  test('an application is found by the host as Envoy chooses the virtual host', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'site-persistence-hosts-'));
    const seed = Math.trunc(Math.random() * 2 ** 31);
    const configs = fc.sample(applications, { numRuns: CONFIGS, seed }).map(configOf);
    const [admin = 0, ...ports] = await freePorts(CONFIGS + 1);
    const bootstrapFile = join(directory, 'envoy.yaml');
    const listeners = configs.map((config, index) => listener(config, index, ports[index] ?? 0));
    const bootstrap = {
      admin: { address: { socket_address: { address: '127.0.0.1', port_value: admin } } },
      static_resources: { listeners },
    };
    await writeFile(bootstrapFile, stringify(bootstrap, { aliasDuplicateObjects: false }));
    const binary = await fetchEnvoy(release);
    const adminUrl = `http://127.0.0.1:${admin}`;
    const envoy = await startEnvoyProcess({ site: 'east', binary, bootstrapFile, adminUrl, concurrency: 1 });
    try {
      const compared = await Promise.all(
        configs.map(async (config, index) => {
          const table = hostTable(config.applications.map(({ hosts }) => hosts));
          const hosts = fc.sample(asked, { numRuns: ASKED_OF_EACH, seed: seed + index });
          const answers = await askEach(ports[index] ?? 0, hosts);
          return hosts.flatMap((host, at) => {
            const byEnvoy = answers[at];
            if (byEnvoy === undefined) return [];
            const found = findByHost(table, host);
            const ours = found === NO_APPLICATION ? null : (config.applications[found]?.name ?? null);
            return [{ seed, hosts: config.applications.map((each) => each.hosts), host, ours, byEnvoy }];
          });
        }),
      );
      const all = compared.flat();
      expect(all.filter(({ ours, byEnvoy }) => ours !== byEnvoy)).toEqual([]);
      expect(all.length).toBeGreaterThan((CONFIGS * ASKED_OF_EACH) / 2);
      expect(all.filter(({ byEnvoy }) => byEnvoy === null).length).toBeGreaterThan(CONFIGS);
    } finally {
      await envoy.stop('SIGKILL');
      await rm(directory, { recursive: true, force: true });
    }
  });
});
