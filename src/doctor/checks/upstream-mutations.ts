import { HEADER_MUTATION } from '../extension-types.ts';
import { at, entriesAt, listAt, typeOf } from '../json.ts';

/** What the upstream filters of a cluster change of headers. */
export function upstreamMutations(cluster: unknown, kind: 'request_mutations' | 'response_mutations'): unknown[] {
  return entriesAt(cluster, 'typed_extension_protocol_options')
    .flatMap(([, options]) => listAt(options, 'http_filters'))
    .map((filter) => at(filter, 'typed_config'))
    .filter((config) => typeOf(config) === HEADER_MUTATION)
    .flatMap((config) => listAt(config, 'mutations', kind));
}
