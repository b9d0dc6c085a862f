import { ENVOY_VERSIONS, type EnvoyVersion } from '../config/config.ts';

function isAtLeast(version: EnvoyVersion, minimum: EnvoyVersion): boolean {
  return ENVOY_VERSIONS.indexOf(version) >= ENVOY_VERSIONS.indexOf(minimum);
}

/** A retry can leave the local pool for another site's. */
export function hasPriorityGroups(version: EnvoyVersion): boolean {
  return isAtLeast(version, '1.40');
}

/** The admin interface can be limited to some paths. */
export function hasAdminAllowPaths(version: EnvoyVersion): boolean {
  return isAtLeast(version, '1.38');
}

/** The flag exists from 1.36 on, but the code behind it has lifetime bugs before 1.40. */
export function hasSafeGracefulClose(version: EnvoyVersion): boolean {
  return isAtLeast(version, '1.40');
}

/** To a header matcher several lines of one header are one text with commas, instead of each for itself. */
export function joinsHeaderLines(version: EnvoyVersion): boolean {
  return !isAtLeast(version, '1.40');
}

/**
 * Where a look-up fails, hosts that are known stay. Before, with a family that is only preferred, the second look-up says
 * that there is no address at all, and hosts that a health check finds down at that moment are dropped until DNS answers.
 */
export function keepsHostsWithoutDns(version: EnvoyVersion): boolean {
  return isAtLeast(version, '1.40');
}

/** The end of a cookie with a `ttl` is told by the wall clock; before, by the uptime of the machine that set it. */
export function hasWallClockCookies(version: EnvoyVersion): boolean {
  return isAtLeast(version, '1.39');
}

/** An RSA certificate of a server that is for keyEncipherment only is refused. */
export function enforcesKeyUsage(version: EnvoyVersion): boolean {
  return isAtLeast(version, '1.38');
}
