import type { Config } from '../../config/config.ts';
import { splitConfig } from '../../envoy-config/config-dir.ts';
import { type PrintedFile, printFile } from '../../envoy-config/print.ts';
import { CLUSTERS_FILE, statPrefixOf } from '../../envoy-config/watched-files.ts';
import { withAllToRender } from '../expected.ts';
import type { Facts } from '../facts.ts';
import { ok, type Said, steps, unchecked, wrong } from '../finding.ts';
import { bringInForce } from '../in-force.ts';
import { textAt } from '../json.ts';

/** Whether Envoy has what `envoy.config_dir` is to have in it; of servers the pools' own check says it. */
export function configDir({ config, snapshot }: Facts): Said {
  const directory = config.envoy.configDir;
  if (snapshot.bootstrap === undefined) return unchecked('the bootstrap cannot be read');
  if (directory === null) return ok('not used: what the config file changes of Envoy takes a restart of it');
  const path = textAt(snapshot.bootstrap, 'dynamic_resources', 'cds_config', 'path_config_source', 'path');
  if (path !== `${directory}/${CLUSTERS_FILE}`) {
    const fix = steps('print the bootstrap, and start Envoy with it:', 'site-persistence envoy > envoy.yaml');
    return wrong(`Envoy does not read ${directory} (envoy.config_dir): no edit of the config file reaches it`, fix);
  }
  if (snapshot.fileVersions.size === 0) return unchecked(`cannot tell which files of ${directory} Envoy has loaded`);
  const others = filesOf(config, directory).filter((file) => {
    return snapshot.fileVersions.get(statPrefixOf(file)) !== file.version;
  });
  if (others.length === 0) return ok(`Envoy has what the config file says, by ${directory}`);
  const names = others.map(({ name }) => name).join(', ');
  return wrong(`Envoy's ${names} differ from the config file`, bringInForce(config.envoy));
}

function filesOf(config: Config, directory: string): PrintedFile[] {
  const whole = withAllToRender(config);
  return splitConfig(whole, directory)
    .files.filter(({ kind }) => kind !== 'secret' && kind !== 'endpoints')
    .map((file) => printFile(file, whole));
}
