import type { Address } from '../config/address.ts';
import { FAST_PATH_KEY } from '../contract.ts';
import { createAdminClient } from '../envoy-admin/admin-client.ts';
import { AdminError } from '../envoy-admin/connection.ts';
import type { ChangeLog } from '../log/changes.ts';

const ON = '100';
const OFF = '0';

/** Envoy's administration is one thread; a change of health must not wait long for it. */
const TIMEOUT_MS = 1_000;

/** How often Envoy is asked for the key: it may have restarted, or another sidecar may think otherwise. */
const CHECK_INTERVAL_MS = 250;

/** What Envoy refuses to set it will refuse again until its config is another one. */
const REFUSED_PAUSE_MS = 5_000;

/**
 * `unused`: `envoy.fast_path` is false. `on`: requests that need no decision stay in Envoy. `off`: every request asks
 * the sidecar, as health or a drain have it. `refused`: the same, since Envoy does not let the key be set.
 */
export const FAST_PATH_STATES = ['unused', 'on', 'off', 'refused'] as const;
export type FastPathState = (typeof FAST_PATH_STATES)[number];

export interface FastPathOptions {
  readonly admin: Address;
  readonly isEnabled: boolean;
  /** Whether every request that Envoy's fast route matches is for the local pool, as things are now. */
  readonly shouldEnable: () => boolean;
  readonly changes: ChangeLog;
}

export interface FastPath {
  readonly state: FastPathState;
  /** Makes Envoy's key what it should be now. Never throws; what fails is tried again with the next call. */
  update(): Promise<void>;
  /** Takes the key away, so that nothing is decided by it when nobody watches over it. */
  close(): Promise<void>;
}

/**
 * Keeps a runtime key of Envoy set while requests that need no decision may stay in Envoy. Where the fast path is not
 * enabled it takes away, once, what an earlier process may have left.
 */
export function createFastPath(options: FastPathOptions): FastPath {
  const { isEnabled, shouldEnable, changes } = options;
  const client = createAdminClient(options.admin, TIMEOUT_MS);
  let state: FastPathState = isEnabled ? 'off' : 'unused';
  /** What Envoy has, as far as is known; null where that is to be asked. */
  let known: string | null = null;
  let mayBeOn = false;
  let checkedAtMs = Number.NEGATIVE_INFINITY;
  let pausedUntilMs = Number.NEGATIVE_INFINITY;
  let isCleanedUp = false;
  let isClosing = false;
  let updating: Promise<void> | null = null;
  let isUpdateDue = false;

  async function updateOnce(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs < pausedUntilMs) return;
    const wanted = isEnabled && !isClosing && shouldEnable() ? ON : OFF;
    const mightBeOn = mayBeOn;
    try {
      // A known change is made at once; only what is not known has to be asked for.
      if (known === null || (known === wanted && nowMs - checkedAtMs >= CHECK_INTERVAL_MS)) {
        known = (await client.readRuntime(FAST_PATH_KEY)) ?? OFF;
        checkedAtMs = nowMs;
      }
      if (known !== wanted) {
        mayBeOn ||= wanted === ON;
        await client.writeRuntime(FAST_PATH_KEY, wanted);
        known = wanted;
      }
      mayBeOn = known !== OFF;
      isCleanedUp = true;
      if (isEnabled && !isClosing) enter(wanted === ON ? 'on' : 'off');
    } catch (error) {
      // Where Envoy does not answer at all the health watcher says so, for it asks the same interface.
      if (error instanceof AdminError && error.code === 'ADMIN_BAD_ANSWER') {
        mayBeOn = mightBeOn;
        noteRefusal(error.message);
      }
      known = null;
    }
  }

  function noteRefusal(why: string): void {
    // A key that may be set while it should not be is tried again at once.
    if (!mayBeOn) pausedUntilMs = performance.now() + REFUSED_PAUSE_MS;
    isCleanedUp = true;
    if (!isEnabled || isClosing || state === 'refused') return;
    state = 'refused';
    changes.warn(
      `the fast path is off: Envoy does not let its runtime key ${FAST_PATH_KEY} be set: ${why}. ` +
        'It takes an admin_layer in layered_runtime, as "site-persistence envoy" prints it',
    );
  }

  function enter(next: 'on' | 'off'): void {
    if (state === next) return;
    state = next;
    changes.info(
      next === 'on'
        ? 'the fast path is on: requests that need no decision do not leave Envoy'
        : 'the fast path is off: every request asks the sidecar',
    );
  }

  async function update(): Promise<void> {
    if (!isEnabled && isCleanedUp) return;
    // A change that comes while Envoy is asked must not wait for the next poll.
    isUpdateDue = true;
    updating ??= (async () => {
      while (isUpdateDue) {
        isUpdateDue = false;
        await updateOnce();
      }
      updating = null;
    })();
    await updating;
  }

  return {
    get state() {
      return state;
    },
    update,
    async close() {
      isClosing = true;
      if (isEnabled) await update();
      client.close();
    },
  };
}
