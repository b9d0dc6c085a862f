import { isDeepStrictEqual } from 'node:util';
import type { ApplicationConfig, Config } from '../config/config.ts';
import { renderBootstrap } from './bootstrap.ts';
import { renderSecrets } from './tls.ts';

/** Where the operator brings their own Envoy config it has the same names, cookies and paths in it, but not this. */
const ANY_LISTENER = { kind: 'tcp', host: '0.0.0.0', port: 8080 } as const;

/** Whether two configs come to the same Envoy bootstrap, and the same files that it refers to. */
export function hasSameEnvoyConfig(a: Config, b: Config): boolean {
  if (!isDeepStrictEqual(namesOf(a), namesOf(b)) || !isDeepStrictEqual(serversOf(a), serversOf(b))) return false;
  if (!isDeepStrictEqual(a.envoy.overlay?.content, b.envoy.overlay?.content)) return false;
  // To render hundreds of applications holds up decisions: those that are the same come to the same.
  const changed = a.applications.map((of, index) => !isDeepStrictEqual(rendered(of), rendered(b.applications[index])));
  const kept = (index: number) => index < FEWEST || changed[index] === true;
  return isDeepStrictEqual(render(a, kept), render(b, kept));
}

/** More than one, or the only one might be taken for one of every host. */
const FEWEST = 2;

function namesOf({ applications }: Config) {
  return applications.map(({ name, hosts }) => ({ name, hosts }));
}

function serversOf({ applications }: Config) {
  return applications.flatMap(({ localPool, remotePools }) =>
    [localPool, ...remotePools].map(({ servers }) => servers),
  );
}

/** What Envoy's config may come of. */
function rendered(application: ApplicationConfig | undefined) {
  return application === undefined ? null : { ...application, drain: false };
}

/** With one server of each pool, where all are the same: to render ten thousand holds up decisions. */
function render(config: Config, kept: (index: number) => boolean): object {
  const bootstrap = renderBootstrap({
    ...config,
    applications: config.applications
      .filter((_, index) => kept(index))
      .map((application) => ({
        ...application,
        localPool: { ...application.localPool, servers: application.localPool.servers.slice(0, 1) },
        remotePools: application.remotePools.map((pool) => ({ ...pool, servers: pool.servers.slice(0, 1) })),
      })),
    // Both have the same overlay, and it may change what is left out here.
    envoy: { ...config.envoy, listen: config.envoy.listen ?? ANY_LISTENER, overlay: null },
  });
  return { bootstrap, secrets: renderSecrets(config) };
}
