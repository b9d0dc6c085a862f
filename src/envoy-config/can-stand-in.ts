import type { Application } from '../config/config.ts';

/** Under `refuse` a session is served by its owner or by nobody, and no retry of Envoy's may do what the sidecar does not. */
export function canStandIn(application: Application): boolean {
  return application.onOwnerDown !== 'refuse';
}
