import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';
import { renderBootstrap } from './bootstrap.ts';
import { renderSecrets } from './tls.ts';

/** Where the operator brings their own Envoy config it has the same names, cookies and paths in it, but not this. */
const ANY_LISTENER = { kind: 'tcp', host: '0.0.0.0', port: 8080 } as const;

/** Whether two configs come to the same Envoy bootstrap, and the same files that it refers to. */
export function hasSameEnvoyConfig(a: Config, b: Config): boolean {
  return isDeepStrictEqual(render(a), render(b));
}

function render(config: Config): object {
  const bootstrap = renderBootstrap({
    ...config,
    envoy: { ...config.envoy, listen: config.envoy.listen ?? ANY_LISTENER },
  });
  return { bootstrap, secrets: renderSecrets(config) };
}
