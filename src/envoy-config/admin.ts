import type { Config } from '../config/config.ts';
import { renderAddress } from './cluster-parts.ts';
import type { JsonObject } from './json.ts';
import { OUTSIDE_CONNECTION_LIMIT } from './overload.ts';
import { hasAdminAllowPaths } from './versions.ts';

/** What may be asked of the admin interface. The rest, such as to end Envoy or to drain its listeners, is nobody's business here. */
const READ_PATHS = [
  // The health of the pools.
  ...['stats', 'clusters'],
  // What the sidecars share.
  'runtime',
  // What only `doctor` looks at, besides all of the above.
  ...['server_info', 'config_dump', 'listeners'],
  // Prometheus, for the alert rules in docs/, and scripts that wait until Envoy has started.
  ...['stats/prometheus', 'ready'],
];

/** Where the sidecars write what they share. It sets any runtime key. */
const WRITE_PATH = 'runtime_modify';

/** Envoy's admin interface, which has no authentication of its own. */
export function renderAdmin({ envoy }: Config): JsonObject {
  const { admin } = envoy;
  return {
    // A socket is for the owner and the group only: each process that can write to it can ask all that is allowed.
    address: admin.kind === 'unix' ? { pipe: { path: admin.path, mode: 0o660 } } : renderAddress(admin),
    ...OUTSIDE_CONNECTION_LIMIT,
    ...(hasAdminAllowPaths(envoy.version) ? { allow_paths: allowPaths() } : {}),
  };
}

/** Envoy matches path and query together, and a prefix of `/runtime` would let `/runtime_modify` through. */
function allowPaths(): JsonObject[] {
  return [{ safe_regex: { regex: `/(${[...READ_PATHS, WRITE_PATH].join('|')})(\\?.*)?` } }];
}
