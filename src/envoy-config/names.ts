import {
  type Application,
  type CookieConfig,
  DEFAULT_APPLICATION,
  type LocalPoolConfig,
  type RemotePoolConfig,
} from '../config/config.ts';

/** The listener that clients come to. */
export const EDGE = 'edge';

/** The listener that other sites forward to, where that is one of its own. */
export const HOP_EDGE = 'hop_edge';

/** Envoy's cluster of the sidecars. */
export const SIDECAR_CLUSTER = 'site_persistence';

/** Where this site stands in for the owner of a session: an internal listener, and the cluster that leads to it. */
export const standIn = (application: Application) => ofApplication('site_persistence_stand_in', application);

/** The filter there that expires another site's cookie. */
export const oneOwnerFilter = ({ cluster }: RemotePoolConfig) => `site_persistence.one_owner.${cluster}`;

/** The filter there that expires a site's cookie, this one's as well, under another name than it is set under. */
export const oneOwnerAlsoFilter = (cookieName: string) => `site_persistence.one_owner_also.${cookieName}`;

/** The filter that finds the server of a session whose cookie has one of its also names, by its place in the list. */
export const alsoFilter = (index: number) => `site_persistence.also.${index + 1}`;

/** The filter that hides the server in the cookie (`cookie.opaque`). */
export const OPAQUE_FILTER = 'site_persistence.opaque_cookie';

/** The cookie by which another site's session has a server here while that site is down, where it stays its own. */
export const keptCookieName = ({ name }: CookieConfig) => `${name}-kept`;

/** The aggregate cluster that is a remote pool as long as it is up, and otherwise this site, standing in for it. */
export function withFallback(pool: RemotePoolConfig): string {
  return `${pool.cluster}_or_local`;
}

/** The internal listener, and the cluster that leads to it, that send a client to another site's own address while that is up. */
export const redirectTo = ({ cluster }: Pick<RemotePoolConfig, 'cluster'>) => `${cluster}_redirect`;

/** The aggregate cluster that does so, and otherwise is the site itself or stands in for it. */
export const redirectOrProxy = ({ cluster }: RemotePoolConfig) => `${cluster}_redirect_or_proxy`;

/** The local pool from which the next try leads out, of the site where it may, when no server here is healthy. */
export const orElsewhere = ({ cluster }: LocalPoolConfig) => `${cluster}_or_elsewhere`;

/** The routes that, without a decision, serve a request here that carries this site's cookie. */
export const adoptedRoute = ({ cluster }: RemotePoolConfig) => `undecided_forwarded_adopted_from_${cluster}`;
export const renamedRoute = 'undecided_forwarded_renamed';
export const keptRoute = ({ cluster }: RemotePoolConfig) => `undecided_kept_from_${cluster}`;

/** The same site by HTTP/2. */
export const overHttp2 = ({ cluster }: RemotePoolConfig) => `${cluster}_http2`;

/** The internal listener, and the TCP cluster behind it, that close what is open to a server of this cluster that is silent. */
export const closingCluster = (cluster: string) => `${cluster}_closing`;

/** The local pool for WebSockets, which few servers take over HTTP/2. */
export const overHttp1 = ({ cluster }: LocalPoolConfig) => `${cluster}_http1`;

/** This site, or any other that is up: for what has no decision. */
export const anywhere = (application: Application) => ofApplication('site_persistence_anywhere', application);

/** Clusters, and listeners of the same names, that are called after a pool. */
export function namesOfPools({ localPool, remotePools }: Pick<Application, 'localPool' | 'remotePools'>): string[] {
  return [
    ...[localPool.cluster, overHttp1(localPool), orElsewhere(localPool), closingCluster(localPool.cluster)],
    ...remotePools.flatMap((pool) => [
      ...[pool.cluster, overHttp2(pool), withFallback(pool), closingCluster(pool.cluster)],
      ...[redirectTo(pool), redirectOrProxy(pool)],
    ]),
  ];
}

/** Envoy counts by it what a route does, as `vhost.NAME.route.PREFIX.upstream_rq_completed`. */
export function statPrefix({ name }: Application, route: string): string {
  return `site_persistence_${name}_${route.replace(/[^A-Za-z0-9_-]/g, '_')}`;
}

/** The same of the sessions that live here, as `stateful_session.PREFIX.failed_open`. */
export const ownSessionsStatPrefix = (application: Application) => statPrefix(application, 'own_sessions');

function ofApplication(base: string, { name }: Application): string {
  return name === DEFAULT_APPLICATION ? base : `${base}_${name}`;
}
