import { loadConfig } from '../config/load.ts';
import { printBootstrap } from '../envoy-config/print.ts';
import type { CliContext } from './run.ts';

/** Prints the Envoy bootstrap of a site as YAML. @throws ConfigError with all that is wrong or missing */
export async function printEnvoyConfig(configFile: string, context: CliContext): Promise<void> {
  const config = await loadConfig(configFile, 'rendering');
  context.stdout.write(printBootstrap(config));
}
