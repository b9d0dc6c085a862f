import { HTTP_PROTOCOL_OPTIONS } from './extension-types.ts';
import { at, entriesAt, typeOf } from './json.ts';

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
