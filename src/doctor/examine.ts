import type { Config } from '../config/config.ts';
import type { CheckGroup } from './checks/check.ts';
import { ENVOY_CHECKS } from './checks/envoy.ts';
import { FAST_PATH_CHECKS } from './checks/fast-path.ts';
import { FILTER_CHECKS } from './checks/filter.ts';
import { POOL_CHECKS } from './checks/pools.ts';
import { PROTOCOL_CHECKS } from './checks/protocols.ts';
import { REFUSAL_CHECKS } from './checks/refusal.ts';
import { ROUTE_CHECKS } from './checks/routes.ts';
import { SIDECAR_CHECKS } from './checks/sidecars.ts';
import { STICKINESS_CHECKS } from './checks/stickiness.ts';
import { VIRTUAL_HOST_CHECKS } from './checks/virtual-hosts.ts';
import type { EnvoySnapshot } from './envoy-snapshot.ts';
import { type Around, gatherFacts } from './facts.ts';
import type { Finding } from './finding.ts';

/** Every check, in the order in which they are reported. */
export const CHECK_GROUPS: readonly CheckGroup[] = [
  ENVOY_CHECKS,
  POOL_CHECKS,
  PROTOCOL_CHECKS,
  SIDECAR_CHECKS,
  FILTER_CHECKS,
  STICKINESS_CHECKS,
  VIRTUAL_HOST_CHECKS,
  ROUTE_CHECKS,
  REFUSAL_CHECKS,
  FAST_PATH_CHECKS,
];

/** What is right, missing or unsafe in a running Envoy for this site. Pure; whatever the Envoy's config looks like, it does not throw. */
export function examine(config: Config, snapshot: EnvoySnapshot, around: Around): Finding[] {
  const facts = gatherFacts(config, snapshot, around);
  return CHECK_GROUPS.flatMap((group) =>
    group.checks.flatMap((check) =>
      [check.run(facts)].flat().map((verdict) => ({ group: group.name, check: check.name, ...verdict })),
    ),
  );
}
