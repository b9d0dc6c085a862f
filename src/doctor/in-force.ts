import type { EnvoyConfig } from '../config/config.ts';
import { type Fix, steps } from './finding.ts';

/** How Envoy gets what the config file says. */
export function bringInForce({ configDir }: Pick<EnvoyConfig, 'configDir'>): Fix {
  return configDir === null
    ? steps('print the Envoy config again, and start Envoy with it:', 'site-persistence envoy > envoy.yaml')
    : steps('reload the sidecars:', 'site-persistence reload');
}
