import type { Config } from '../../src/config/config.ts';

/** A config whose cookies that are opaque are so by these keys, as if they had been read. */
export function withCookieKeys(config: Config, keys: readonly string[]): Config {
  return {
    ...config,
    applications: config.applications.map((application) => {
      const { localPool } = application;
      const { cookie } = localPool;
      if (cookie.opaque === null) return application;
      const opaque = { ...cookie.opaque, keyFile: { ...cookie.opaque.keyFile, keys } };
      return { ...application, localPool: { ...localPool, cookie: { ...cookie, opaque } } };
    }),
  };
}
