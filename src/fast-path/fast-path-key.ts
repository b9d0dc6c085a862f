/** The runtime key of Envoy by which the fast path is on: the percentage of such requests that do not ask the sidecar. */
export const FAST_PATH_KEY = 'site_persistence.fast_path';
