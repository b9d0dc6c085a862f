import type { Application } from '../config/config.ts';
import { type JsonObject, typed } from './json.ts';

const FILTERS = { ext_proc: 'envoy.filters.http.ext_proc', health_check: 'envoy.filters.http.health_check' } as const;

/**
 * Takes filters out of a route: not even made for such a request. ExtProcPerRoute.disabled makes the filter, and copies its
 * config for the route.
 */
export function without(application: Application, filters: readonly (keyof typeof FILTERS)[]): JsonObject {
  // Of several applications the health_check filter is behind the stand-in listener.
  const there = filters.filter((filter) => filter !== 'health_check' || application.isForEveryHost);
  return Object.fromEntries(
    there.map((filter) => [FILTERS[filter], typed('envoy.config.route.v3.FilterConfig', { disabled: true })]),
  );
}
