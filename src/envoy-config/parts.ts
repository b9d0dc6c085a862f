import { type ApplicationConfig, applicationsOf, type Config } from '../config/config.ts';
import { renderBootstrap } from './bootstrap.ts';
import { isObject, type Json, type JsonObject, typed } from './json.ts';
import { anywhere, EDGE, HOP_EDGE, namesOfPools, standIn } from './names.ts';
import { mapNames } from './references.ts';
import { virtualHostName } from './virtual-hosts.ts';

/** What an Envoy with a config of its own takes over, and where it goes there. */
export const PARTS = {
  bootstrap: 'beside static_resources',
  clusters: 'in clusters of static_resources',
  listeners: 'in listeners of static_resources',
  manager: 'in the typed_config of the connection manager',
  filters: 'in http_filters of the connection manager, your own before the router',
  routes: 'in virtual_hosts of its route_config',
} as const;

export type Part = keyof typeof PARTS;

export interface PartOptions {
  readonly part: Part;
  /** What is this application's and what all share; null: of all. */
  readonly application: string | null;
  /** Before the names that nobody but Envoy's config knows. */
  readonly prefix: string;
}

/** Stands in where the listener is the operator's own. */
const OWN_LISTENER = { kind: 'tcp', host: '127.0.0.1', port: 80 } as const;

/** @throws ConfigError where the overlay does not fit */
export function renderPart(config: Config, { part, application, prefix }: PartOptions): Json {
  const whole = { ...config, envoy: { ...config.envoy, listen: config.envoy.listen ?? OWN_LISTENER } };
  const resources = objectAt(withPrefix(whole, prefix), 'static_resources');
  const manager = managerOf(resources, prefix);
  const others = application === null ? [] : config.applications.filter(({ name }) => name !== application);
  const isOfOthers = createIsOf(whole, others, prefix);
  switch (part) {
    case 'bootstrap': {
      const { layered_runtime, bootstrap_extensions } = renderBootstrap(whole);
      return { layered_runtime, bootstrap_extensions };
    }
    case 'clusters':
      return listAt(resources, 'clusters').filter((cluster) => !isOfOthers(cluster));
    case 'listeners': {
      // The edge is the operator's own where the config file has none.
      const edges = config.envoy.listen === null ? [EDGE, HOP_EDGE].map((name) => prefix + name) : [];
      return listAt(resources, 'listeners').filter((item) => !edges.includes(nameOf(item)) && !isOfOthers(item));
    }
    case 'filters':
      return listAt(manager, 'http_filters');
    case 'manager': {
      const { '@type': _, stat_prefix: __, http_filters: ___, route_config, ...settings } = manager;
      const { name: ____, virtual_hosts: _____, ...ofRoutes } = objectAt({ route_config }, 'route_config');
      return { ...settings, ...(Object.keys(ofRoutes).length === 0 ? {} : { route_config: ofRoutes }) };
    }
    case 'routes': {
      const names = applicationsOf(config).flatMap((own) =>
        others.some(({ name }) => name === own.name) ? virtualHostName(own) : [],
      );
      return listAt(objectAt(manager, 'route_config'), 'virtual_hosts').filter((host) => !names.includes(nameOf(host)));
    }
  }
}

/** A part as the file of an xDS subscription (`path_config_source`) has it; null where no such file can have it. */
export function asResources(part: Part, rendered: Json): Json {
  const list = Array.isArray(rendered) ? rendered : [];
  const each = (type: string) => ({ resources: list.map((item: Json) => typed(type, isObject(item) ? item : {})) });
  if (part === 'clusters') return each('envoy.config.cluster.v3.Cluster');
  if (part === 'listeners') return each('envoy.config.listener.v3.Listener');
  if (part !== 'routes') return null;
  return { resources: [typed('envoy.config.route.v3.RouteConfiguration', { name: 'sites', virtual_hosts: list })] };
}

function managerOf(resources: JsonObject, prefix: string): JsonObject {
  const edge = listAt(resources, 'listeners').find((item) => nameOf(item) === `${prefix}${EDGE}`);
  const filters = listAt(listAt(edge, 'filter_chains')[0], 'filters');
  const filter = filters.find((item) => nameOf(item) === 'envoy.filters.network.http_connection_manager');
  return objectAt(filter, 'typed_config');
}

/** Whether a cluster or listener is of one of these applications alone. */
function createIsOf(config: Config, applications: readonly ApplicationConfig[], prefix: string) {
  const own = new Set(
    applicationsOf(config)
      .filter(({ name }) => applications.some((other) => other.name === name))
      .flatMap((application) => [
        ...namesOfPools(application),
        ...[standIn(application), anywhere(application)].map((name) => prefix + name),
      ]),
  );
  return (item: Json): boolean => own.has(nameOf(item));
}

/** The whole bootstrap. What the overlay adds keeps its names, and so do the pools: the sidecar asks for those by name. */
function withPrefix(config: Config, prefix: string): JsonObject {
  const bootstrap = renderBootstrap(config);
  if (prefix === '') return bootstrap;
  const resources = objectAt(
    renderBootstrap({ ...config, envoy: { ...config.envoy, overlay: null } }),
    'static_resources',
  );
  const pools = new Set(applicationsOf(config).flatMap(namesOfPools));
  const renamed = new Set(
    ['clusters', 'listeners'].flatMap((kind) => listAt(resources, kind).map(nameOf)).filter((name) => !pools.has(name)),
  );
  return mapNames(bootstrap, (name) => (renamed.has(name) ? `${prefix}${name}` : name));
}

function objectAt(value: Json | undefined, key: string): JsonObject {
  const found = isObject(value) ? value[key] : undefined;
  return isObject(found) ? found : {};
}

function listAt(value: Json | undefined, key: string): readonly Json[] {
  const found = isObject(value) ? value[key] : undefined;
  return Array.isArray(found) ? found : [];
}

function nameOf(value: Json): string {
  return isObject(value) && typeof value.name === 'string' ? value.name : '';
}
