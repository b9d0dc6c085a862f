import { type Application, type CookieConfig, sitesOf } from './config/config.ts';

// The names, limits and texts that the sidecar and Envoy's config must agree on.

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

/** The gRPC service that Envoy calls, and the name under which the sidecar reports its health. */
export const EXT_PROC_SERVICE = 'envoy.service.ext_proc.v3.ExternalProcessor';

/** The runtime flag that makes Envoy end an ext_proc stream in peace instead of by RST_STREAM. Off by default. */
export const GRACEFUL_CLOSE_FLAG = 'envoy.reloadable_features.ext_proc_graceful_grpc_close';

// Keys of Envoy's runtime: what all sidecars of an Envoy share, and what its routes go by without them.

/** `100` while the site is up for decisions: its steady routes then need no sidecar. */
export const siteKey = (application: string, site: string) => `site_persistence.${application}.${site}`;

/** The end of the application's drain, in seconds since 1970 ({@link NO_END}: none); `0` once it has ended. */
export const drainKey = (application: string) => `site_persistence.drain.${application}`;

/** The same where the drain also moves the sessions that live here. */
export const evictKey = (application: string) => `site_persistence.drain_evict.${application}`;

/** When the drain began, in seconds since 1970, when it was last changed, in milliseconds, and its reason, with a space between. */
export const drainNoteKey = (application: string) => `site_persistence.drain_note.${application}`;

/** `100` while the config file says `drain: true`. */
export const drainInFileKey = (application: string) => `site_persistence.drain_in_file.${application}`;

/** The end of a hold of another site, likewise: for this application this site takes it for down. */
export const holdKey = (application: string, site: string) => `site_persistence.hold.${application}.${site}`;

/** The same of the hold. */
export const holdNoteKey = (application: string, site: string) => `site_persistence.hold_note.${application}.${site}`;

/** `0` while the other site is held: without a decision its sessions are not sent there either. Otherwise not set, or `100`. */
export const openKey = (application: string, site: string) => `site_persistence.hold_open.${application}.${site}`;

/** Those that an application's steady routes go by, this site's first. */
export function siteKeys(application: Pick<Application, 'name' | 'site' | 'remotePools'>): string[] {
  return sitesOf(application).map((site) => siteKey(application.name, site));
}

/** The year 2286: what only a command ends. */
export const NO_END = 9_999_999_999;

/**
 * So many calls of a connection are open at once (HTTP/2's SETTINGS_MAX_CONCURRENT_STREAMS). What has come of a
 * connection is served before the next one's turn, so this is what others wait for: with 100 calls and a client that asks
 * as fast as it can 2 ms in the median and 7 ms at the 99th percentile, with 1,000 or without a limit 18 and 100 ms. An
 * Envoy with more requests at once opens more connections, as long as its cluster says the same
 * (`max_concurrent_streams`): what it sends on a new connection before it has heard of the limit is refused.
 */
export const MAX_CALLS_OF_CONNECTION = 100;

/** The answers to the status URI, the sidecar's and Envoy's own: monitors look for these very texts. */
export function statusBody(up: boolean): string {
  return `LOCAL POOL STATE: ${up ? 'UP' : 'DOWN'}`;
}

export const STATUS_CONTENT_TYPE = 'text/html';

/**
 * The Set-Cookie that makes a browser forget a cookie, under one of its names: it must repeat the Path and Domain it was set with, and Secure,
 * without which browsers do not let a Secure cookie be replaced.
 */
export function expiredCookie(cookie: CookieConfig, name: string): string {
  const attributes = [`${name}=`, `Path=${cookie.path}`];
  if (cookie.domain !== null) attributes.push(`Domain=${cookie.domain}`);
  // Expires is for clients that know no Max-Age.
  attributes.push('Max-Age=0', 'Expires=Thu, 01 Jan 1970 00:00:00 GMT', 'HttpOnly');
  if (cookie.secure) attributes.push('Secure');
  if (cookie.sameSite !== null) attributes.push(`SameSite=${cookie.sameSite}`);
  return attributes.join('; ');
}
