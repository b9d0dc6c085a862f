import { formatAddress } from '../config/address.ts';
import { loadConfig } from '../config/load.ts';
import { HttpRequestError, httpRequest } from '../envoy-admin/http-request.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import { type OpsTarget, opsListenerOf } from './ops.ts';
import { type RunningSidecar, runningSidecars } from './running-sidecars.ts';

/** Longer than it takes to read a file and for Envoy to take what changed. */
const TIMEOUT_MS = 120_000;
const MAX_ANSWER_BYTES = 1024 * 1024;

/**
 * Has the running sidecars of a config file read it again, or the one of an ops listener, and prints what each says.
 * @throws ConfigError when the file is bad: no sidecar is asked then; CommandFailed when one of them does not take it
 */
export async function reload(target: OpsTarget, { stdout }: CliContext): Promise<void> {
  await loadConfig(target.configFile);
  const found = target.opsListen === undefined ? await runningSidecars(target.configFile) : [];
  const sidecars = found.length > 0 ? found : [{ pid: null, opsListen: target.opsListen }];
  const failures: string[] = [];
  for (const sidecar of sidecars) {
    const { where, isAccepted, lines } = await reloadOne(target, sidecar);
    const text = lines.map((line) => `${where}: ${line}\n`).join('');
    if (isAccepted) stdout.write(text);
    else failures.push(text.trimEnd());
  }
  if (failures.length > 0) throw new CommandFailed(failures.join('\n'));
}

interface Reloaded {
  readonly where: string;
  readonly isAccepted: boolean;
  readonly lines: readonly string[];
}

async function reloadOne(
  { configFile }: OpsTarget,
  { pid, opsListen }: RunningSidecar | { pid: null; opsListen: OpsTarget['opsListen'] },
): Promise<Reloaded> {
  const { address, tls } = await opsListenerOf({ configFile, opsListen });
  const where = formatAddress(address);
  try {
    const request = { method: 'POST', path: '/reload', timeoutMs: TIMEOUT_MS, maxBytes: MAX_ANSWER_BYTES } as const;
    const { status, body } = await httpRequest(address, { ...request, ...tls });
    if (status !== 200 && status !== 422) {
      return { where, isAccepted: false, lines: [`ops_listen is not that of a sidecar: it answered HTTP ${status}`] };
    }
    return { where, isAccepted: status === 200, lines: body.trimEnd().split('\n') };
  } catch (error) {
    if (!(error instanceof HttpRequestError)) throw error;
    if (pid !== null) return hangUp(pid, error);
    const line = `no sidecar answers there (ops_listen): ${error.message}; is "serve" running?`;
    return { where, isAccepted: false, lines: [line] };
  }
}

/** Where its ops listener is not, or no longer, as the file says: it can only be told, and its log has the rest. */
function hangUp(pid: number, cause: Error): Reloaded {
  const where = `process ${pid}`;
  try {
    process.kill(pid, 'SIGHUP');
    const line = `its ops listener does not answer (${cause.message}): sent SIGHUP; its log says what became of it`;
    return { where, isAccepted: true, lines: [line] };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { where, isAccepted: false, lines: [`${cause.message}, and it can't be sent SIGHUP: ${why}`] };
  }
}
