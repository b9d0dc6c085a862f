/** The decision as a header: the cluster that Envoy's routes match. Set by the sidecar only. */
export const POOL_HEADER = 'x-site-pool';

/** The site that forwarded a request. */
export const HOP_HEADER = 'x-site-hop';

/** On a 503: the site that did not serve the request, which is safe to try elsewhere whatever its method. */
export const REFUSED_HEADER = 'x-site-refused';

/** Namespace of the dynamic metadata that carries each decision into Envoy's access log. */
export const METADATA_NAMESPACE = 'site_persistence';

/** Envoy's id of a request, the same at both sites; only logged. */
export const REQUEST_ID_HEADER = 'x-request-id';

/**
 * On an answer within this Envoy: who gave it. A hop-by-hop header, because Envoy removes those from each answer after its
 * last filter, so that it gets no further and costs nothing to take away.
 */
export const SERVED_HEADER = 'proxy-connection';

/** A server of the local pool gave the answer. Any other value: another site, or the stand-in listener. */
export const SERVED_HERE = 'served-here';

/**
 * A header of an answer that Envoy obeys: it takes the server, or at another site this whole edge, out until its next health
 * check. An application must not be able to send it: it may reflect what a client sent, or stand behind a proxy of its own.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#http-headers-consumed-from-upstream-calls
 */
export const CHECK_FAIL_HEADER = 'x-envoy-immediate-health-check-fail';

/** Those that Envoy obeys in another site's answer: the others keep it from a retry of what that site refuses. */
export const OBEYED_OF_OTHER_SITES = [CHECK_FAIL_HEADER, 'x-envoy-overloaded', 'x-envoy-ratelimited'] as const;
