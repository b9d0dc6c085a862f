import { isIpAddress } from '../config/address.ts';
import type { Application, RemotePoolConfig } from '../config/config.ts';

/**
 * The Host by which another site is asked for its status: one that it knows, and there tells which application is meant. Envoy
 * itself would send the cluster's name.
 */
export function healthCheckHost(application: Application, { healthCheck, tls, servers }: RemotePoolConfig): string {
  if (healthCheck.host !== null) return healthCheck.host;
  if (!application.isAlone) return hostOf(application);
  const named = servers.find(({ host }) => !isIpAddress(host));
  return tls?.sni ?? named?.host ?? 'localhost';
}

/** A host that is for this application and no other: an exact one, or one that a wildcard stands for and nobody has. */
function hostOf({ hosts }: Application): string {
  const exact = hosts.find((host) => !host.includes('*'));
  const [wildcard = ''] = hosts;
  return exact ?? (wildcard === '*' ? 'site-persistence.invalid' : wildcard.replace('*', 'site-persistence'));
}
