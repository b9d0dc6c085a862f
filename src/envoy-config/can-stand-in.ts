import type { Config } from '../config/config.ts';

/** Under `refuse` a session is served by its owner or by nobody, and no retry of Envoy's may do what the sidecar does not. */
export function canStandIn(config: Config): boolean {
  return config.onOwnerDown !== 'refuse';
}
