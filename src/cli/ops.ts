import { type Address, formatAddress } from '../config/address.ts';
import { loadConfig } from '../config/load.ts';
import { HttpRequestError, httpRequest } from '../http-request.ts';
import { parseDrainMs } from '../ops/drain.ts';
import { type SiteStateReport, siteStateSchema } from '../ops/state.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './run.ts';
import { UsageError } from './usage-error.ts';

/** Which sidecar a command speaks to. */
export interface OpsTarget {
  readonly configFile: string;
  /** Instead of the config's. */
  readonly opsListen: Address | undefined;
}

const TIMEOUT_MS = 5_000;

/** Prints how the site stands. */
export async function status(target: OpsTarget, asJson: boolean, context: CliContext): Promise<void> {
  const state = await ask(target, 'GET', '/api/state');
  context.stdout.write(asJson ? `${JSON.stringify(state, null, 2)}\n` : describeState(state));
}

/** Says whether the sidecar decides and knows its pools' health. @throws CommandFailed when it does not */
export async function ready(target: OpsTarget, context: CliContext): Promise<void> {
  const state = await ask(target, 'GET', '/api/state');
  if (!state.health_known) throw new CommandFailed(`not ready: ${describeHealth(state)}`);
  context.stdout.write(`ready: ${describeHealth(state)}\n`);
}

/** Begins a drain. @param duration such as `30m`; undefined: until {@link undrain} */
export async function drain(target: OpsTarget, duration: string | undefined, context: CliContext): Promise<void> {
  let query = '';
  if (duration !== undefined) {
    try {
      parseDrainMs(duration);
    } catch (error) {
      throw new UsageError(
        `--for ${JSON.stringify(duration)}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
    query = `?for=${encodeURIComponent(duration)}`;
  }
  context.stdout.write(describeState(await ask(target, 'POST', `/drain${query}`)));
}

/** Ends a drain. */
export async function undrain(target: OpsTarget, context: CliContext): Promise<void> {
  context.stdout.write(describeState(await ask(target, 'POST', '/undrain')));
}

async function ask(target: OpsTarget, method: 'GET' | 'POST', path: string): Promise<SiteStateReport> {
  const address = reachable(target.opsListen ?? (await loadConfig(target.configFile)).opsListen);
  const where = formatAddress(address);
  try {
    const { status: httpStatus, body } = await httpRequest(address, { method, path, timeoutMs: TIMEOUT_MS });
    if (httpStatus === 400 || httpStatus === 403) {
      throw new CommandFailed(`the sidecar at ${where} refused: ${body.split('\n', 1)[0]}`);
    }
    if (httpStatus !== 200) {
      throw new CommandFailed(`what answers at ${where} (ops_listen) is no sidecar: it says ${httpStatus}`);
    }
    return siteStateSchema.parse(JSON.parse(body));
  } catch (error) {
    if (error instanceof CommandFailed) throw error;
    if (error instanceof HttpRequestError) {
      throw new CommandFailed(`no sidecar answers at ${where} (ops_listen): ${error.message}; is "serve" running?`, {
        cause: error,
      });
    }
    throw new CommandFailed(`what answers at ${where} (ops_listen) is no sidecar`, { cause: error });
  }
}

/** A listener on every address is reached by loopback. */
function reachable(address: Address): Address {
  if (address.kind === 'unix') return address;
  if (address.host === '0.0.0.0') return { ...address, host: '127.0.0.1' };
  if (address.host === '::') return { ...address, host: '::1' };
  return address;
}

function describeState(state: SiteStateReport): string {
  const until = state.draining_until === null ? 'until undrain' : `until ${state.draining_until}`;
  const width = Math.max(0, ...state.pools.map((pool) => `${pool.cluster} (${pool.site})`.length));
  return [
    `site ${state.site}: ${state.draining ? `draining since ${state.draining_since}, ${until}` : 'not draining'}`,
    describeHealth(state),
    ...(state.fast_path === 'unused' ? [] : [`fast path ${FAST_PATH[state.fast_path]}`]),
    ...state.pools.flatMap((pool) => [
      `  ${`${pool.cluster} (${pool.site})`.padEnd(width)}  ${describeUp(state, pool)}  ${describeServers(pool)}`,
      ...pool.hosts.filter((host) => !host.up).map((host) => `    ${host.address}: ${host.why}`),
    ]),
    '',
  ].join('\n');
}

const FAST_PATH = {
  on: 'on: requests that need no decision stay in Envoy',
  off: 'off: every request asks the sidecar while the local pool is down or the site drains',
  refused: 'refused: Envoy does not let it be switched on, see the log',
} as const;

function describeHealth({ health_known: isKnown, health_age_ms: ageMs }: SiteStateReport): string {
  const age = ageMs === null ? 'never polled' : `polled ${(ageMs / 1000).toFixed(1)} s ago`;
  return `health ${isKnown ? 'known' : 'unknown: no opinion, Envoy decides'} (${age})`;
}

function describeUp(state: SiteStateReport, pool: SiteStateReport['pools'][number]): string {
  if (!state.health_known) return 'unknown';
  return pool.up ? 'up  ' : 'down';
}

function describeServers(pool: SiteStateReport['pools'][number]): string {
  if (!pool.known_to_envoy) return 'Envoy has no cluster of this name';
  const needed = pool.min_up > 1 ? `, needs ${pool.min_up}` : '';
  const held = pool.held_up ? ', held back by hold_up' : '';
  return `${pool.servers_up} of ${pool.servers_total} servers up${needed}${held}`;
}
