import type { LocalPoolConfig, RemotePoolConfig } from '../config/config.ts';

/** The listener that clients come to. */
export const EDGE = 'edge';

/** The listener that other sites forward to, where that is one of its own. */
export const HOP_EDGE = 'hop_edge';

/** Envoy's cluster of the sidecars. */
export const SIDECAR_CLUSTER = 'site_persistence';

/** Where this site stands in for the owner of a session: an internal listener, and the cluster that leads to it. */
export const STAND_IN = 'site_persistence_stand_in';

/** The filter there that expires another site's cookie. */
export const oneOwnerFilter = ({ cluster }: RemotePoolConfig) => `site_persistence.one_owner.${cluster}`;

/** The aggregate cluster that is a remote pool as long as it is up, and otherwise this site, standing in for it. */
export function withFallback(pool: RemotePoolConfig): string {
  return `${pool.cluster}_or_local`;
}

/** The routes that, without a decision, serve a request here that carries this site's cookie. */
export const adoptedRoute = ({ cluster }: RemotePoolConfig) => `undecided_forwarded_adopted_from_${cluster}`;
export const keptRoute = ({ cluster }: RemotePoolConfig) => `undecided_kept_from_${cluster}`;

/** The same site by HTTP/2. */
export const overHttp2 = ({ cluster }: RemotePoolConfig) => `${cluster}_http2`;

/** The internal listener, and the TCP cluster behind it, that close what is open to a server of this cluster that is silent. */
export const closingCluster = (cluster: string) => `${cluster}_closing`;

/** The local pool for WebSockets, which few servers take over HTTP/2. */
export const overHttp1 = ({ cluster }: LocalPoolConfig) => `${cluster}_http1`;

/** This site, or any other that is up: for what has no decision. */
export const ANYWHERE = 'site_persistence_anywhere';
