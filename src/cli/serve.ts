import { once } from 'node:events';
import type { Logger } from 'pino';
import type { Address } from '../config/address.ts';
import { loadConfig } from '../config/load.ts';
import { createLogger } from '../logger.ts';
import { startSidecar } from '../sidecar.ts';
import type { CliContext } from './run.ts';
import { UsageError } from './usage-error.ts';

export interface ServeOptions {
  readonly configFile: string;
  /** Instead of the config's, so that several processes can share one file. */
  readonly listen: Address | undefined;
  readonly opsListen: Address | undefined;
}

/** Runs the sidecar until the context's signal. */
export async function serve(options: ServeOptions, context: CliContext): Promise<void> {
  const fromFile = await loadConfig(options.configFile);
  const config = {
    ...fromFile,
    listen: options.listen ?? fromFile.listen,
    opsListen: options.opsListen ?? fromFile.opsListen,
  };
  const logger = loggerFor(context);
  const sidecar = await startSidecar(config, logger);
  if (!context.signal.aborted) await once(context.signal, 'abort');
  logger.info('stopping: calls in flight are let end');
  await sidecar.close();
  logger.info('stopped');
}

function loggerFor(context: CliContext): Logger {
  try {
    return createLogger(context.env, context.stdout.isTTY === true);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
