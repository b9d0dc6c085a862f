import { REASONS } from '../decision/decide.ts';
import type { SiteStateReport } from '../ops/state.ts';

type ApplicationReport = SiteStateReport['applications'][number];
type PoolReport = SiteStateReport['pools'][number];
type DrainReport = Pick<
  SiteStateReport,
  'draining' | 'draining_since' | 'draining_until' | 'draining_reason' | 'evicting'
>;

/** Of a large pool not every server that is up is named; each that is down is. */
const MAX_UP_HOSTS_NAMED = 20;

const MAX_CHANGES_SHOWN = 10;

/** Of many applications those that are well are not listed. */
const MAX_WELL_LISTED = 20;

/** How a site stands, as lines: what its clients get, draining, health, and of an only application its pools with their servers. */
export function describeSite(state: SiteStateReport): string[] {
  return [...describeVerdicts(state), describeDrainOfSite(state), ...describeRest(state)].map(printable);
}

/** The same with whether it drains first, for who has just ordered that. */
export function describeDrained(state: SiteStateReport): string[] {
  return [describeDrainOfSite(state), ...describeVerdicts(state), ...describeRest(state)].map(printable);
}

function describeVerdicts(state: SiteStateReport): string[] {
  return [state.verdict, ...(state.applications.length === 1 ? [] : describeApplications(state))];
}

function describeRest(state: SiteStateReport): string[] {
  const [only, ...others] = state.applications;
  return [
    describeHealth(state),
    ...(state.fast_path === 'unused' ? [] : [`fast path ${FAST_PATH[state.fast_path]}`]),
    ...(only !== undefined && others.length === 0
      ? [...describeOwnRequests(only), ...describePools(state, only.name)]
      : []),
  ];
}

/** One application of a site, as lines: its verdict, its pools, what it decides and what changed last. */
export function describeApplication(state: SiteStateReport, application: ApplicationReport): string[] {
  const { name, hosts, verdict, fast_path } = application;
  return [
    `${name} (${hosts.join(' ')}): ${verdict}`,
    ...(application.draining ? [`  ${describeDrain(application)}`] : []),
    ...describeOwnRequests(application).map((line) => `  ${line}`),
    ...(fast_path === 'unused' ? [] : [`  fast path ${FAST_PATH[fast_path]}`]),
    ...describePools(state, name),
    ...describeActivity(
      application,
      state.changes.filter((change) => change.application === name),
    ).map((line) => `  ${line}`),
  ].map(printable);
}

/** What is done, as lines: decisions a second, and what changed last. */
export function describeActivity(
  {
    decisions,
    duplicate_cookies,
    sessions,
  }: Pick<SiteStateReport, 'decisions' | 'duplicate_cookies'> & {
    /** Of one application. */
    readonly sessions?: ApplicationReport['sessions'] | undefined;
  },
  changes: SiteStateReport['changes'],
): string[] {
  const made = REASONS.filter((reason) => decisions[reason].total > 0);
  const rates = made.map((reason) => `${reason} ${decisions[reason].per_second}`);
  const shown = changes.slice(0, MAX_CHANGES_SHOWN);
  return [
    `decisions a second: ${rates.length === 0 ? 'none yet' : rates.join(', ')}`,
    ...(sessions === undefined ? [] : [describeSessions(sessions)]),
    ...(duplicate_cookies === 0
      ? []
      : [`${duplicate_cookies} requests carried this site's cookie twice: such clients may not be sticky`]),
    ...(shown.length === 0 ? [] : ['last changes:']),
    ...shown.map(({ time, message }) => `  ${time}  ${message}`),
  ].map(printable);
}

/** Those that are not well come first. */
function describeApplications({ applications }: SiteStateReport): string[] {
  const well = applications.filter(({ verdict_level }) => verdict_level === 'ok');
  const others = applications.filter(({ verdict_level }) => verdict_level !== 'ok');
  const isTooMany = applications.length > MAX_WELL_LISTED;
  const listed = [...others, ...(isTooMany ? [] : well)];
  const width = Math.max(0, ...listed.map(({ name }) => name.length));
  return [
    ...listed.map(
      ({ name, verdict, verdict_level }) => `  ${LEVELS[verdict_level]}  ${name.padEnd(width)}  ${verdict}`,
    ),
    ...(isTooMany && well.length > 0 ? [`  ok    ${well.length} ${others.length > 0 ? 'others' : 'of them'}`] : []),
    '"status NAME" shows one of them',
  ];
}

const LEVELS = { ok: 'ok  ', warn: 'warn', down: 'DOWN' } as const;

function describeDrainOfSite(state: SiteStateReport): string {
  const some = state.applications.filter((application) => application.draining).length;
  const isSame = state.draining || some === 0;
  return `site ${state.site}: ${isSame ? describeDrain(state) : `${some} of ${state.applications.length} applications draining`}`;
}

function describeDrain({ draining, draining_since, draining_until, draining_reason, evicting }: DrainReport): string {
  if (!draining) return 'not draining';
  const what = evicting ? 'draining and evicting its sessions' : 'draining';
  if (draining_since === null) return what;
  const until = draining_until === null ? 'until undrain' : `until ${draining_until}`;
  return `${what} since ${draining_since}, ${until}${draining_reason === null ? '' : ` (${draining_reason})`}`;
}

function describeHold(site: string, { since, until, reason }: NonNullable<PoolReport['held']>): string {
  return `${site} held since ${since}, ${until === null ? 'until release' : `until ${until}`} (${reason})`;
}

/** What a drain waits for. */
function describeOwnRequests({ draining, drained, own_requests_last_minute: count }: ApplicationReport): string[] {
  if (!draining) return [];
  if (drained) return ['drained: nobody comes any more'];
  return [`${count} ${count === 1 ? 'request' : 'requests'} of its own sessions in the last minute`];
}

/** Whether sessions are being lost: rates of the usual, and what is not usual since the start. */
function describeSessions(sessions: ApplicationReport['sessions']): string {
  const { known, new: ofNobody, server_gone: gone, moved, adopted, forwarded, both_cookies: both } = sessions;
  const now = `${known.per_second} known/s, ${ofNobody.per_second} new/s, ${forwarded.per_second} forwarded/s`;
  const lost = `server gone ${gone === null ? 'unknown' : gone.total}, moved ${moved.total}`;
  return `sessions: ${now}; since the start ${lost}, adopted ${adopted.total}, both cookies ${both.total}`;
}

function describePools(state: SiteStateReport, application: string): string[] {
  const pools = state.pools.filter((pool) => pool.application === application);
  const width = Math.max(0, ...pools.map((pool) => nameOf(pool).length));
  return pools.flatMap((pool) => [
    `  ${nameOf(pool).padEnd(width)}  ${describeUp(state, pool)}  ${describeServers(pool)}`,
    ...(pool.held === null ? [] : [`    ${describeHold(pool.site, pool.held)}`]),
    ...describeHosts(pool),
  ]);
}

export function describeHealth({ health_known: isKnown, health_age_ms: ageMs }: SiteStateReport): string {
  const age = ageMs === null ? 'never polled' : `polled ${(ageMs / 1000).toFixed(1)} s ago`;
  return `health ${isKnown ? 'known' : 'unknown: no opinion, Envoy decides'} (${age})`;
}

const FAST_PATH = {
  on: 'on: requests that need no decision stay in Envoy',
  off: 'off: requests for this site ask the sidecar while its local pool is down or moves its sessions away',
  refused: 'refused: Envoy does not let it be switched on, see the log',
} as const;

function nameOf(pool: PoolReport): string {
  return `${pool.cluster} (${pool.site})`;
}

function describeUp(state: SiteStateReport, pool: PoolReport): string {
  if (pool.held !== null) return 'held';
  if (!state.health_known) return 'unknown';
  return pool.up ? 'up  ' : 'down';
}

function describeServers(pool: PoolReport): string {
  if (pool.known_to_envoy === null) return 'not seen yet';
  if (!pool.known_to_envoy) return 'Envoy has no cluster of this name';
  const needed = pool.min_up > 1 ? `, needs ${pool.min_up}` : '';
  const held = pool.held_up ? `, held back by hold_up, ${Math.ceil((pool.hold_up_left_ms ?? 0) / 1_000)} s left` : '';
  const draining = pool.servers_draining > 0 ? `, ${pool.servers_draining} draining` : '';
  return `${pool.servers_up} of ${pool.servers_total} servers up${draining}${needed}${held}`;
}

function describeHosts({ hosts }: PoolReport): string[] {
  const down = hosts.filter((host) => !host.up);
  const up = hosts.filter((host) => host.up);
  const unnamed = up.length - MAX_UP_HOSTS_NAMED;
  return [
    ...down.map((host) => `    ${host.address}: ${host.draining ? '' : 'down, '}${host.why}`),
    ...up.slice(0, MAX_UP_HOSTS_NAMED).map((host) => `    ${host.address}: up`),
    ...(unnamed > 0 ? [`    and ${unnamed} more that are up`] : []),
  ];
}

/** Names and reasons come from Envoy: none of them may speak to the terminal. */
function printable(line: string): string {
  return line.replace(/\p{Cc}/gu, '?');
}
