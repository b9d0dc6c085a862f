import { once } from 'node:events';
import type { Logger } from 'pino';
import { type Address, formatAddress } from '../config/address.ts';
import type { Config } from '../config/config.ts';
import { listenersOf, whyUnsafe } from '../config/listener-safety.ts';
import { loadConfig } from '../config/load.ts';
import { loadConfigInWorker } from '../config/load-in-worker.ts';
import { createLogger } from '../log/logger.ts';
import { type Sidecar, startSidecar } from '../runtime/sidecar.ts';
import type { CliContext } from './context.ts';
import { UsageError } from './usage-error.ts';
import { watchConfig } from './watch-config.ts';

export interface ServeOptions {
  readonly configFile: string;
  /** Instead of the config's, so that several processes can share one file. */
  readonly listen: Address | undefined;
  readonly opsListen: Address | undefined;
  readonly metricsListen: Address | undefined;
  /** Reload the config when its file or its overlay changes, as at SIGHUP. */
  readonly watch: boolean;
}

/** Runs the sidecar until the context's signal. */
export async function serve(options: ServeOptions, context: CliContext): Promise<void> {
  const logger = await loggerFor(context);
  const { signal } = context;
  let sidecar: Sidecar | null = null;
  let isReloadDue = false;
  const reload = () => {
    if (sidecar === null) isReloadDue = true;
    else void sidecar.reload();
  };
  context.hangups.addEventListener('hangup', reload);
  const watching = options.watch ? await watchConfig(options.configFile, reload, logger) : null;
  async function read(load: (file: string) => Promise<Config>): Promise<Config> {
    const config = await readConfig(options, load);
    await watching?.follow(config);
    return config;
  }
  try {
    // A reload reads in a thread of its own, for decisions go on meanwhile.
    const readAgain = () => read((file) => loadConfigInWorker(file, { signal }));
    sidecar = await startSidecar(await read(loadConfig), logger, readAgain);
    if (isReloadDue) reload();
    if (!signal.aborted) await once(signal, 'abort');
    logger.info('stopping: in-flight calls get up to 3.5 s to finish');
    watching?.close();
    await sidecar.close();
    logger.info('stopped');
  } finally {
    watching?.close();
  }
}

async function readConfig(
  { configFile, listen, opsListen, metricsListen }: ServeOptions,
  load: (file: string) => Promise<Config>,
): Promise<Config> {
  const file = await load(configFile);
  const config = {
    ...file,
    listen: listen ?? file.listen,
    opsListen: opsListen ?? file.opsListen,
    metricsListen: metricsListen ?? file.metricsListen,
  };
  // Of those from the file it is known.
  for (const listener of listenersOf(config)) {
    const why = whyUnsafe(listener, config.insecure);
    const flag = `--${listener.key.replaceAll('_', '-')}`;
    if (why !== null) throw new UsageError(`${flag}: ${JSON.stringify(formatAddress(listener.address))} ${why}`);
  }
  return config;
}

async function loggerFor(context: CliContext): Promise<Logger> {
  try {
    return await createLogger(context.env, context.stdout.isTTY === true);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
