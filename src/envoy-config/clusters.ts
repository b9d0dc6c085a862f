import { type Application, applicationsOf, type Config, type EnvoyConfig } from '../config/config.ts';
import { EXT_PROC_SERVICE, MAX_CALLS_OF_CONNECTION } from '../contract.ts';
import { canStandIn } from './can-stand-in.ts';
import { endpoints, noLimits, poolDefaults } from './cluster-parts.ts';
import { HEADER_LIMITS_BEHIND_EDGE } from './header-limits.ts';
import { httpOptions } from './http-options.ts';
import { type JsonObject, typed } from './json.ts';
import { renderLocalClusters } from './local-clusters.ts';
import { anywhere, SIDECAR_CLUSTER, standIn } from './names.ts';
import { renderRedirectClusters } from './redirect.ts';
import { aggregate, renderRemoteClusters, waysTo } from './remote-clusters.ts';
import { markServedElsewhere } from './served-here.ts';
import { upstreamTls } from './tls.ts';

/** The pools, each remote pool's fallback, and the sidecars. */
export function renderClusters(config: Config): JsonObject[] {
  return [
    ...applicationsOf(config).flatMap((application) => [
      ...renderLocalClusters(application),
      ...renderRemoteClusters(application),
      ...renderRedirectClusters(application),
      standInCluster(application),
      ...(canStandIn(application) ? [anywhereCluster(application)] : []),
    ]),
    sidecarCluster(config.envoy),
  ];
}

/** Without a decision: here, and where no server here takes it at the first other site that does. */
function anywhereCluster(application: Application): JsonObject {
  const others = application.remotePools.flatMap((pool) => waysTo(application, pool));
  return aggregate(anywhere(application), [standIn(application), ...others], application);
}

/** Leads back into this Envoy, to the stand-in listener. It is always up: what no server here takes is a 503 there. */
function standInCluster(application: Application): JsonObject {
  const { localPool } = application;
  const name = standIn(application);
  return {
    name,
    circuit_breakers: noLimits(),
    // It adds the cookies that expire.
    ...httpOptions(localPool.protocol === 'http1' ? 'http1' : 'downstream', {
      limits: HEADER_LIMITS_BEHIND_EDGE,
      idleTimeoutMs: null,
      mutations: { response_mutations: [markServedElsewhere()] },
    }),
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: [{ endpoint: { address: { envoy_internal_address: { server_listener_name: name } } } }],
        },
      ],
    },
  };
}

function sidecarCluster({ sidecars, sidecarTls, secretsDir, version }: EnvoyConfig): JsonObject {
  return {
    name: SIDECAR_CLUSTER,
    ...endpoints(SIDECAR_CLUSTER, sidecars, version),
    connect_timeout: '0.25s',
    // Not LEAST_REQUEST: a sidecar that just died has the fewest requests, and would draw the retries as well.
    ...poolDefaults(),
    // A hung sidecar costs each request message_timeout until this takes it out; a stopping one says NOT_SERVING.
    health_checks: [
      {
        timeout: '0.5s',
        interval: '0.5s',
        no_traffic_interval: '0.5s',
        unhealthy_interval: '0.25s',
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        grpc_health_check: { service_name: EXT_PROC_SERVICE },
      },
    ],
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': typed(
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        { explicit_http_config: { http2_protocol_options: { max_concurrent_streams: MAX_CALLS_OF_CONNECTION } } },
      ),
    },
    ...(sidecarTls === null ? {} : { transport_socket: upstreamTls(SIDECAR_CLUSTER, sidecarTls, secretsDir, ['h2']) }),
  };
}
