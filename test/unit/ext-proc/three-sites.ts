import type { Config } from '../../../src/config/config.ts';
import { parseConfig } from '../../../src/config/load.ts';

/** Three sites whose cookies differ in every setting. */
export const THREE_SITES: Config = parseConfig(
  `
site: east
local_pool:
  cluster: local_pool
  cookie: KVAAVROI
remote_pools:
  - site: west
    cluster: remote_pool
    cookie: { name: DDVHSLLQ, path: /app, domain: example.com, same_site: None, secure: true }
  - site: north
    cluster: north_pool
    cookie: { name: NNPOLEXY, same_site: Strict }
`,
  'three-sites.yaml',
);

/** The sites of a set of bits, by name. */
export function siteNames(sites: number): string[] {
  return ['east', 'west', 'north'].filter((_, index) => (sites & (1 << index)) !== 0);
}
