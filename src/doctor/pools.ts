import type { Config, CookieConfig } from '../config/config.ts';

/** A pool of the config, whichever side it is on. */
export interface Pool {
  readonly site: string;
  readonly cluster: string;
  readonly cookie: CookieConfig;
  readonly minUp: number;
  readonly isLocal: boolean;
}

/** The local pool, and then the others as the config names them. */
export function poolsOf(config: Config): readonly Pool[] {
  return [
    { ...config.localPool, site: config.site, isLocal: true },
    ...config.remotePools.map((pool) => ({ ...pool, isLocal: false })),
  ];
}
