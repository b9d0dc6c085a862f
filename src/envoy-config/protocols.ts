import type { Config, RemotePoolConfig, RemoteProtocol } from '../config/config.ts';

/**
 * What is spoken to another site. Where clear text does not tell, HTTP/1.1; but gRPC, for which servers speak HTTP/2, does not
 * pass HTTP/1.1.
 */
export function remoteProtocol({ localPool }: Config, { protocol, tls }: RemotePoolConfig): RemoteProtocol {
  if (protocol !== 'auto' || tls !== null) return protocol;
  return localPool.protocol === 'http1' ? 'http1' : 'http2';
}
