export interface HeaderLimits {
  readonly count: number;
  readonly kb: number;
}

/**
 * Envoy lets 100 headers and 60 KiB through by default, on each way; over HTTP/2 each cookie is a header of its own. The sites add some of their own, and Envoy answers 500
 * where what the sidecar adds passes the limit, whatever the failure mode: a request that one plain Envoy serves would be lost
 * at an edge that asks, or at the second of two. With these whatever fits the defaults fits everywhere.
 */
export const HEADER_LIMITS: HeaderLimits = { count: 400, kb: 96 };

/** What an edge has let in fits, with what it has added; and so does what comes back that way. */
export const HEADER_LIMITS_BEHIND_EDGE: HeaderLimits = { count: 500, kb: 128 };
