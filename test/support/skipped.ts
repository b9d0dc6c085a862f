import { waitUntil } from '../../lab/wait-until.ts';
import type { LabOptions, SiteLab } from './two-sites.ts';

/**
 * Waits until every stream that Envoy opened has got its message, and then says what Envoy counts as gone wrong, of
 * which each must be 0: `failure_mode_allowed` alone does not count all decisions that were skipped.
 */
export async function skippedDecisions(site: SiteLab): Promise<Record<string, number>> {
  const stat = (name: string) => site.stat(`http.edge.ext_proc.${name}`);
  await waitUntil(async () => (await stat('streams_started')) === (await stat('stream_msgs_received')), {
    what: `${site.name}: streams_started to equal stream_msgs_received`,
  });
  const counters = ['failure_mode_allowed', 'streams_failed', 'message_timeouts'];
  const values = await Promise.all(counters.map((name) => stat(name).catch(() => 0)));
  return Object.fromEntries(counters.map((name, index) => [name, values[index] ?? 0]));
}

/** For {@link LabOptions.patchBootstrap}: on a busy machine an answer may take longer than Envoy waits for it. */
export function patientWithSidecars(bootstrap: string): string {
  return bootstrap.replace(/message_timeout: \S+/, 'message_timeout: 10s');
}

export const NONE_SKIPPED = { failure_mode_allowed: 0, streams_failed: 0, message_timeouts: 0 };
