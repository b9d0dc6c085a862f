import type { EnvoyConfig } from '../config/config.ts';
import type { JsonObject } from './json.ts';

// What an edge makes of a request before anything else reads it, and how much it takes at once.

const KIB = 1024;

/** Of one HTTP/2 connection. A site that forwards here opens more of them. */
export const STREAMS_OF_CLIENT = 100;

/**
 * Of clients, by Envoy's own advice: what one connection can have Envoy keep is bounded. WebSockets come over HTTP/2 as well
 * (RFC 8441).
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/best_practices/edge
 */
export const HTTP2_OF_CLIENTS: JsonObject = {
  allow_connect: true,
  max_concurrent_streams: STREAMS_OF_CLIENT,
  initial_stream_window_size: 64 * KIB,
  initial_connection_window_size: 1024 * KIB,
};

/**
 * Of other sites, which have certificates. One connection carries the requests of many clients, and an upload crosses the
 * distance between the sites with one window a round trip: with those of clients all of them together had 1 MiB. Sites that are
 * rendered here send no more than 100 at once; more streams are for an Envoy that is not, and sends before it has heard the limit.
 */
export const HTTP2_OF_SITES: JsonObject = {
  allow_connect: true,
  max_concurrent_streams: 1_000,
  initial_stream_window_size: 1024 * KIB,
  initial_connection_window_size: 16 * 1024 * KIB,
};

const ESCAPED_SLASHES = {
  reject: 'REJECT_REQUEST',
  unescape_and_redirect: 'UNESCAPE_AND_REDIRECT',
  unescape_and_forward: 'UNESCAPE_AND_FORWARD',
} as const;

/** How the path is spelt that routes, the sidecar and servers see. */
export function pathRules({ normalizePath, mergeSlashes, pathWithEscapedSlashes: action }: EnvoyConfig): JsonObject {
  return {
    normalize_path: normalizePath,
    merge_slashes: mergeSlashes,
    ...(action === 'keep' ? {} : { path_with_escaped_slashes_action: ESCAPED_SLASHES[action] }),
  };
}

const UNDERSCORES = { drop: 'DROP_HEADER', reject: 'REJECT_REQUEST' } as const;

/** Of `common_http_protocol_options`. */
export function headerRules({ headersWithUnderscores: action }: EnvoyConfig): JsonObject {
  return action === 'allow' ? {} : { headers_with_underscores_action: UNDERSCORES[action] };
}

/** An application's own Server header reaches the client, and Envoy adds none. */
export const OWN_SERVER_HEADER = { server_header_transformation: 'PASS_THROUGH' };
