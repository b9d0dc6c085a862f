import { formatAddress } from '../config/address.ts';
import { loadConfig } from '../config/load.ts';
import { describeAdmin } from '../health/admin-client.ts';
import type { CliContext } from './run.ts';

/** Checks a config file and says in a few lines what it means. @throws ConfigError with all that is wrong in it */
export async function check(configFile: string, context: CliContext): Promise<void> {
  const config = await loadConfig(configFile);
  const { localPool } = config;
  const lines = [
    `${configFile} is fine.`,
    `site ${config.site}: pool ${localPool.cluster}, cookie ${localPool.cookie.name}, up with ${localPool.minUp} or more servers`,
    ...config.remotePools.map(
      (pool) =>
        `other site ${pool.site}: pool ${pool.cluster}, cookie ${pool.cookie.name}, up with ${pool.minUp} or more servers`,
    ),
    `ext_proc on ${formatAddress(config.listen)}, Envoy's admin interface at ${describeAdmin(config.envoy.admin)}`,
    `a session whose owner is down: ${config.onOwnerDown}; with both cookies: ${config.bothCookies}`,
  ];
  context.stdout.write(`${lines.join('\n')}\n`);
}
