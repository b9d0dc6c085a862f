import type { Application, RemotePoolConfig, RemoteProtocol } from '../config/config.ts';
import { canStandIn } from './can-stand-in.ts';
import { hasPriorityGroups } from './versions.ts';

/**
 * What is spoken to another site. Where clear text does not tell, HTTP/1.1; but gRPC, for which servers speak HTTP/2, does not
 * pass HTTP/1.1.
 */
export function remoteProtocol({ localPool }: Application, { protocol, tls }: RemotePoolConfig): RemoteProtocol {
  if (protocol !== 'auto' || tls !== null) return protocol;
  return localPool.protocol === 'http1' ? 'http1' : 'http2';
}

/**
 * In clear text nothing tells which protocol a site speaks, so that a check of its own has to find out. It takes a route whose
 * retry does not lead to the same site by HTTP/1.1, where a connection into silence is taken for one that stands.
 */
export function hasHttp2Twin(application: Application, pool: RemotePoolConfig): boolean {
  const { localPool, envoy } = application;
  const isUnclear = pool.protocol === 'auto' && pool.tls === null && localPool.protocol === 'http1';
  return isUnclear && canStandIn(application) && hasPriorityGroups(envoy.version);
}
