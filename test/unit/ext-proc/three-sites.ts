import type { Application } from '../../../src/config/config.ts';
import { onlyApplication } from '../../support/only-application.ts';

/** Three sites whose cookies differ in every setting. */
export const THREE_SITES: Application = onlyApplication(
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
);

/** The same with cookies that have other names as well, one of them a part of another site's. */
export const RENAMED_SITES: Application = onlyApplication(
  `
site: east
local_pool:
  cluster: local_pool
  cookie: { name: KVAAVROI, also: [OLDEAST, DDVH] }
remote_pools:
  - site: west
    cluster: remote_pool
    cookie: { name: DDVHSLLQ, also: [XDDVHSLLQ], path: /app, domain: example.com, same_site: None, secure: true }
  - site: north
    cluster: north_pool
    cookie: NNPOLEXY
`,
);

/** The sites of a set of bits, by name. */
export function siteNames(sites: number): string[] {
  return ['east', 'west', 'north'].filter((_, index) => (sites & (1 << index)) !== 0);
}
