import type { TcpAddress } from '../config/address.ts';
import { type Application, applicationsOf, type Config, type CookieConfig, healthClusterOf } from '../config/config.ts';

/** A pool of the config, whichever side it is on. */
export interface Pool {
  readonly site: string;
  /** Where its requests go. */
  readonly cluster: string;
  /** Whose servers Envoy checks; as a rule the same. */
  readonly healthCluster: string;
  readonly cookie: CookieConfig;
  readonly minUp: number;
  readonly isLocal: boolean;
  /** Empty where the config file lists none. */
  readonly servers: readonly TcpAddress[];
}

/** The application's local pool, and then the others as the config names them. */
export function poolsOf({ site, localPool, remotePools }: Application): readonly Pool[] {
  return [
    { ...localPool, healthCluster: localPool.cluster, site, isLocal: true },
    ...remotePools.map((pool) => ({ ...pool, healthCluster: healthClusterOf(pool), isLocal: false })),
  ];
}

/** Those of all applications. */
export function allPools(config: Config): readonly Pool[] {
  return applicationsOf(config).flatMap(poolsOf);
}
