import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';
import { renderBootstrap } from './bootstrap.ts';
import { renderSecrets } from './tls.ts';

/** Where the operator brings their own Envoy config it has the same names, cookies and paths in it, but not this. */
const ANY_LISTENER = { kind: 'tcp', host: '0.0.0.0', port: 8080 } as const;

/** Whether two configs come to the same Envoy bootstrap, and the same files that it refers to. */
export function hasSameEnvoyConfig(a: Config, b: Config): boolean {
  return isDeepStrictEqual(serversOf(a), serversOf(b)) && isDeepStrictEqual(render(a), render(b));
}

function serversOf({ localPool, remotePools }: Config) {
  return [localPool, ...remotePools].map(({ servers }) => servers);
}

/** With one server of each pool, where all are the same: to render ten thousand holds up decisions. */
function render(config: Config): object {
  const bootstrap = renderBootstrap({
    ...config,
    localPool: { ...config.localPool, servers: config.localPool.servers.slice(0, 1) },
    remotePools: config.remotePools.map((pool) => ({ ...pool, servers: pool.servers.slice(0, 1) })),
    envoy: { ...config.envoy, listen: config.envoy.listen ?? ANY_LISTENER },
  });
  return { bootstrap, secrets: renderSecrets(config) };
}
