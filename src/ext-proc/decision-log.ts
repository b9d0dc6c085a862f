import type { Logger } from 'pino';
import { REQUEST_ID_HEADER } from '../contract.ts';
import { type Decision, ownerName } from '../decision/decide.ts';
import type { Policy } from '../decision/policy.ts';
import { createLogLimit } from '../log/log-limit.ts';
import { readRequestHeader } from './request.ts';

/** Enough to follow a few clients by hand; what a busy site decides is to be read from Envoy's access log. */
const DECISIONS_PER_SECOND = 100;

/** A client may choose the id. */
const MAX_ID_LENGTH = 128;

/** Logs decisions at debug, at most {@link DECISIONS_PER_SECOND} of them, with Envoy's id of the request. */
export interface DecisionLog {
  /** @param policy of that application, by which the decisions are made that the returned function is told of */
  of(application: string, policy: Policy): (decision: Decision, message: Uint8Array) => void;
}

/** Null where the log's level leaves decisions out, so that they then cost nothing. */
export function createDecisionLog(logger: Logger): DecisionLog | null {
  if (!logger.isLevelEnabled('debug')) return null;
  const mayLog = createLogLimit({
    lines: DECISIONS_PER_SECOND,
    perMs: 1_000,
    onLeftOut: (count) =>
      logger.debug({ leftOut: count }, `${count} more decisions in this second: ${DECISIONS_PER_SECOND} are logged`),
  });
  return {
    of: (application, policy) => (decision, message) => {
      if (!mayLog()) return;
      const owner = ownerName(policy, decision.owner);
      const pool = 'pool' in decision ? policy.sites[decision.pool]?.cluster : undefined;
      const requestId = readRequestHeader(message, REQUEST_ID_HEADER)?.slice(0, MAX_ID_LENGTH);
      logger.debug({ application, decision: decision.reason, owner, pool, requestId }, 'decision');
    },
  };
}
