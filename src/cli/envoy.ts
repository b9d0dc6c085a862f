import { stringify } from 'yaml';
import { loadConfig } from '../config/load.ts';
import { renderBootstrap } from '../envoy-config/bootstrap.ts';
import type { CliContext } from './run.ts';

/** Prints the Envoy bootstrap of a site as YAML. @throws ConfigError with all that is wrong or missing */
export async function printEnvoyConfig(configFile: string, context: CliContext): Promise<void> {
  const config = await loadConfig(configFile, 'rendering');
  const heading =
    `# Envoy ${config.envoy.version} bootstrap of site ${config.site}, printed by "site-persistence envoy" from the site's\n` +
    `# config file. Change that file and print again instead of editing this one.\n`;
  context.stdout.write(heading + stringify(renderBootstrap(config), { lineWidth: 0, aliasDuplicateObjects: false }));
}
