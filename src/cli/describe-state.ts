import { REASONS } from '../decision/decide.ts';
import type { SiteStateReport } from '../ops/state.ts';

type PoolReport = SiteStateReport['pools'][number];

/** Of a large pool not every server that is up is named; each that is down is. */
const MAX_UP_HOSTS_NAMED = 20;

const MAX_CHANGES_SHOWN = 10;

/** How a site stands, as lines: draining, health, its pools with their servers. */
export function describeSite(state: SiteStateReport): string[] {
  const until = state.draining_until === null ? 'until undrain' : `until ${state.draining_until}`;
  const width = Math.max(0, ...state.pools.map((pool) => nameOf(pool).length));
  return [
    `site ${state.site}: ${state.draining ? `draining since ${state.draining_since}, ${until}` : 'not draining'}`,
    describeHealth(state),
    ...(state.fast_path === 'unused' ? [] : [`fast path ${FAST_PATH[state.fast_path]}`]),
    ...state.pools.flatMap((pool) => [
      `  ${nameOf(pool).padEnd(width)}  ${describeUp(state, pool)}  ${describeServers(pool)}`,
      ...describeHosts(pool),
    ]),
  ].map(printable);
}

/** What it does, as lines: decisions a second, and what changed last. */
export function describeActivity(state: SiteStateReport): string[] {
  const made = REASONS.filter((reason) => state.decisions[reason].total > 0);
  const rates = made.map((reason) => `${reason} ${state.decisions[reason].per_second}`);
  const changes = state.changes.slice(0, MAX_CHANGES_SHOWN);
  return [
    `decisions a second: ${rates.length === 0 ? 'none yet' : rates.join(', ')}`,
    ...(state.duplicate_cookies === 0
      ? []
      : [`${state.duplicate_cookies} requests carried this site's cookie twice: such clients may not be sticky`]),
    ...(changes.length === 0 ? [] : ['last changes:']),
    ...changes.map(({ time, message }) => `  ${time}  ${message}`),
  ].map(printable);
}

export function describeHealth({ health_known: isKnown, health_age_ms: ageMs }: SiteStateReport): string {
  const age = ageMs === null ? 'never polled' : `polled ${(ageMs / 1000).toFixed(1)} s ago`;
  return `health ${isKnown ? 'known' : 'unknown: no opinion, Envoy decides'} (${age})`;
}

const FAST_PATH = {
  on: 'on: requests that need no decision stay in Envoy',
  off: 'off: every request asks the sidecar while the local pool is down or the site drains',
  refused: 'refused: Envoy does not let it be switched on, see the log',
} as const;

function nameOf(pool: PoolReport): string {
  return `${pool.cluster} (${pool.site})`;
}

function describeUp(state: SiteStateReport, pool: PoolReport): string {
  if (!state.health_known) return 'unknown';
  return pool.up ? 'up  ' : 'down';
}

function describeServers(pool: PoolReport): string {
  if (pool.known_to_envoy === null) return 'not seen yet';
  if (!pool.known_to_envoy) return 'Envoy has no cluster of this name';
  const needed = pool.min_up > 1 ? `, needs ${pool.min_up}` : '';
  const held = pool.held_up ? ', held back by hold_up' : '';
  return `${pool.servers_up} of ${pool.servers_total} servers up${needed}${held}`;
}

function describeHosts({ hosts }: PoolReport): string[] {
  const down = hosts.filter((host) => !host.up);
  const up = hosts.filter((host) => host.up);
  const unnamed = up.length - MAX_UP_HOSTS_NAMED;
  return [
    ...down.map((host) => `    ${host.address}: down, ${host.why}`),
    ...up.slice(0, MAX_UP_HOSTS_NAMED).map((host) => `    ${host.address}: up`),
    ...(unnamed > 0 ? [`    and ${unnamed} more that are up`] : []),
  ];
}

/** Names and reasons come from Envoy: none of them may speak to the terminal. */
function printable(line: string): string {
  return line.replace(/\p{Cc}/gu, '?');
}
