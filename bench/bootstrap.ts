import { readFile } from 'node:fs/promises';
import { z } from 'zod';

const httpFilter = z.looseObject({ name: z.string() });
const route = z.looseObject({
  name: z.string(),
  match: z.looseObject({}),
  typed_per_filter_config: z.looseObject({}).optional(),
});
const virtualHost = z.looseObject({ routes: z.array(route) });
const cluster = z.looseObject({ name: z.string() });

/** A filter behind a match tree, with its own config inside. */
const behindMatcher = z.looseObject({ extension_config: z.looseObject({ typed_config: z.looseObject({}) }) });

const accessLogs = z.array(z.looseObject({ typed_config: z.looseObject({}) }));

const connectionManager = z.looseObject({
  http_filters: z.array(httpFilter),
  route_config: z.looseObject({ virtual_hosts: z.array(virtualHost) }),
});

/** As much of a rendered bootstrap as the benchmarks change; the rest passes through. */
export const bootstrapSchema = z.looseObject({
  static_resources: z.looseObject({
    listeners: z.array(
      z.looseObject({
        name: z.string(),
        filter_chains: z.array(
          z.looseObject({
            // A listener that leads to a server of another site has a TCP proxy.
            filters: z.array(
              z.looseObject({ name: z.string(), typed_config: z.union([connectionManager, z.looseObject({})]) }),
            ),
          }),
        ),
      }),
    ),
    clusters: z.array(cluster),
  }),
});

export type Bootstrap = z.infer<typeof bootstrapSchema>;
export type Cluster = z.infer<typeof cluster>;
export type ConnectionManager = z.infer<typeof connectionManager>;
export type Route = z.infer<typeof route>;
export type VirtualHost = z.infer<typeof virtualHost>;

export const EXT_PROC = 'envoy.filters.http.ext_proc';
export const SIDECAR_CLUSTER = 'site_persistence';

/** Of the listeners of this name, or of all. */
export function connectionManagers(bootstrap: Bootstrap, listenerName?: string): ConnectionManager[] {
  return bootstrap.static_resources.listeners
    .filter(({ name }) => listenerName === undefined || name === listenerName)
    .flatMap(({ filter_chains }) => filter_chains)
    .flatMap(({ filters }) => filters)
    .flatMap(({ typed_config }) => managerOf(typed_config));
}

function managerOf(config: object): ConnectionManager[] {
  return isManager(config) ? [config] : [];
}

function isManager(config: object): config is ConnectionManager {
  return 'http_filters' in config && 'route_config' in config;
}

/** Nobody's requests are logged, so that no log is measured. */
export function withoutAccessLog(bootstrap: Bootstrap): void {
  for (const manager of connectionManagers(bootstrap)) delete manager.access_log;
}

/** Each request is logged as it is in the field, but to a file that keeps nothing: who reads it would be measured as well. */
export function logToNowhere(bootstrap: Bootstrap): void {
  const type = 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog';
  for (const manager of connectionManagers(bootstrap)) {
    const logs = accessLogs.parse(manager.access_log ?? []);
    manager.access_log = logs.map(({ typed_config, ...log }) => ({
      ...log,
      name: 'envoy.access_loggers.file',
      typed_config: { ...typed_config, '@type': type, path: '/dev/null' },
    }));
  }
}

/** Envoy as it is without a decision: stickiness to the servers of the local pool and nothing else. */
export function withoutDecision(bootstrap: Bootstrap): void {
  const kept = ['envoy.filters.http.stateful_session', 'envoy.filters.http.router'];
  bootstrap.static_resources.listeners = bootstrap.static_resources.listeners.filter(({ name }) => name === 'edge');
  for (const manager of connectionManagers(bootstrap)) {
    manager.http_filters = manager.http_filters
      .filter((filter) => kept.includes(filter.name))
      .map((filter) => {
        // Nobody marks the answers here.
        const wrapped = behindMatcher.safeParse(filter.typed_config);
        return wrapped.success ? { ...filter, typed_config: wrapped.data.extension_config.typed_config } : filter;
      });
    delete manager.early_header_mutation_extensions;
    delete manager.local_reply_config;
    for (const host of manager.route_config.virtual_hosts) {
      const match = { prefix: '/' };
      host.routes = [{ name: 'local', match, route: { cluster: 'local_pool', timeout: '0s' } }];
      delete host.request_headers_to_remove;
    }
  }
  const local = bootstrap.static_resources.clusters.filter(({ name }) => name === 'local_pool');
  for (const cluster of local) delete cluster.typed_extension_protocol_options;
  bootstrap.static_resources.clusters = local;
}

/** The same routes and fallbacks, but a Lua script decides instead of a sidecar. */
export async function withLua(bootstrap: Bootstrap, scriptFile: string): Promise<void> {
  const lua = {
    name: 'envoy.filters.http.lua',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua',
      default_source_code: { inline_string: await readFile(scriptFile, 'utf8') },
    },
  };
  for (const manager of connectionManagers(bootstrap)) {
    manager.http_filters = manager.http_filters.map((filter) => (filter.name === EXT_PROC ? lua : filter));
  }
  const { clusters } = bootstrap.static_resources;
  bootstrap.static_resources.clusters = clusters.filter(({ name }) => name !== SIDECAR_CLUSTER);
}

/** Logs of each request how long Envoy's ext_proc filter waited for its decision. */
export function logEachDecision(bootstrap: Bootstrap, file: string): void {
  const text = '%FILTER_STATE(envoy.filters.http.ext_proc:PLAIN)%\n';
  const log = {
    name: 'envoy.access_loggers.file',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
      path: file,
      log_format: { text_format_source: { inline_string: text } },
    },
  };
  for (const manager of connectionManagers(bootstrap)) manager.access_log = [log];
}
