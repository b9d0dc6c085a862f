import type { RemotePoolConfig } from '../config/config.ts';

/** Envoy's cluster of the sidecars. */
export const SIDECAR_CLUSTER = 'site_persistence';

/** The aggregate cluster that is a remote pool as long as it is up, and the local pool otherwise. */
export function withFallback(pool: RemotePoolConfig): string {
  return `${pool.cluster}_or_local`;
}
