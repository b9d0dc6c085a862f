import { type Address, formatAddress } from '../config/address.ts';
import { loadConfig } from '../config/load.ts';
import { HttpRequestError, httpRequest } from '../envoy-admin/http-request.ts';
import { ownClient } from '../listener/own-client.ts';
import { parseDrainMs } from '../ops/drain.ts';
import { type SiteStateReport, siteStateSchema } from '../ops/state.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import { describeActivity, describeHealth, describeSite } from './describe-state.ts';
import { UsageError } from './usage-error.ts';

/** Which sidecar a command speaks to. */
export interface OpsTarget {
  readonly configFile: string;
  /** Instead of the config's. */
  readonly opsListen: Address | undefined;
}

const TIMEOUT_MS = 5_000;
/** Pools of 1,000 servers, each with its address. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/** What the sidecar of a config says of its site. @throws CommandFailed when none answers */
export async function readState(configFile: string): Promise<SiteStateReport> {
  return await ask({ configFile, opsListen: undefined }, 'GET', '/api/state');
}

/** Prints how the site stands. */
export async function status(target: OpsTarget, asJson: boolean, context: CliContext): Promise<void> {
  const state = await ask(target, 'GET', '/api/state');
  const lines = asJson ? [JSON.stringify(state, null, 2)] : [...describeSite(state), ...describeActivity(state)];
  write(lines, context);
}

/** Says whether the sidecar decides and knows its pools' health. @throws CommandFailed when it does not */
export async function ready(target: OpsTarget, context: CliContext): Promise<void> {
  const state = await ask(target, 'GET', '/api/state');
  if (state.not_ready !== null) throw new CommandFailed(`not ready: ${state.not_ready}`);
  write([`ready: ${describeHealth(state)}`], context);
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
  write(describeSite(await ask(target, 'POST', `/drain${query}`)), context);
}

/** Ends a drain. */
export async function undrain(target: OpsTarget, context: CliContext): Promise<void> {
  write(describeSite(await ask(target, 'POST', '/undrain')), context);
}

async function ask(target: OpsTarget, method: 'GET' | 'POST', path: string): Promise<SiteStateReport> {
  const { address, tls } = await opsListenerOf(target);
  const where = formatAddress(address);
  try {
    const { status: httpStatus, body } = await httpRequest(address, {
      ...{ method, path, timeoutMs: TIMEOUT_MS, maxBytes: MAX_ANSWER_BYTES },
      ...tls,
    });
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

async function opsListenerOf({ configFile, opsListen }: OpsTarget) {
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
