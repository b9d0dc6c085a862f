import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { createAppServer } from '../../lab/app-server.ts';
import { fetchEnvoy } from '../../lab/envoy-binary.ts';
import { CLI, startEnvoyProcess, startSidecarProcess } from '../../lab/site-processes.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client } from '../support/client.ts';
import { runDoctor } from '../support/doctor-site.ts';
import { freePorts } from '../support/free-ports.ts';
import { list, type Tree, tree } from '../support/json-tree.ts';

const run = promisify(execFile);

const HCM = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const ROUTER = {
  name: 'envoy.filters.http.router',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
};

/** The code block of the guide that begins so. */
async function fromGuide(start: string): Promise<string> {
  const page = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const guide = page.slice(page.indexOf('### An Envoy of your own'));
  const blocks = [...guide.matchAll(/^ *```\w+\n([\s\S]*?)^ *```$/gm)].map(([, code = '']) =>
    code.replace(/^ {3}/gm, ''),
  );
  return blocks.find((block) => block.startsWith(start)) ?? '';
}

/** An Envoy that somebody has: three virtual hosts, of which each leads to a server of its own. */
function ownEnvoy(ports: { edge: number; admin: number; other: number }): Tree {
  const lbEndpoint = { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: ports.other } } } };
  const virtualHost = (name: string) => ({
    ...{ name, domains: [`${name}.example.com`] },
    routes: [{ match: { prefix: '/' }, route: { cluster: 'others' } }],
  });
  const manager = {
    ...{ '@type': HCM, stat_prefix: 'mine', http_filters: [ROUTER] },
    route_config: { name: 'mine', virtual_hosts: ['www', 'shop', 'api'].map(virtualHost) },
  };
  return {
    node: { id: 'mine', cluster: 'mine' },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: ports.admin } } },
    static_resources: {
      listeners: [
        {
          name: 'mine',
          address: { socket_address: { address: '127.0.0.1', port_value: ports.edge } },
          filter_chains: [{ filters: [{ name: 'hcm', typed_config: manager }] }],
        },
      ],
      clusters: [
        { name: 'others', load_assignment: { cluster_name: 'others', endpoints: [{ lb_endpoints: [lbEndpoint] }] } },
      ],
    },
  };
}

describe.each(['1.36.4', '1.40.0'])('on Envoy %s, with the virtual hosts www, shop and api', (release) => {
  let directory: string;
  let configFile: string;
  let bootstrapFile: string;
  let edgeUrl: string;
  let adminUrl: string;
  const closing: (() => unknown)[] = [];

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'site-persistence-parts-'));
    closing.push(() => rm(directory, { recursive: true }));
    const [edge = 0, admin = 0, other = 0, app = 0, west = 0, sidecar = 0, ops = 0] = await freePorts(7);
    edgeUrl = `http://127.0.0.1:${edge}`;
    adminUrl = `http://127.0.0.1:${admin}`;
    for (const [application, port] of Object.entries({ shop: app, others: other })) {
      const server = createAppServer({ application, site: 'east', server: `${application}-1`, port });
      await once(server.listen(port, '127.0.0.1'), 'listening');
      closing.push(
        () => server.close(),
        () => server.closeAllConnections(),
      );
    }

    configFile = join(directory, 'site.yaml');
    const site = tree(parse(await fromGuide('site: east')));
    tree(site, 'applications', 0, 'local_pool').servers = [`127.0.0.1:${app}`];
    tree(site, 'applications', 0, 'remote_pools', 0).servers = [`127.0.0.1:${west}`];
    const version = release.split('.').slice(0, 2).join('.');
    const listeners = { listen: `127.0.0.1:${sidecar}`, ops_listen: `127.0.0.1:${ops}` };
    await writeFile(configFile, stringify({ ...site, ...listeners, envoy: { admin: adminUrl, version } }));

    const command = `site-persistence() { '${process.execPath}' '${CLI}' "$@"; }\nset -e\n`;
    await run('bash', ['-c', command + (await fromGuide('for part in'))], { cwd: directory });
    const part = async (name: string): Promise<unknown> =>
      parse(await readFile(join(directory, `${name}.yaml`), 'utf8'));

    const bootstrap = ownEnvoy({ edge, admin, other });
    const manager = tree(
      bootstrap,
      'static_resources',
      'listeners',
      0,
      'filter_chains',
      0,
      'filters',
      0,
      'typed_config',
    );
    const routeConfig = tree(manager, 'route_config');
    const [www, , api] = list(routeConfig, 'virtual_hosts');
    Object.assign(bootstrap, await part('bootstrap'));
    list(bootstrap, 'static_resources', 'clusters').push(...list(await part('clusters')));
    list(bootstrap, 'static_resources', 'listeners').push(...list(await part('listeners')));
    const { route_config, ...settings } = tree(await part('manager'));
    Object.assign(manager, settings, { http_filters: await part('filters') });
    Object.assign(routeConfig, route_config, { virtual_hosts: [www, ...list(await part('routes')), api] });
    bootstrapFile = join(directory, 'envoy.yaml');
    await writeFile(bootstrapFile, stringify(bootstrap, { aliasDuplicateObjects: false }));

    const binary = await fetchEnvoy(release);
    const envoy = await startEnvoyProcess({ site: 'east', binary, bootstrapFile, adminUrl, concurrency: 1 });
    closing.push(() => envoy.stop('SIGKILL'));
    const sidecarProcess = await startSidecarProcess({ site: 'east', configFile });
    closing.push(() => sidecarProcess.stop('SIGKILL'));
    const isUp = async () => (await ask('shop', '/local_pool_status')).body === 'LOCAL POOL STATE: UP';
    await waitUntil(isUp, { what: 'the shop to be up' });
    const stats = async () => await (await fetch(`${adminUrl}/stats?filter=membership_healthy`)).text();
    const isChecked = async () => /^cluster\.\S*site_persistence\.membership_healthy: 1$/m.test(await stats());
    await waitUntil(isChecked, { what: 'Envoy to find the sidecar healthy' });
  });
  afterAll(async () => {
    for (const close of closing.reverse()) await close();
  });

  async function ask(host: string, path = '/') {
    return await new Client().request(`${edgeUrl}${path}`, {
      headers: { host: `${host}.example.com`, accept: 'application/json' },
    });
  }

  test('the shop is served with its cookie, the others as before', async () => {
    const shop = await ask('shop');
    expect(JSON.parse(shop.body)).toMatchObject({ application: 'shop' });
    expect(JSON.stringify(shop.headers)).toContain('SHOPEAST=');
    for (const host of ['www', 'api']) {
      const other = await ask(host, '/local_pool_status');
      expect(JSON.parse(other.body)).toMatchObject({ application: 'others' });
      expect(JSON.stringify(other.headers)).not.toContain('SHOPEAST');
    }
  });

  test('doctor finds nothing wrong in the file', async () => {
    const { code, stdout } = await runDoctor(['doctor', '-c', configFile, '--config-dump', bootstrapFile]);
    expect(
      stdout.split('\n').filter((line) => /^ {2}(WRONG|warn)/.test(line) && !line.includes('admin paths')),
    ).toEqual([]);
    expect(code).toBe(0);
  });

  test('nor in the running Envoy', async () => {
    const { code, stdout } = await runDoctor(['doctor', '-c', configFile]);
    expect(stdout.split('\n').filter((line) => line.startsWith('  WRONG'))).toEqual([]);
    expect(code).toBe(0);
  });

  test('nor in what it answered to GET /config_dump', async () => {
    const file = join(directory, 'dump.json');
    await writeFile(file, await (await fetch(`${adminUrl}/config_dump?include_eds`)).text());
    const { code, stdout } = await runDoctor(['doctor', '-c', configFile, '--config-dump', file]);
    expect(stdout).toContain(`Envoy ${release} in ${file}`);
    expect(stdout.split('\n').filter((line) => line.startsWith('  WRONG'))).toEqual([]);
    expect(code).toBe(0);
  });
});
