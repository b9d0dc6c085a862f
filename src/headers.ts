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
