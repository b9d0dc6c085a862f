import type { HttpFilter } from './connection-managers.ts';
import { EXT_PROC_PER_ROUTE, FILTER_CONFIG, LUA_PER_ROUTE, STATEFUL_SESSION_PER_ROUTE } from './extension-types.ts';
import { at, isTrueAt, typeOf } from './json.ts';

/** What has a `typed_per_filter_config`: a route, its virtual host, their route config; the first that says something wins. */
export type Levels = readonly unknown[];

/** What the config says of a filter for requests of a route; undefined where it says nothing. */
export function settingsOf(filter: HttpFilter, levels: Levels): unknown {
  return levels
    .map((level) => at(level, 'typed_per_filter_config', filter.name))
    .find((settings) => settings !== undefined);
}

const SWITCHES_OFF = [EXT_PROC_PER_ROUTE, STATEFUL_SESSION_PER_ROUTE, LUA_PER_ROUTE, FILTER_CONFIG];

/** Whether a filter does something for requests of a route. Any config for it there switches one on that is off for others. */
export function isOn(filter: HttpFilter, levels: Levels): boolean {
  const settings = settingsOf(filter, levels);
  if (settings === undefined) return !filter.isDisabled;
  return !(SWITCHES_OFF.includes(typeOf(settings) ?? '') && isTrueAt(settings, 'disabled'));
}
