import { mkdir, writeFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { fetchEnvoy } from '../../../lab/envoy-binary.ts';
import type { ManagedProcess } from '../../../lab/managed-process.ts';
import { list, type Tree, tree } from '../json-tree.ts';
import { kubeconfigOf, startEmptyKubernetes } from './empty-kubernetes.ts';
import type { SiteNetwork } from './networks.ts';
import { manifest, printManifests, readRecipe, type SiteName } from './recipe.ts';
import { APP_PORTS, GatewaySite, SOCKETS } from './site.ts';
import { type GatewaySites, startGatewaySites } from './sites.ts';

/** Istio's own proxy is built from about this one. */
const ENVOY = '1.39.3';

const ADMIN_PORT = 15_000;
const XDS_PORT = 15_010;
const KUBERNETES_PORT = 6_443;

/** Starts two sites by the recipe: Istio's control plane reads it from files, and an Envoy gets its config from there. */
export async function startIstioSites(binary: string): Promise<GatewaySites> {
  const envoy = await fetchEnvoy(ENVOY);
  return await startGatewaySites((...of) => new IstioSite({ binary, envoy }, ...of));
}

class IstioSite extends GatewaySite {
  protected readonly adminPort = ADMIN_PORT;
  readonly #binary: string;
  readonly #envoyBinary: string;
  #envoy: ManagedProcess | undefined;
  #kubernetes: Server | undefined;

  constructor({ binary, envoy }: { binary: string; envoy: string }, ...of: [SiteName, SiteNetwork, string]) {
    super(...of);
    this.#binary = binary;
    this.#envoyBinary = envoy;
  }

  async startGateway(): Promise<void> {
    const manifests = await readRecipe('istio', this.name);
    await this.writeSiteYaml(manifests);

    const resources = join(this.directory, 'resources');
    await mkdir(resources, { recursive: true });
    const own = withoutKubernetes(manifests, this.network.outside);
    await writeFile(join(resources, 'site.yaml'), printManifests(own).replaceAll(SOCKETS, this.directory));
    const mesh = join(this.directory, 'mesh.yaml');
    // Certificates come from the agent in Istio's pods.
    await writeFile(mesh, stringify({ accessLogFile: join(this.directory, 'access.log'), enableAutoMtls: false }));
    this.#kubernetes ??= await startEmptyKubernetes(this.network.outside, KUBERNETES_PORT);
    const kubeconfig = join(this.directory, 'kubeconfig');
    await writeFile(kubeconfig, stringify(kubeconfigOf(`http://${this.network.outside}:${KUBERNETES_PORT}`)));
    const local = (port: number) => `127.0.0.1:${port}`;
    const istiod = this.startPart('istiod', [
      // It gives out no certificates, and puts no container into pods.
      ...['env', 'ENABLE_CA_SERVER=false', 'INJECT_ENABLED=false', 'VALIDATION_WEBHOOK_CONFIG_NAME='],
      // And these are filters that only Istio's own build of Envoy has.
      ...['PILOT_ENABLE_METADATA_EXCHANGE=false', 'PILOT_ENABLE_ALPN_FILTER=false'],
      ...['POD_NAMESPACE=istio-system', this.#binary, 'discovery', '--kubeconfig', kubeconfig],
      ...['--configDir', resources, '--meshConfig', mesh, '--grpcAddr', local(XDS_PORT)],
      ...['--secureGRPCAddr=', '--httpsAddr=', '--httpAddr', local(15_014), '--monitoringAddr', local(15_015)],
      ...['--ctrlz_port', '0'],
    ]);
    await istiod.waitForLine(/starting gRPC discovery service/);

    const bootstrap = join(this.directory, 'bootstrap.yaml');
    await writeFile(bootstrap, stringify(bootstrapOf(manifests, this.network.address)));
    this.#envoy = this.startPart('envoy', [
      ...[this.#envoyBinary, '-c', bootstrap, '--concurrency', '2', '-l', 'warn'],
      ...['--disable-hot-restart', '--file-flush-interval-msec', '50'],
    ]);
  }

  async killEnvoy(): Promise<void> {
    await this.#envoy?.stop('SIGKILL');
  }

  override async close(): Promise<void> {
    await super.close();
    this.#kubernetes?.closeAllConnections();
    this.#kubernetes?.close();
  }
}

/** What differs where there is no Kubernetes: nobody says the addresses of the application's servers. */
function withoutKubernetes(manifests: readonly Tree[], apps: string): Tree[] {
  const app = {
    ...{ apiVersion: 'networking.istio.io/v1', kind: 'ServiceEntry', metadata: { name: 'app', namespace: 'shop' } },
    spec: {
      hosts: ['app.shop.svc.cluster.local'],
      location: 'MESH_INTERNAL',
      resolution: 'STATIC',
      ports: [{ number: 8080, name: 'http', protocol: 'HTTP' }],
      endpoints: APP_PORTS.map((port) => ({ address: apps, ports: { http: port } })),
    },
  };
  const own = manifests.filter(({ apiVersion }) => String(apiVersion).startsWith('networking.istio.io/'));
  return [...own, app];
}

/** What the agent in Istio's gateway pod starts Envoy with, as far as it matters here. */
function bootstrapOf(manifests: readonly Tree[], address: string): Tree {
  const pod = tree(manifest(manifests, 'Deployment'), 'spec', 'template', 'metadata');
  const proxyConfig = tree(parse(String(tree(pod, 'annotations')['proxy.istio.io/config'])));
  const regexes = list(proxyConfig, 'proxyStatsMatcher', 'inclusionRegexps');
  const ads = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
  return {
    node: {
      id: `router~${address}~gateway.shop~shop.svc.cluster.local`,
      cluster: 'site-persistence-gateway.shop',
      metadata: {
        ...{ NAMESPACE: 'shop', ISTIO_VERSION: '1.31.0', INSTANCE_IPS: address, LABELS: tree(pod, 'labels') },
      },
    },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: ADMIN_PORT } } },
    layered_runtime: {
      layers: [
        { name: 'global config', static_layer: {} },
        { name: 'admin', admin_layer: {} },
      ],
    },
    stats_config: {
      use_all_default_tags: false,
      stats_tags: [{ tag_name: 'cluster_name', regex: '^cluster(\\.(.+);)' }],
      stats_matcher: {
        inclusion_list: {
          patterns: [
            ...['cluster_manager', 'listener_manager', 'server', 'cluster.xds-grpc'].map((prefix) => ({ prefix })),
            ...regexes.map((regex) => ({ safe_regex: { regex } })),
          ],
        },
      },
    },
    dynamic_resources: {
      cds_config: ads,
      lds_config: ads,
      ads_config: {
        ...{ api_type: 'DELTA_GRPC', transport_api_version: 'V3', set_node_on_first_message_only: true },
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
      },
    },
    static_resources: {
      clusters: [
        {
          ...{ name: 'xds-grpc', type: 'STATIC', connect_timeout: '1s' },
          load_assignment: {
            cluster_name: 'xds-grpc',
            endpoints: [
              {
                lb_endpoints: [
                  { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: XDS_PORT } } } },
                ],
              },
            ],
          },
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
        },
      ],
    },
  };
}
