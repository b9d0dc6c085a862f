import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../config/config.ts';
import { createPolicy } from '../decision/policy.ts';
import type { DecisionLog } from '../ext-proc/decision-log.ts';
import { createProcess, type ProcessStream, type ReplyStream } from '../ext-proc/process.ts';
import { createReplies, type EncodeResponse } from '../ext-proc/replies.ts';
import { createRequestDecoder } from '../ext-proc/request.ts';
import { createRequestMatcher } from '../ext-proc/request-matcher.ts';
import { createFastPath, type FastPath } from '../fast-path/fast-path.ts';
import { watchedPools } from '../health/pool.ts';
import { createHealthWatcher, type HealthWatcher } from '../health/watcher.ts';
import type { ChangeLog } from '../log/changes.ts';
import type { Counters } from '../metrics/counters.ts';

/**
 * Everything that comes of one config: what is compiled from it, and what runs by it. Never changed: a reload makes the
 * next one, and each call keeps to the one that was in force when it began.
 */
export interface Generation {
  readonly config: Config;
  /** Called for each ext_proc stream. */
  readonly open: (replies: ReplyStream) => ProcessStream;
  readonly health: HealthWatcher;
  readonly fastPath: FastPath;
}

/** What stays from one generation to the next. */
export interface SharedServices {
  readonly encodeResponse: EncodeResponse;
  readonly isDraining: () => boolean;
  /** Whether the fast path may be on, as things are in the generation in force. */
  readonly isAllLocal: () => boolean;
  /** Called after each good poll. */
  readonly onHealth: () => Promise<void>;
  readonly onMalformed: () => void;
  readonly decisionLog: DecisionLog | null;
  readonly changes: ChangeLog;
  readonly counters: Counters;
}

/**
 * Makes a generation. What the config has not changed for it takes over from the one before: a watcher of health that
 * goes on knows all the time how the pools are. A watcher that is new has to be started.
 */
export function createGeneration(config: Config, parts: SharedServices, before: Generation | null): Generation {
  const { changes, counters } = parts;
  const policy = createPolicy(config);
  const health =
    before !== null && isDeepStrictEqual(healthSettings(before.config), healthSettings(config))
      ? before.health
      : createHealthWatcher({
          config,
          changes,
          counters,
          onHealth: parts.onHealth,
          ...(before === null ? {} : { memory: before.health.memory() }),
        });
  const fastPath =
    before !== null && isDeepStrictEqual(fastPathSettings(before.config), fastPathSettings(config))
      ? before.fastPath
      : createFastPath({ ...fastPathSettings(config), shouldEnable: parts.isAllLocal, changes });
  const open = createProcess({
    policy,
    decode: createRequestDecoder(createRequestMatcher(policy, config.statusUri)),
    replies: createReplies({ config, policy, encode: parts.encodeResponse, counters }),
    currentState: () => ({ health: health.current(), draining: parts.isDraining() }),
    counters,
    onDecision: parts.decisionLog?.of(policy) ?? null,
    onMalformed: parts.onMalformed,
  });
  return { config, open, health, fastPath };
}

/** All of a config that a watcher of health goes by. */
function healthSettings(config: Config) {
  const { localPool, remotePools } = config;
  // What the checks are repeated by that fail.
  const checks = [localPool, ...remotePools].map(({ healthCheck, protocol, tls }) => ({ healthCheck, protocol, tls }));
  return { checks, watched: watchedPools(config), admin: config.envoy.admin, ...config.health };
}

function fastPathSettings({ envoy }: Config) {
  return { admin: envoy.admin, isEnabled: envoy.fastPath };
}
