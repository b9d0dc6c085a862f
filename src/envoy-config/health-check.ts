import { isIpAddress } from '../config/address.ts';
import type { RemotePoolConfig } from '../config/config.ts';

/** The Host by which another site is asked for its status: one that it knows. Envoy itself would send the cluster's name. */
export function healthCheckHost({ healthCheck, tls, servers }: RemotePoolConfig): string {
  const named = servers.find(({ host }) => !isIpAddress(host));
  return healthCheck.host ?? tls?.sni ?? named?.host ?? 'localhost';
}
