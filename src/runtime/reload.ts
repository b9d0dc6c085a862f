import type { Logger } from 'pino';
import { type Address, formatAddress } from '../config/address.ts';
import { changedKeys } from '../config/changed-keys.ts';
import type { Config } from '../config/config.ts';
import { ConfigError } from '../config/config-error.ts';
import type { ChangeLog } from '../log/changes.ts';
import type { Counters } from '../metrics/counters.ts';

export interface ReloaderOptions {
  /** The config in force. */
  readonly current: () => Config;
  /** Puts a config in force; resolves when it is, or when that is no longer wanted. */
  readonly apply: (config: Config) => Promise<void>;
  readonly counters: Counters;
  readonly changes: ChangeLog;
  readonly logger: Logger;
}

export interface Reloader {
  /**
   * Reads a config and puts it in force. Never throws: what is wrong with it is logged, and the old one stays. One reload
   * runs at a time; of those asked for meanwhile only one follows, which reads what is there by then.
   * @param read throws {@link ConfigError} where there is no good config
   */
  reload(read: () => Promise<Config>): Promise<void>;
  /** Nothing is put in force any more. */
  close(): void;
}

/** Builds what replaces the config in force while the sidecar runs. */
export function createReloader({ current, apply, counters, changes, logger }: ReloaderOptions): Reloader {
  let isClosed = false;
  let running: Promise<void> | null = null;
  let next: (() => Promise<Config>) | null = null;

  async function reloadOnce(read: () => Promise<Config>): Promise<void> {
    const before = current();
    try {
      const config = await read();
      const keys = changedKeys(before, config);
      // Listening elsewhere would leave the address that Envoy knows.
      if (keys.length > 0 && !isClosed) await apply({ ...config, ...listening(before) });
      if (isClosed) return;
      await logReloaded(before, config, keys);
      counters.countReload('ok');
    } catch (error) {
      if (isClosed) return;
      logRejected(error);
      counters.countReload('refused');
    }
  }

  function logRejected(error: unknown): void {
    if (!(error instanceof ConfigError)) {
      changes.error(`the config could not be reloaded: ${error instanceof Error ? error.message : String(error)}`);
      return;
    }
    const count = error.problems.length + error.more;
    changes.error(`config file rejected, the old config stays: ${count} ${count === 1 ? 'mistake' : 'mistakes'}`);
    for (const line of error.message.split('\n')) logger.error(line);
  }

  async function logReloaded(before: Config, config: Config, keys: readonly string[]): Promise<void> {
    if (keys.length === 0) {
      changes.info('config reloaded: nothing changed');
      return;
    }
    changes.info(`config reloaded: ${keys.join(', ')} changed`, { changed: keys });
    logNeedsRestart('listen', before.listen, config.listen);
    logNeedsRestart('ops_listen', before.opsListen, config.opsListen);
    const { listenTls, opsListenTls, socket } = before;
    for (const key of changedKeys({ ...config, listenTls, opsListenTls, socket }, config)) {
      changes.warn(`${key} changed in the config: restart to apply it, until then it stays as it was`);
    }
    // Only now: a sidecar that is never reloaded need not hold the renderer.
    const { hasSameEnvoyConfig } = await import('../envoy-config/same-envoy-config.ts');
    if (!hasSameEnvoyConfig(before, config)) {
      changes.warn('Envoy\'s own config must change too: print it again with "site-persistence envoy"');
    }
  }

  function logNeedsRestart(key: string, before: Address, after: Address): void {
    if (formatAddress(before) === formatAddress(after)) return;
    changes.warn(
      `${key} is now ${formatAddress(after)} in the config: restart to apply it, until then it stays ${formatAddress(before)}`,
    );
  }

  return {
    async reload(read) {
      next = read;
      running ??= (async () => {
        while (next !== null && !isClosed) {
          const due = next;
          next = null;
          await reloadOnce(due);
        }
        running = null;
      })();
      await running;
    },
    close() {
      isClosed = true;
    },
  };
}

/** What takes a restart. */
function listening({ listen, opsListen, listenTls, opsListenTls, socket, insecure }: Config) {
  return { listen, opsListen, listenTls, opsListenTls, socket, insecure };
}
