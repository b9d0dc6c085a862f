import { existsSync } from 'node:fs';
import { resolve } from 'node:path';

/** Where an installed sidecar has its config file. */
export const SYSTEM_CONFIG_FILE = '/etc/site-persistence/site.yaml';

/**
 * The config file of a command that names none: `site.yaml` where the command is run, or the system's.
 * @param directory where the command is run
 */
export function defaultConfigFile(directory = '.'): string {
  // The first one, where neither is there: it is the one to be written.
  return !existsSync(resolve(directory, 'site.yaml')) && existsSync(SYSTEM_CONFIG_FILE)
    ? SYSTEM_CONFIG_FILE
    : 'site.yaml';
}
