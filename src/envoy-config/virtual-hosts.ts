import { type Application, applicationsOf, type Config, EVERY_HOST, isOneForEveryHost } from '../config/config.ts';
import { findByHost, hostTableOf, NO_APPLICATION } from '../config/virtual-hosts.ts';
import { METADATA_NAMESPACE, POOL_HEADER } from '../contract.ts';
import { stickiness } from './filters.ts';
import type { JsonObject } from './json.ts';
import { BODY_BUFFER_BYTES } from './route-parts.ts';
import { routesOf } from './routes.ts';

/** Each application is a virtual host; a request for no application's host gets 404. */
export function renderRouteConfig(config: Config): JsonObject {
  return {
    name: 'sites',
    // As the sidecar finds the application: clients say the port where it is not the usual one.
    ...(isOneForEveryHost(config) ? {} : { ignore_port_in_host_matching: true }),
    virtual_hosts: applicationsOf(config).map(virtualHost),
  };
}

export function virtualHostName({ name, isAlone }: Application): string {
  return isAlone ? 'application' : name;
}

function virtualHost(application: Application): JsonObject {
  const { hosts, isForEveryHost } = application;
  const perFilter = stickiness(application);
  return {
    name: virtualHostName(application),
    domains: isForEveryHost ? [EVERY_HOST] : hosts,
    // Neither the application nor another site has any use for it.
    request_headers_to_remove: [POOL_HEADER],
    request_body_buffer_limit: BODY_BUFFER_BYTES,
    ...(isForEveryHost
      ? {}
      : { metadata: { filter_metadata: { [METADATA_NAMESPACE]: { application: application.name } } } }),
    ...(Object.keys(perFilter).length === 0 ? {} : { typed_per_filter_config: perFilter }),
    routes: routesOf(application),
  };
}

const HOST_OF_NONE = 'localhost';

/** The Host of a request that has none; null where it is for no application. */
export function hostOfHostless({ applications, envoy }: Config): string | null {
  if (envoy.defaultHost !== null) return envoy.defaultHost;
  const table = hostTableOf(applications);
  if (table.everyHost === NO_APPLICATION) return null;
  // An application may have that very name.
  return findByHost(table, HOST_OF_NONE) === table.everyHost ? HOST_OF_NONE : 'no-host.invalid';
}
