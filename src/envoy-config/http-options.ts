import type { LocalProtocol, RemoteProtocol } from '../config/config.ts';
import { formatProtoDuration } from '../config/duration.ts';
import type { HeaderLimits } from './header-limits.ts';
import { type JsonObject, typed } from './json.ts';
import { STREAMS_OF_CLIENT } from './request-rules.ts';

const TYPE = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';

/** With WebSockets (RFC 8441). */
const HTTP2 = { allow_connect: true };

/**
 * With pings, which tell that the other end is gone. A connection without an answer is given up after 4.6 s at most, later
 * than the health check that keeps new requests away from it. For other Envoys: a gRPC server takes so many pings for an attack.
 */
const HTTP2_WITH_PINGS = {
  ...HTTP2,
  // As many as every edge takes, or a burst on a new connection would break it: Envoy sends before it has heard the limit.
  max_concurrent_streams: STREAMS_OF_CLIENT,
  connection_keepalive: { interval: '0.3s', timeout: '4.3s' },
};

export interface HttpOptions {
  /** Over HTTP/2 an end that is silent is noticed. */
  readonly pings?: boolean;
  readonly limits: HeaderLimits;
  /** After so long without a request a connection is closed; 0: never, null: Envoy's default. */
  readonly idleTimeoutMs: number | null;
  /** Of a HeaderMutation filter. */
  readonly mutations?: JsonObject;
}

/** How a cluster speaks HTTP: answers may be as large as they come. */
export function httpOptions(protocol: RemoteProtocol | LocalProtocol, options: HttpOptions): JsonObject {
  const { limits, idleTimeoutMs, mutations, pings = false } = options;
  return {
    typed_extension_protocol_options: {
      [TYPE]: typed(TYPE, {
        common_http_protocol_options: {
          ...(idleTimeoutMs === null ? {} : { idle_timeout: formatProtoDuration(idleTimeoutMs) }),
          max_headers_count: limits.count,
          max_response_headers_kb: limits.kb,
        },
        ...codec(protocol, pings ? HTTP2_WITH_PINGS : HTTP2),
        ...(mutations === undefined ? {} : { http_filters: headerMutation(mutations) }),
      }),
    },
  };
}

/** @param protocol `auto`: what TLS agrees on (ALPN); `downstream`: what the client spoke */
function codec(protocol: RemoteProtocol | LocalProtocol, http2_protocol_options: JsonObject): JsonObject {
  switch (protocol) {
    case 'http1':
      return { explicit_http_config: { http_protocol_options: {} } };
    case 'http2':
      return { explicit_http_config: { http2_protocol_options } };
    case 'auto':
      return { auto_config: { http_protocol_options: {}, http2_protocol_options } };
    case 'downstream':
      return { use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options } };
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
