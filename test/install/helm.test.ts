import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { z } from 'zod';
import { CHART } from '../../lab/chart-files.ts';
import { waitUntil } from '../../lab/wait-until.ts';
import { loadConfig } from '../../src/config/load.ts';
import { examineOverlay } from '../../src/doctor/examine-overlay.ts';
import { siteStateSchema } from '../../src/ops/state.ts';
import { Client, serverOf } from '../support/client.ts';
import { Load } from '../support/load.ts';
import { DESIGN_EXAMPLE, EVERY_KEY, MINIMAL } from '../unit/config/good-configs.ts';
import { BUILD_TIMEOUT_MS, goTool } from './go-tools.ts';
import { schemaLocations } from './kubernetes-schemas.ts';
import { PlayedSite, statusOf } from './played-site.ts';
import { ENVOY_IMAGE, IMAGE, NoPodman, Podman, ROOT } from './podman.ts';

const run = promisify(execFile);

const COOKIES = { east: 'KVAAVROI', west: 'DDVHSLLQ' } as const;
type Site = keyof typeof COOKIES;

let helm: string;
let directory: string;
beforeAll(async () => {
  helm = await goTool('helm');
  directory = await mkdtemp(`${tmpdir()}/site-persistence-helm-`);
}, BUILD_TIMEOUT_MS);
afterAll(async () => await rm(directory, { recursive: true, force: true }));

/** The chart's examples. */
const VALUES = await readdir(`${ROOT}${CHART}/ci`);
const example = (name: string) => `${ROOT}${CHART}/ci/${name}`;
const ONE_APPLICATION = example('one-application-values.yaml');

/** @returns what it rendered */
async function template(release: string, values: readonly string[], ...flags: readonly string[]): Promise<string> {
  const files = values.flatMap((file) => ['--values', file]);
  const chart = `${ROOT}${CHART}`;
  return (await run(helm, ['template', release, chart, ...files, ...flags], { maxBuffer: 16 * 1024 * 1024 })).stdout;
}

async function valuesFile(name: string, values: unknown): Promise<string> {
  await writeFile(`${directory}/${name}`, stringify(values));
  return `${directory}/${name}`;
}

const configMap = z.looseObject({ kind: z.literal('ConfigMap'), data: z.record(z.string(), z.string()) });

/** The data of the ConfigMap that has the file. */
function dataOf(rendered: string, file: string): Readonly<Record<string, string>> {
  for (const document of parseAllDocuments(rendered)) {
    const { data } = configMap.safeParse(document.toJS());
    if (data?.data[file] !== undefined) return data.data;
  }
  throw new Error(`there is no ConfigMap with ${file}`);
}

describe('the chart', () => {
  test('helm lint --strict finds nothing wrong, without values and with each example', async () => {
    for (const values of [[], ...VALUES.map((name) => ['--values', example(name)])]) {
      const { stdout } = await run(helm, ['lint', '--strict', `${ROOT}${CHART}`, ...values]);
      expect(stdout).toContain('0 chart(s) failed');
    }
  });

  test.each(VALUES)(
    'what it renders for %s is valid in each kind, without an unknown field',
    async (name) => {
      const rendered = `${directory}/rendered.yaml`;
      await writeFile(rendered, await template('east', [example(name)]));
      const locations = (await schemaLocations()).flatMap((location) => ['-schema-location', location]);
      const { stdout } = await run(await goTool('kubeconform'), ['-strict', '-summary', ...locations, rendered]);
      expect(stdout).toMatch(/Invalid: 0, Errors: 0, Skipped: 0/);
    },
    BUILD_TIMEOUT_MS,
  );

  test.each(VALUES)('check takes the config that it renders for %s, and its overlay breaks nothing', async (file) => {
    const data = dataOf(await template('east', [example(file)]), 'site.yaml');
    for (const [name, text] of Object.entries(data)) await writeFile(`${directory}/${name}`, text);
    const config = await loadConfig(`${directory}/site.yaml`, 'rendering');
    expect(examineOverlay(config, Date.now()).filter(({ mark }) => mark === 'wrong')).toEqual([]);
    expect(config.envoy.sidecars).toHaveLength(2);
  });

  test.each([
    ['an unknown key of the config file', 'local_pool.min_upp=1', /local_pool.*min_upp/],
    ['a wrong type', 'local_pool.min_up=two', /local_pool\/min_up.*got string, want integer/],
    ['a bad duration', 'health.poll_interval=5', /health\/poll_interval/],
    ['an unknown key of its own', 'kubernetes.replica=2', /kubernetes.*replica/],
    ['what the pod settles and would be missed', 'envoy.node_id=east', /envoy.node_id: is the chart's to set/],
    [
      'TLS of a listener of the sidecar',
      'ops_listen_tls.cert_file=/x,ops_listen_tls.key_file=/x,ops_listen_tls.client_ca_file=/x',
      /ops_listen_tls: is the chart's to set/,
    ],
    ['a port that the pod uses', 'envoy.listen=0.0.0.0:9902', /envoy.listen: port 9902 is taken in the pod/],
    ['a drain that ends before it may', 'kubernetes.drain.minSeconds=90', /kubernetes.drain: minSeconds is more/],
    ['pools beside applications', 'applications[0].name=shop', /local_pool.*false schema/],
  ])('refuses %s, by name', async (_, set, words) => {
    await expect(template('east', [ONE_APPLICATION], '--set', set)).rejects.toThrow(words);
  });

  test.each(['README.md', 'deploy/systemd/site.yaml', 'envoy/east.yaml'])(
    "takes the config file of %s as it is: where sidecars and Envoy find each other is the pod's",
    async (name) => {
      const text = await readFile(`${ROOT}${name}`, 'utf8');
      const site = name === 'README.md' ? /```yaml\n(site: east\n[\s\S]*?)```/.exec(text)?.[1] : text;
      const data = dataOf(await template('east', [await valuesFile('site.yaml', parse(site ?? ''))]), 'site.yaml');
      expect(parse(data['site.yaml'] ?? '')).toMatchObject({
        listen: 'unix:/run/site-persistence/1.sock',
        ops_listen: '127.0.0.1:9003',
        envoy: { admin: 'unix:/run/site-persistence/admin.sock', config_dir: '/etc/envoy/site-persistence' },
      });
    },
  );

  test('names, labels, families and lists of the values fit into what the chart has of its own', async () => {
    const rendered = await template('east', [
      ONE_APPLICATION,
      await valuesFile('odd.yaml', {
        envoy: { listen: '[::]:8080' },
        kubernetes: {
          secrets: ['wildcard.example.com'],
          podLabels: { 'app.kubernetes.io/name': 'other', team: 'shop' },
          monitoring: { prometheusRule: true },
          overlay: {
            admin: { allow_paths: { $append: [{ exact: '/memory' }] } },
            static_resources: { clusters: { $append: [{ name: 'logs' }] } },
          },
        },
      }),
    ]);
    const overlay = parse(dataOf(rendered, 'overlay.yaml')['overlay.yaml'] ?? '');
    expect(overlay.admin.allow_paths.$append).toEqual([
      { exact: '/drain_listeners?graceful&skip_exit' },
      { exact: '/memory' },
    ]);
    expect(overlay.static_resources.clusters.map(({ name }: { name: string }) => name)).toEqual([
      'envoy_admin',
      'logs',
    ]);
    expect(overlay.static_resources.listeners[0].address.socket_address.address).toBe('::');
    for (const port of [9091, 9092]) expect(rendered).toContain(`- "[::]:${port}"`);
    // A volume's name has no dots, which a Secret's may have.
    expect(rendered).toMatch(
      /name: secret-wildcard-example-com-[0-9a-f]{8}, secret: \{ secretName: wildcard\.example\.com/,
    );
    expect(rendered).not.toContain('app.kubernetes.io/name: other');
    expect(rendered).toContain('team: shop');
    // Of a pod that is gone no sidecar is missing.
    expect(rendered).toContain('expr: up{namespace="default",container=~"sidecar-.*",pod=~"east-.*"} == 0');
    expect(rendered).not.toContain('offset 5m');
  });

  test('without a site it says what is missing', async () => {
    await expect(template('east', [])).rejects.toThrow('site: is missing: give the chart a site.yaml');
  });

  test('its schema takes the config files that check takes, and none of these that it refuses', async () => {
    const isTaken = async (text: string) => {
      await writeFile(`${directory}/site.yaml`, text);
      const error = await template('east', [`${directory}/site.yaml`]).then(() => '', String);
      return !error.includes('meet the specifications of the schema');
    };
    const files = ['east', 'west', 'demo/east', 'demo/west', 'compose/east/site', 'compose/west/site'];
    const texts = files.map((name) => readFile(`${ROOT}envoy/${name}.yaml`, 'utf8'));
    for (const text of [...(await Promise.all(texts)), MINIMAL, EVERY_KEY, DESIGN_EXAMPLE]) {
      expect(await isTaken(text), text).toBe(true);
    }
    const bad = [
      'applications-empty',
      'cookie-is-number',
      'duration-without-unit',
      'envoy-is-list',
      'connections-is-zero',
    ];
    for (const name of [
      ...bad,
      'also-too-many',
      'cluster-with-space',
      'both-cookies-unknown',
      'application-with-shared-key',
    ]) {
      const text = await readFile(`${ROOT}test/fixtures/bad-config/${name}.yaml`, 'utf8');
      expect(await isTaken(text), name).toBe(false);
    }
  });

  test('Envoy is ready by itself, not by its pool; sidecars hold up a rollout, and never take a pod out', async () => {
    const probe = z.object({ httpGet: z.object({ path: z.string() }) }).transform(({ httpGet }) => httpGet.path);
    const probes = { name: z.string(), startupProbe: probe, readinessProbe: probe.optional(), livenessProbe: probe };
    const pod = z.object({ spec: z.object({ containers: z.array(z.object(probes)) }) });
    const deployment = z.object({ kind: z.literal('Deployment'), spec: z.object({ template: pod }) });
    const found = parseAllDocuments(await template('east', [ONE_APPLICATION])).flatMap((document) => {
      const { data } = deployment.safeParse(document.toJS());
      return data === undefined ? [] : data.spec.template.spec.containers;
    });
    const sidecar = { startupProbe: '/readyz', livenessProbe: '/livez' };
    expect(found).toEqual([
      { name: 'envoy', startupProbe: '/ready', readinessProbe: '/ready', livenessProbe: '/ready' },
      { name: 'sidecar-1', ...sidecar },
      { name: 'sidecar-2', ...sidecar },
    ]);
  });

  test('an edit of the config changes the ConfigMap alone: no pod restarts', async () => {
    const [before, after] = [
      await template('east', [ONE_APPLICATION]),
      await template('east', [ONE_APPLICATION], '--set', 'local_pool.min_up=2'),
    ];
    const changed = (rendered: string) => rendered.split(/^---$/m);
    const others = changed(after).filter((manifest, index) => manifest !== changed(before)[index]);
    expect(others).toHaveLength(1);
    expect(others[0]).toContain('min_up: 2');
  });
});

/** `PODMAN=off`: only what is rendered, in a tenth of the time. */
const podman =
  process.env.PODMAN === 'off'
    ? 'PODMAN=off'
    : await Podman.start().catch((error: unknown) => {
        if (error instanceof NoPodman && process.env.CI === undefined) return error.message;
        throw error;
      });
if (typeof podman === 'string') {
  test.skip(`the chart played by Podman: ${podman}`, () => {});
} else {
  afterAll(() => podman.close());
  describe('the chart played by Podman', () => testPlayed(podman));
}

/** A client that is never seen again. */
async function askOnce(url: string): Promise<Response> {
  const answer = await fetch(url);
  await answer.text();
  return answer;
}

/** These follow each other, on two sites in one network. */
function testPlayed(podman: Podman): void {
  const NETWORK = 'site-persistence';
  const east = new PlayedSite(podman, NETWORK, 'east');
  const west = new PlayedSite(podman, NETWORK, 'west');
  const both = () => ({ homes: [east.edge, west.edge], edges: [east.edge, west.edge] });

  beforeAll(async () => {
    await podman.run('network', 'create', NETWORK);
    await east.play(await render('east', 'west'));
    await west.play(await render('west', 'east'));
    for (const site of [east, west]) await waitUntil(() => seesBoth(site), { what: `${site.site} to see both sites` });
  });
  afterEach(async ({ task }) => {
    if (task.result?.state === 'fail') process.stderr.write(`${await east.logs()}\n${await west.logs()}\n`);
  });

  async function render(site: Site, other: Site, cookie: object = {}): Promise<string> {
    const values = await valuesFile(`${site}.yaml`, {
      site,
      local_pool: {
        cookie: { name: COOKIES[site], ...cookie },
        servers: [`${site}-app-1:8080`, `${site}-app-2:8080`],
        health_check: { path: '/healthz' },
      },
      remote_pools: [{ site: other, cluster: 'remote_pool', cookie: COOKIES[other], servers: [`${other}-pod-0:8080`] }],
      kubernetes: {
        replicas: 1,
        image: { repository: IMAGE.replace(/:[^:]*$/, '') },
        envoy: { image: { repository: ENVOY_IMAGE.replace(/:[^:]*$/, ''), tag: ENVOY_IMAGE.replace(/^.*:/, '') } },
        drain: { minSeconds: 2, maxSeconds: 30 },
      },
    });
    return await template(site, [values]);
  }

  async function seesBoth(site: PlayedSite): Promise<boolean> {
    const text = await site.exec('sidecar-2', 'node', '/app/dist/main.js', 'status', '--json');
    return siteStateSchema.parse(JSON.parse(text)).pools.every(({ up }) => up);
  }

  test('two sites serve, and a session of east is served by its server from west', async () => {
    for (const site of [east, west]) expect(await statusOf(`${site.edge}/local_pool_status`)).toBe(200);
    const client = new Client();
    const first = await client.ask(east.edge);
    expect(first.site).toBe('east');
    const again = await client.ask(west.edge);
    expect([serverOf(again), again.hop]).toEqual([serverOf(first), 'west']);
    client.close();
  });

  test('no container has a capability, a writable root file system or root as its user', async () => {
    for (const name of ['envoy', 'sidecar-1', 'sidecar-2']) {
      const status = await east.exec(name, 'cat', '/proc/1/status');
      expect(status, name).toMatch(/^Uid:\s+1000\s+1000\s+1000\s+1000$/m);
      expect(status, name).toMatch(/^CapEff:\s+0+$/m);
      expect(status, name).toMatch(/^NoNewPrivs:\s+1$/m);
      await expect(east.exec(name, 'touch', '/x'), name).rejects.toThrow('Read-only file system');
    }
  });

  test('doctor finds nothing wrong, and Prometheus reads Envoy and both sidecars at the address of the pod', async () => {
    expect(await east.exec('sidecar-1', 'node', '/app/dist/main.js', 'doctor')).toContain(' 0 wrong');
    for (const [path, metric] of [
      [':9902/stats/prometheus', 'envoy_cluster_membership_healthy'],
      [':9091/metrics', 'site_persistence_pool_up'],
      [':9092/metrics', 'site_persistence_pool_up'],
    ]) {
      expect(await (await fetch(`http://${east.address}${path}`)).text()).toContain(metric);
    }
    // The rest of the admin interface stays in the pod.
    for (const path of ['/config_dump', '/runtime_modify', '/quitquitquit', '/drain_listeners']) {
      expect(await statusOf(`http://${east.address}:9902${path}`)).toBe(404);
    }
  });

  test('a sidecar killed under load, and then both: nothing is lost and no session moves', async () => {
    const load = await Load.start(both());
    await load.during(200);
    await east.command('kill', 'sidecar-1');
    await load.during(300);
    await east.command('kill', 'sidecar-2');
    await load.during(300);
    await east.command('start', 'sidecar-1');
    await east.command('start', 'sidecar-2');
    await east.waitUntilReady();
    await load.during(100);
    const { lost, moved, losses } = await load.stop();
    expect([lost, moved], losses.join('\n')).toEqual([0, 0]);
  });

  test('an edit of the ConfigMap, as the kubelet brings it: the sidecars and Envoy follow, nothing restarts or is lost', async () => {
    const names = ['envoy', 'sidecar-1', 'sidecar-2'];
    const started = await Promise.all(names.map((name) => east.startedAt(name)));
    const load = await Load.start(both());
    await load.during(100);
    for (const same_site of ['Strict', 'Lax']) {
      await east.editConfigMap(dataOf(await render('east', 'west', { same_site }), 'site.yaml'));
      const isSet = async () => {
        const answer = await askOnce(east.edge);
        return answer.headers.getSetCookie().some((cookie) => cookie.includes(`SameSite=${same_site}`));
      };
      await waitUntil(isSet, { what: `cookies with SameSite=${same_site}` });
      await load.during(100);
    }
    const { lost, moved, losses } = await load.stop();
    expect([lost, moved], losses.join('\n')).toEqual([0, 0]);
    expect(await Promise.all(names.map((name) => east.startedAt(name)))).toEqual(started);
  });

  test('a pod of the application deleted: its sessions go to the other, and no answer takes 5 s', async () => {
    const load = await Load.start(both());
    await load.during(100);
    await east.removeApplication('app-1');
    // Until the health check has condemned it: then there is one server, and nobody tries the other.
    const isAlone = async () =>
      (await east.exec('sidecar-1', 'node', '/app/dist/main.js', 'status')).includes('1 of 2');
    await waitUntil(isAlone, { what: 'east to have one server' });
    await load.during(200);
    const { leftTheSite, longestMs, lost, losses } = await load.stop();
    expect([leftTheSite, lost], losses.join('\n')).toEqual([0, 0]);
    expect(longestMs).toBeLessThan(5_000);
  });

  test('the last pod of the application deleted: west adopts the sessions', async () => {
    const client = new Client();
    expect((await client.ask(east.edge)).site).toBe('east');
    await east.removeApplication('app-2');
    const isDown = async () => (await statusOf(`${east.edge}/local_pool_status`)) === 503;
    await waitUntil(isDown, { what: "east's status URI to say 503" });
    expect((await client.ask(east.edge)).site).toBe('west');
    expect([...client.cookies.keys()]).toEqual([COOKIES.west]);
    client.close();
  });

  test('the preStop hook of a sidecar that is restarted by itself leaves Envoy alone', async () => {
    await west.runPreStopHook('sidecar-1');
    expect((await askOnce(west.edge)).headers.get('connection')).not.toBe('close');
  });

  test('the end of a pod under load: each answer closes its connection, none is lost, and the hooks wait for open requests', async () => {
    const load = await Load.start({ homes: [west.edge], edges: [east.edge, west.edge] });
    await load.during(100);
    const client = new Client();
    let isAnswered = false;
    const slow = client.request(`${west.edge}/?waitMs=6000`, { method: 'POST' }).then(({ status }) => {
      isAnswered = true;
      return status;
    });
    const ended = west.runPreStopHooks();
    const isClosing = async () => (await askOnce(west.edge)).headers.get('connection') === 'close';
    await waitUntil(isClosing, { what: 'west to close connections' });
    await load.during(200);
    const { lost, moved, losses } = await load.stop();
    expect([lost, moved], losses.join('\n')).toEqual([0, 0]);
    await ended;
    expect(isAnswered).toBe(true);
    expect(await slow).toBe(200);
    client.close();
  });

  test('down leaves no pod and no container', async () => {
    for (const site of [east, west]) await site.down();
    expect(await podman.run('pod', 'ls', '--quiet')).toBe('');
    expect(await podman.run('ps', '--all', '--quiet')).toBe('');
  });
}
