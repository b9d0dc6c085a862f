import { type Application, applicationsOf, type Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/load.ts';

/** The first application of a config, and the only one where the file names none. */
export function onlyApplication(config: Config | string): Application {
  const [first] = applicationsOf(typeof config === 'string' ? parseConfig(config, 'site.yaml') : config);
  if (first === undefined) throw new Error('a config has one application at least');
  return first;
}
