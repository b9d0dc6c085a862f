import { REFUSED_HEADER } from '../../contract.ts';
import { listAt, textAt } from '../json.ts';
import type { Field, Subject } from './field.ts';
import { atLeast, excludes, includesRendered, isSet } from './rules.ts';

const LOST = 'what the other site refuses is lost';
const UNSEEN_LOST = 'what meets a server that just died is lost';
const TWICE = 'a request that a server has seen may be sent twice';

const RETRY_ON = { path: 'retry_policy.retry_on', fix: 'retry_policy' };
const RETRIABLE = { path: 'retry_policy.retriable_headers', fix: 'retry_policy' };

/** Of a route to another site: what that refuses, or is not there to take, is served here. */
export const REFUSAL_RETRY_FIELDS: readonly Field[] = [
  { path: 'retry_policy', must: isSet, wrong: LOST },
  { ...RETRY_ON, when: goesByHeader, want: 'retriable-headers', must: includesRendered, wrong: LOST },
  {
    ...{ ...RETRIABLE, when: goesByHeader, read: retriableHeaders, want: REFUSED_HEADER },
    ...{ must: includesRendered, wrong: LOST },
  },
  { path: 'retry_policy.num_retries', unset: 1, must: atLeast(1), wrong: LOST },
];

/** Of every route to a pool: it retries what no server has seen, and nothing else. */
export const SAFE_RETRY_FIELDS: readonly Field[] = [
  { ...RETRY_ON, read: withoutRefusals, must: includesRendered, warn: UNSEEN_LOST },
  // After these nobody can say that no server has seen the request; a POST might be done twice.
  { ...RETRY_ON, must: excludes('5xx', 'gateway-error', 'retriable-4xx', 'http3-post-connect-failure'), warn: TWICE },
  { ...RETRY_ON, when: isForAnyMethod, must: excludes('reset'), warn: TWICE },
];

/** As good is the status of a refusal, where it tells that from an answer of the application. */
function goesByHeader({ actual, config: { refusalStatus } }: Subject): boolean {
  const conditions = textAt(actual, 'retry_policy', 'retry_on')?.split(',') ?? [];
  const isByStatus = conditions.some((condition) => condition.trim() === 'retriable-status-codes');
  const statuses = listAt(actual, 'retry_policy', 'retriable_status_codes');
  return refusalStatus === 503 || !isByStatus || !statuses.includes(refusalStatus);
}

function retriableHeaders(action: unknown): string[] {
  return listAt(action, 'retry_policy', 'retriable_headers').flatMap(
    (item) => textAt(item, 'name')?.toLowerCase() ?? [],
  );
}

/** Those are another check's. */
function withoutRefusals(action: unknown): string[] {
  const conditions = textAt(action, 'retry_policy', 'retry_on')?.split(',') ?? [];
  return conditions.map((condition) => condition.trim()).filter((condition) => condition !== 'retriable-headers');
}

/** A GET or HEAD may be repeated when its connection breaks (RFC 9110, 9.2.2). */
function isForAnyMethod({ actual }: Subject): boolean {
  return !listAt(actual, 'match', 'headers').some(
    (matcher) =>
      textAt(matcher, 'name') === ':method' &&
      ['GET', 'HEAD', 'GET|HEAD'].includes(
        textAt(matcher, 'string_match', 'exact') ?? textAt(matcher, 'string_match', 'safe_regex', 'regex') ?? '',
      ),
  );
}
