import { type JsonObject, typed } from './json.ts';

/**
 * The part of a retry policy that keeps a retry from the hosts that have failed it before. The number is how often
 * Envoy asks its load balancer for another one; few would do, were it not for policies that prefer an idle host,
 * which is what a dead one looks like.
 */
export function anotherHost(): JsonObject {
  return {
    retry_host_predicate: [
      {
        name: 'envoy.retry_host_predicates.previous_hosts',
        typed_config: typed('envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate'),
      },
    ],
    host_selection_retry_max_attempts: 20,
  };
}
