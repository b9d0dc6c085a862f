import { isTree, list, type Tree, tree } from './json-tree.ts';

/** Of the edge, which is the first listener. */
const HCM = ['static_resources', 'listeners', 0, 'filter_chains', 0, 'filters', 0, 'typed_config'] as const;

export const manager = (bootstrap: Tree) => tree(bootstrap, ...HCM);
export const filters = (bootstrap: Tree) => list(bootstrap, ...HCM, 'http_filters');
export const filter = (bootstrap: Tree, name: string) => tree(filters(bootstrap), `name=envoy.filters.http.${name}`);
export const extProc = (bootstrap: Tree) => tree(filter(bootstrap, 'ext_proc'), 'typed_config');
export const session = (bootstrap: Tree) =>
  tree(filter(bootstrap, 'stateful_session'), 'typed_config', 'extension_config', 'typed_config');
export const cookie = (bootstrap: Tree) => tree(session(bootstrap), 'session_state', 'typed_config', 'cookie');
export const routes = (bootstrap: Tree) => list(bootstrap, ...HCM, 'route_config', 'virtual_hosts', 0, 'routes');
export const route = (bootstrap: Tree, name: string) => tree(routes(bootstrap), `name=${name}`);
export const clusters = (bootstrap: Tree) => list(bootstrap, 'static_resources', 'clusters');
export const cluster = (bootstrap: Tree, name: string) => tree(clusters(bootstrap), `name=${name}`);

/** Of the upstream filter of a cluster. */
export const mutationsOf = (bootstrap: Tree, name: string) => {
  const options = tree(cluster(bootstrap, name), 'typed_extension_protocol_options');
  return tree(Object.values(options)[0], 'http_filters', 0, 'typed_config', 'mutations');
};

/** No header is taken off what a cluster answers any more. */
export function keepHeaders(bootstrap: Tree, name: string): void {
  const mutations = mutationsOf(bootstrap, name);
  mutations.response_mutations = list(mutations, 'response_mutations').filter((each) => 'append' in tree(each));
}

/** To one cluster, whatever the try. */
export function leadTo(target: Tree, name: string): void {
  const action = tree(target, 'route');
  delete action.inline_cluster_specifier_plugin;
  delete tree(action, 'retry_policy').refresh_cluster_on_retry;
  action.cluster = name;
}

/** All of that name: a route may be there twice, for GET and HEAD and for the others. */
export function remove(items: unknown[], name: string): void {
  const left = items.filter((item) => !(isTree(item) && item.name === name));
  if (left.length === items.length) throw new Error(`nothing is called ${name}`);
  items.splice(0, items.length, ...left);
}

/** By which Envoy tells its own answers, that no server gave, from others: the `response_flag_filter` of the first mapper. */
export const refusalFlags = (bootstrap: Tree) =>
  tree(
    manager(bootstrap),
    ...['local_reply_config', 'mappers', 0, 'filter', 'and_filter', 'filters', 0, 'response_flag_filter'],
  );
