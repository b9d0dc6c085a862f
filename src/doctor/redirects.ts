import type { RemotePoolConfig } from '../config/config.ts';
import { redirectOrProxy } from '../envoy-config/names.ts';
import { at, numberAt, textAt } from './json.ts';

// Routes that send clients to another site's own address (`remote_pools[].redirect`).

/** Whether a route redirects, by Envoy's own action, whomever to. */
export function isRedirect(route: unknown): boolean {
  return at(route, 'redirect') !== undefined;
}

/** Whether a route is as `envoy` renders it: a redirect while Envoy sees the site up. */
export function isGuardedRedirect(route: unknown, pool: RemotePoolConfig): boolean {
  return pool.redirect !== null && textAt(route, 'route', 'cluster') === redirectOrProxy(pool);
}

/** Whether a route sends clients to that site's own address, in either way. */
export function redirectsTo(route: unknown, pool: RemotePoolConfig): boolean {
  if (pool.redirect === null) return false;
  if (isGuardedRedirect(route, pool)) return true;
  const { protocol, hostname, port } = new URL(pool.redirect);
  const usual = protocol === 'https:' ? 443 : 80;
  const to = at(route, 'redirect');
  const toPort = numberAt(to, 'port_redirect') ?? 0;
  return textAt(to, 'host_redirect')?.toLowerCase() === hostname && (toPort || usual) === Number(port || usual);
}
