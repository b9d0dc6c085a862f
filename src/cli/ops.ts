import { setTimeout as sleep } from 'node:timers/promises';
import { type Address, formatAddress } from '../config/address.ts';
import { loadConfig } from '../config/load.ts';
import { HttpRequestError, httpRequest } from '../envoy-admin/http-request.ts';
import { checkReason, parseOrderMs } from '../envoy-runtime/orders.ts';
import { ownClient } from '../listener/own-client.ts';
import { type SiteStateReport, siteStateSchema } from '../ops/state.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import {
  describeActivity,
  describeApplication,
  describeDrained,
  describeHealth,
  describeSite,
} from './describe-state.ts';
import { UsageError } from './usage-error.ts';

/** Which sidecar a command speaks to. */
export interface OpsTarget {
  readonly configFile: string;
  /** Instead of the config's. */
  readonly opsListen: Address | undefined;
}

/** What asks a sidecar for its state waits and reads so much at most: pools of 1,000 servers, each with its address. */
export const STATE_LIMITS = { timeoutMs: 5_000, maxBytes: 16 * 1024 * 1024 } as const;
/** Little beside the start of the command itself. */
const READY_POLL_MS = 100;

/** What the sidecar of a config says of its site. @throws CommandFailed when none answers */
export async function readState(target: OpsTarget): Promise<SiteStateReport> {
  return await ask(target, 'GET', '/api/state');
}

/**
 * Prints how the site stands.
 * @param applications by name: those alone, each with its pools and changes
 */
export async function status(
  target: OpsTarget,
  applications: readonly string[],
  asJson: boolean,
  context: CliContext,
): Promise<void> {
  const state = await ask(target, 'GET', '/api/state');
  const named = applications.map((name) => {
    const found = state.applications.find((each) => each.name === name);
    if (found !== undefined) return found;
    const all = state.applications.map((each) => each.name).join(', ');
    throw new CommandFailed(`there is no application ${JSON.stringify(name)}; there are ${all}`);
  });
  const text = () =>
    named.length > 0
      ? named.flatMap((application) => describeApplication(state, application))
      : [...describeSite(state), ...describeActivity({ ...state, sessions: sessionsOfOnly(state) }, state.changes)];
  write(asJson ? [JSON.stringify(only(state, applications), null, 2)] : text(), context);
}

/** What the state says of these applications; of none named all of it. */
function only(state: SiteStateReport, names: readonly string[]): SiteStateReport {
  if (names.length === 0) return state;
  const isNamed = (name: string | null) => name !== null && names.includes(name);
  return {
    ...state,
    applications: state.applications.filter(({ name }) => isNamed(name)),
    pools: state.pools.filter(({ application }) => isNamed(application)),
    changes: state.changes.filter(({ application }) => isNamed(application)),
  };
}

/**
 * Says whether the sidecar decides and knows its pools' health.
 * @param waitMs how long to wait until it does
 * @throws CommandFailed when it does not
 */
export async function ready(target: OpsTarget, waitMs: number, context: CliContext): Promise<void> {
  const deadline = performance.now() + waitMs;
  const readyState = async (): Promise<SiteStateReport> => {
    const state = await ask(target, 'GET', '/api/state');
    if (state.not_ready !== null) throw new CommandFailed(`not ready: ${state.not_ready}`);
    return state;
  };
  for (;;) {
    try {
      return write([`ready: ${describeHealth(await readyState())}`], context);
    } catch (error) {
      const isOver = performance.now() >= deadline || context.signal.aborted;
      if (isOver || !(error instanceof CommandFailed)) throw error;
    }
    await sleep(READY_POLL_MS);
  }
}

export interface DrainFlags {
  /** Such as `30m`; undefined: until {@link undrain}. */
  readonly for: string | undefined;
  readonly reason: string | undefined;
  /** The sessions that live here move as well. */
  readonly evict: boolean;
  /** Even where no other site is up. */
  readonly force: boolean;
}

/**
 * Begins a drain.
 * @param applications by name; none means all
 * @throws CommandFailed when no other site is up
 */
export async function drain(
  target: OpsTarget,
  applications: readonly string[],
  flags: DrainFlags,
  context: CliContext,
): Promise<void> {
  const given = [
    ...flagOf('for', flags.for, parseOrderMs),
    ...flagOf('reason', flags.reason, checkReason),
    ...(flags.evict ? [['evict', '']] : []),
    ...(flags.force ? [['force', '']] : []),
  ];
  write(describeDrained(await ask(target, 'POST', `/drain${query(applications, given)}`)), context);
}

/** @throws UsageError where the value does not parse */
function flagOf(flag: string, value: string | undefined, parse: (text: string) => unknown): string[][] {
  if (value === undefined) return [];
  try {
    parse(value);
  } catch (error) {
    throw new UsageError(
      `--${flag} ${JSON.stringify(value)}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  return [[flag, value]];
}

/** Ends a drain. @param applications by name; none means all */
export async function undrain(target: OpsTarget, applications: readonly string[], context: CliContext): Promise<void> {
  const state = await ask(target, 'POST', `/undrain${query(applications, [])}`);
  const kept = state.applications.filter(
    ({ name, draining_by_config }) => draining_by_config && (applications.length === 0 || applications.includes(name)),
  );
  write(describeDrained(state), context);
  if (kept.length === 0) return;
  const names = kept.map(({ name }) => name).join(', ');
  throw new CommandFailed(`still draining: ${names}, for the config file says drain: true; take it out and reload`);
}

export interface HoldFlags extends Omit<DrainFlags, 'evict'> {
  readonly reason: string;
}

/** Which site is meant, for which applications; none means all that have it. */
export interface HeldSite {
  readonly site: string;
  readonly applications: readonly string[];
}

/**
 * Has this site take another for down.
 * @throws CommandFailed when its clients would have nowhere to go
 */
export async function hold(
  target: OpsTarget,
  { site, applications }: HeldSite,
  flags: HoldFlags,
  context: CliContext,
): Promise<void> {
  const given = [
    ['site', site],
    ...flagOf('for', flags.for, parseOrderMs),
    ...flagOf('reason', flags.reason, checkReason),
    ...(flags.force ? [['force', '']] : []),
  ];
  if (flags.reason.trim() === '') throw new UsageError('--reason: say why the site is held');
  write(describeSite(await ask(target, 'POST', `/hold${query(applications, given)}`)), context);
}

/** Ends a hold. */
export async function release(target: OpsTarget, { site, applications }: HeldSite, context: CliContext): Promise<void> {
  const before = await readState(target);
  const state = await ask(target, 'POST', `/release${query(applications, [['site', site]])}`);
  const wasHeld = before.pools.some(
    (pool) =>
      pool.site === site &&
      pool.held !== null &&
      (applications.length === 0 || applications.includes(pool.application)),
  );
  write([...(wasHeld ? [] : [`${site} was not held`]), ...describeSite(state)], context);
}

function query(applications: readonly string[], more: readonly (readonly string[])[]): string {
  const pairs = [...applications.map((name) => ['application', name]), ...more];
  const text = pairs.map(([key = '', value = '']) => `${key}=${encodeURIComponent(value)}`).join('&');
  return text === '' ? '' : `?${text}`;
}

async function ask(target: OpsTarget, method: 'GET' | 'POST', path: string): Promise<SiteStateReport> {
  const { address, tls } = await opsListenerOf(target);
  const where = formatAddress(address);
  try {
    const { status: httpStatus, body } = await httpRequest(address, {
      ...{ method, path, ...STATE_LIMITS },
      ...tls,
    });
    if (httpStatus === 409) {
      throw new CommandFailed(`refused: ${body.split('\n', 1)[0]}; --force does it all the same`);
    }
    if (httpStatus === 400 || httpStatus === 403) {
      throw new CommandFailed(`the sidecar at ${where} refused: ${body.split('\n', 1)[0]}`);
    }
    if (httpStatus !== 200) {
      throw new CommandFailed(`${where} (ops_listen) is not a sidecar: it answered HTTP ${httpStatus}`);
    }
    return siteStateSchema.parse(JSON.parse(body));
  } catch (error) {
    if (error instanceof CommandFailed) throw error;
    if (error instanceof HttpRequestError) {
      throw new CommandFailed(`no sidecar answers at ${where} (ops_listen): ${error.message}; is "serve" running?`, {
        cause: error,
      });
    }
    throw new CommandFailed(`${where} (ops_listen) is not a sidecar`, { cause: error });
  }
}

/** Where to ask a sidecar, and as which client. */
export async function opsListenerOf({ configFile, opsListen }: OpsTarget) {
  // Without TLS whatever the config says, which may not be there.
  if (opsListen?.kind === 'unix') return { address: opsListen, tls: {} };
  const config = await loadConfig(configFile);
  const address = reachable(opsListen ?? config.opsListen);
  return { address, tls: config.opsListenTls === null ? {} : { tls: await ownClient(config.opsListenTls) } };
}

/** A listener on every address is reached by loopback. */
function reachable(address: Address): Address {
  if (address.kind === 'unix') return address;
  if (address.host === '0.0.0.0') return { ...address, host: '127.0.0.1' };
  if (address.host === '::') return { ...address, host: '::1' };
  return address;
}

function write(lines: readonly string[], context: CliContext): void {
  context.stdout.write(`${lines.join('\n')}\n`);
}

/** Undefined where there are several applications, each with its own. */
function sessionsOfOnly({ applications: [only, ...others] }: SiteStateReport) {
  return others.length === 0 ? only?.sessions : undefined;
}
