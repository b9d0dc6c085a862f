import type { RemoteProtocol } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import type { HeaderLimits } from './header-limits.ts';
import { type JsonObject, typed } from './json.ts';

const TYPE = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

/**
 * HTTP/2 with pings, which tell that the other end is gone, and with WebSockets (RFC 8441). A connection without an answer is
 * given up after 4.6 s at most, later than the health check that keeps new requests away from it.
 */
const HTTP2 = { allow_connect: true, connection_keepalive: { interval: '0.3s', timeout: '4.3s' } };

export interface HttpOptions {
  readonly limits: HeaderLimits;
  /** After so long without a request a connection is closed; 0: never, null: Envoy's default. */
  readonly idleTimeoutMs: number | null;
  /** Of a HeaderMutation filter. */
  readonly mutations?: JsonObject;
}

/** How a cluster speaks HTTP: answers may be as large as they come. */
export function httpOptions(protocol: RemoteProtocol, options: HttpOptions): JsonObject {
  const { limits, idleTimeoutMs, mutations } = options;
  return {
    typed_extension_protocol_options: {
      [TYPE]: typed(TYPE, {
        common_http_protocol_options: {
          ...(idleTimeoutMs === null ? {} : { idle_timeout: formatProtoDuration(idleTimeoutMs) }),
          max_headers_count: limits.count,
          max_response_headers_kb: limits.kb,
        },
        ...codec(protocol),
        ...(mutations === undefined ? {} : { http_filters: headerMutation(mutations) }),
      }),
    },
  };
}

/** @param protocol `auto`: what TLS agrees on (ALPN) */
function codec(protocol: RemoteProtocol): JsonObject {
  switch (protocol) {
    case 'http1':
      return { explicit_http_config: { http_protocol_options: {} } };
    case 'http2':
      return { explicit_http_config: { http2_protocol_options: HTTP2 } };
    case 'auto':
      return { auto_config: { http_protocol_options: {}, http2_protocol_options: HTTP2 } };
  }
}

function headerMutation(mutations: JsonObject): JsonObject[] {
  return [
    {
      name: 'envoy.filters.http.header_mutation',
      typed_config: typed('envoy.extensions.filters.http.header_mutation.v3.HeaderMutation', { mutations }),
    },
    {
      name: 'envoy.filters.http.upstream_codec',
      typed_config: typed('envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec'),
    },
  ];
}
