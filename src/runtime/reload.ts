import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { type Address, formatAddress } from '../config/address.ts';
import { changedKeys } from '../config/changed-keys.ts';
import type { Config } from '../config/config.ts';
import { ConfigError } from '../config/config-error.ts';
import type { ChangeFields, ChangeLevel, ChangeLog } from '../log/changes.ts';
import type { Counters } from '../metrics/counters.ts';
import { EnvoyRefusedError } from './envoy-follows.ts';

export interface ReloaderOptions {
  /** Reads the config file again. @throws ConfigError where there is no good config */
  readonly read: () => Promise<Config>;
  /** The config in force. */
  readonly current: () => Config;
  /**
   * Gives a config to Envoy, where it follows the config file; resolves when it has it.
   * @throws EnvoyRefusedError where it does not take it
   */
  readonly giveToEnvoy: (config: Config) => Promise<void>;
  /** Puts a config in force; resolves when it is, or when that is no longer wanted. */
  readonly apply: (config: Config) => Promise<void>;
  readonly counters: Counters;
  readonly changes: ChangeLog;
  readonly logger: Logger;
}

/** What became of a reload. */
export interface ReloadOutcome {
  /** False: the old config stays. */
  readonly isAccepted: boolean;
  /** What was logged of it. */
  readonly lines: readonly string[];
}

export interface Reloader {
  /**
   * Reads a config and puts it in force. Never throws: what is wrong with it is logged, and the old one stays. One reload
   * runs at a time; of those asked for meanwhile only one follows, which reads what is there by then.
   */
  reload(): Promise<ReloadOutcome>;
  /** Nothing is put in force any more. */
  close(): void;
}

const STOPPING: ReloadOutcome = { isAccepted: false, lines: ['not reloaded: the sidecar is stopping'] };

/** Builds what replaces the config in force while the sidecar runs. */
export function createReloader(options: ReloaderOptions): Reloader {
  const { read, current, giveToEnvoy, apply, counters, changes, logger } = options;
  let isClosed = false;
  let running: Promise<ReloadOutcome> | null = null;
  let isDue = false;
  let lines: string[] = [];

  async function reloadOnce(): Promise<ReloadOutcome> {
    const before = current();
    lines = [];
    try {
      const config = await read();
      const keys = changedKeys(before, config);
      // First: what the sidecar decides must lead somewhere.
      if (!isClosed) await giveToEnvoy(whereSidecarsAre(before, config));
      // Listening elsewhere would leave the address that Envoy knows.
      if (keys.length > 0 && !isClosed) await apply({ ...config, ...listening(before) });
      if (isClosed) return STOPPING;
      await logReloaded(before, config, keys);
      counters.countReload('ok');
      return { isAccepted: true, lines };
    } catch (error) {
      if (isClosed) return STOPPING;
      logRejected(error);
      counters.countReload('rejected');
      return { isAccepted: false, lines };
    }
  }

  function say(level: ChangeLevel, message: string, fields: ChangeFields = {}): void {
    changes[level](message, fields);
    lines.push(message);
  }

  function logRejected(error: unknown): void {
    if (error instanceof EnvoyRefusedError) {
      say('error', `config file rejected, the old config stays here and in Envoy: ${error.message}`);
      return;
    }
    if (!(error instanceof ConfigError)) {
      say('error', `the config could not be reloaded: ${error instanceof Error ? error.message : String(error)}`);
      return;
    }
    const count = error.problems.length + error.more;
    say('error', `config file rejected, the old config stays: ${count} ${count === 1 ? 'error' : 'errors'}`);
    for (const line of error.message.split('\n')) {
      logger.error(line);
      lines.push(line);
    }
  }

  async function logReloaded(before: Config, config: Config, keys: readonly string[]): Promise<void> {
    if (keys.length === 0) {
      say('info', 'config reloaded: nothing changed');
      return;
    }
    say('info', `config reloaded: ${keys.join(', ')} changed`, { changed: keys });
    logNeedsRestart('listen', before.listen, config.listen);
    logNeedsRestart('ops_listen', before.opsListen, config.opsListen);
    logNeedsRestart('metrics_listen', before.metricsListen, config.metricsListen);
    const { listenTls, opsListenTls, metricsListenTls, socket } = before;
    for (const key of changedKeys({ ...config, listenTls, opsListenTls, metricsListenTls, socket }, config)) {
      say('warn', `${key} changed in the config: restart to apply it, until then it stays as it was`);
    }
    const uris = keys.filter((key) => key.endsWith('status_uri'));
    if (uris.length > 0) {
      say(
        'warn',
        `${uris.join(', ')}: other sites ask for it as well, and take this one for down until theirs is the same`,
      );
    }
    if (before.envoy.configDir !== null && before.envoy.configDir === config.envoy.configDir) return;
    // Only now: a sidecar that is never reloaded need not hold the renderer.
    const { hasSameEnvoyConfig } = await import('../envoy-config/same-envoy-config.ts');
    if (!hasSameEnvoyConfig(before, config)) {
      say('warn', 'Envoy\'s own config must change too: print it again with "site-persistence envoy"');
    }
  }

  function logNeedsRestart(key: string, before: Address | null, after: Address | null): void {
    const [is, would] = [before, after].map((address) => (address === null ? 'none' : formatAddress(address)));
    if (is === would) return;
    say('warn', `${key} is now ${would} in the config: restart to apply it, until then it stays ${is}`);
  }

  return {
    async reload() {
      isDue = true;
      running ??= (async () => {
        let outcome = STOPPING;
        while (isDue && !isClosed) {
          isDue = false;
          outcome = await reloadOnce();
        }
        running = null;
        return outcome;
      })();
      return await running;
    },
    close() {
      isClosed = true;
    },
  };
}

/** Envoy must find the sidecars where they listen until they are restarted. */
function whereSidecarsAre(before: Config, config: Config): Config {
  const isMoved =
    formatAddress(before.listen) !== formatAddress(config.listen) ||
    !isDeepStrictEqual(before.listenTls, config.listenTls);
  const { sidecars, sidecarTls } = before.envoy;
  return isMoved ? { ...config, envoy: { ...config.envoy, sidecars, sidecarTls } } : config;
}

/** What takes a restart. */
function listening(config: Config) {
  const { listen, opsListen, metricsListen, listenTls, opsListenTls, metricsListenTls, socket, insecure } = config;
  return { listen, opsListen, metricsListen, listenTls, opsListenTls, metricsListenTls, socket, insecure };
}
