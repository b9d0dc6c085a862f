import { loadConfig } from '../config/load.ts';
import { printBootstrap } from '../envoy-config/print.ts';
import type { CliContext } from './run.ts';

/** Prints the Envoy bootstrap of a site as YAML. @throws ConfigError with all that is wrong or missing */
export async function printEnvoyConfig(configFile: string, context: CliContext): Promise<void> {
  const config = await loadConfig(configFile, 'rendering');
  if (config.envoy.fastPath) {
    context.stderr.write('envoy.fast_path is not in this version: every request asks the sidecar\n');
  }
  context.stdout.write(printBootstrap(config));
}
