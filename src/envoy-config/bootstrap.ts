import { applicationsOf, type Config } from '../config/config.ts';
import { GRACEFUL_CLOSE_FLAG } from '../contract.ts';
import { renderAdmin } from './admin.ts';
import { renderClusters } from './clusters.ts';
import { type JsonObject, typed } from './json.ts';
import { renderEdges } from './listener.ts';
import { renderLocalListeners } from './local-clusters.ts';
import { withOverlay } from './overlay.ts';
import { renderOverloadManager } from './overload.ts';
import { renderRedirectListeners } from './redirect.ts';
import { renderRemoteListeners } from './remote-clusters.ts';
import { renderStandInListener } from './stand-in.ts';
import { hasSafeGracefulClose } from './versions.ts';

/**
 * The complete Envoy bootstrap of a site, with its overlay. Pure; names come from the same config as the sidecar's, so they can't differ.
 * @throws Error when the config lacks `envoy.listen`; loading it for rendering makes sure that it does not
 * @throws ConfigError where the overlay does not fit
 */
export function renderBootstrap(config: Config): JsonObject {
  return withOverlay(renderOwn(config), config.envoy.overlay);
}

function renderOwn(config: Config): JsonObject {
  if (config.envoy.listen === null) throw new Error('envoy.listen is needed to render an Envoy config');
  return {
    node: { id: config.envoy.nodeId ?? `${config.site}-edge`, cluster: config.site },
    admin: renderAdmin(config),
    ...layeredRuntime(config),
    overload_manager: renderOverloadManager(config.envoy),
    bootstrap_extensions: [internalListeners()],
    static_resources: {
      listeners: [
        ...renderEdges(config, config.envoy.listen),
        ...applicationsOf(config).flatMap((application) => [
          renderStandInListener(application),
          ...renderLocalListeners(application),
          ...renderRemoteListeners(application),
          ...renderRedirectListeners(application),
        ]),
      ],
      clusters: renderClusters(config),
    },
  };
}

function layeredRuntime({ envoy }: Config): JsonObject {
  const layers = [
    ...(hasSafeGracefulClose(envoy.version) ? [{ name: 'static', static_layer: { [GRACEFUL_CLOSE_FLAG]: true } }] : []),
    // Where POST /runtime_modify writes what the sidecars share.
    { name: 'admin', admin_layer: {} },
  ];
  return { layered_runtime: { layers } };
}

function internalListeners(): JsonObject {
  return {
    name: 'envoy.bootstrap.internal_listener',
    typed_config: typed('envoy.extensions.bootstrap.internal_listener.v3.InternalListener'),
  };
}
