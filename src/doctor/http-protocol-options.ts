import { HEADER_MUTATION, HTTP_PROTOCOL_OPTIONS } from './extension-types.ts';
import { at, entriesAt, listAt, typeOf } from './json.ts';

/** How a cluster speaks HTTP; undefined where it does not say. */
export function httpProtocolOptions(cluster: unknown): unknown {
  return entriesAt(cluster, 'typed_extension_protocol_options').find(
    ([, value]) => typeOf(value) === HTTP_PROTOCOL_OPTIONS,
  )?.[1];
}

/** Those of a cluster that speaks HTTP/2 alone, as it is written now or as it was once; undefined for any other. */
export function http2OptionsOf(cluster: unknown): unknown {
  const explicit = at(httpProtocolOptions(cluster), 'explicit_http_config', 'http2_protocol_options');
  return explicit ?? at(cluster, 'http2_protocol_options');
}

/** So many requests a connection carries at once, where the other end takes them; undefined: as many as that takes. */
export function maxStreamsOf(cluster: unknown): unknown {
  const auto = at(httpProtocolOptions(cluster), 'auto_config', 'http2_protocol_options');
  const http2 = http2OptionsOf(cluster) ?? auto;
  return http2 === undefined ? 1 : at(http2, 'max_concurrent_streams');
}

/** What the upstream filters of a cluster change of headers. */
export function upstreamMutations(cluster: unknown, kind: 'request_mutations' | 'response_mutations'): unknown[] {
  return listAt(httpProtocolOptions(cluster), 'http_filters')
    .map((filter) => at(filter, 'typed_config'))
    .filter((config) => typeOf(config) === HEADER_MUTATION)
    .flatMap((config) => listAt(config, 'mutations', kind));
}
