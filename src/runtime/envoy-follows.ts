import type { Config } from '../config/config.ts';
import type { Plan } from '../envoy-files/plan.ts';
import { publish } from '../envoy-files/publisher.ts';
import type { ChangeLog } from '../log/changes.ts';
import type { Generation } from './generation.ts';
import { planInWorker } from './plan-in-worker.ts';

/** Envoy has not taken a config; what it has instead is the one before. */
export class EnvoyRefusedError extends Error {
  override readonly name = 'EnvoyRefusedError';
}

/** Keeps what Envoy watches (`envoy.config_dir`) as the config file says. */
export class EnvoyFollows {
  readonly #current: () => Generation;
  readonly #changes: ChangeLog;
  readonly #closing = new AbortController();
  #bootstrap: Plan['bootstrap'] | null = null;
  /** The last of those that were asked for; each begins when the one before is over. */
  #following: Promise<unknown> = Promise.resolve();
  /** Envoy has not said that it has the files. */
  #isUnsure = false;
  #isAskedAgain = false;

  constructor(current: () => Generation, changes: ChangeLog) {
    this.#current = current;
    this.#changes = changes;
  }

  /**
   * Resolves when Envoy has it, or does not say what it has; at once without `envoy.config_dir`.
   * @throws EnvoyRefusedError
   * @throws ConfigError where the overlay does not fit
   */
  async follow(config: Config): Promise<void> {
    const following = this.#following.then(async () => await this.#follow(config));
    this.#following = following.catch(() => {});
    await following;
  }

  /** Health is known, so that an Envoy which had not said what it has can be asked again. */
  async onHealth(): Promise<void> {
    if (!this.#isUnsure || this.#isAskedAgain) return;
    this.#isAskedAgain = true;
    try {
      await this.follow(this.#current().config);
    } catch (error) {
      this.#isUnsure = false;
      if (!this.#closing.signal.aborted) this.#changes.error(error instanceof Error ? error.message : String(error));
    } finally {
      this.#isAskedAgain = false;
    }
  }

  /** What is half written is written to its end, without waiting for Envoy. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#following;
  }

  async #follow(config: Config): Promise<void> {
    const directory = config.envoy.configDir;
    if (directory === null || this.#closing.signal.aborted) return;
    const { siteKeys, envoyRuntime, config: inForce } = this.#current();
    const pause = async (isPaused: boolean) => {
      // A sidecar that stops takes its keys away.
      if (this.#closing.signal.aborted) return;
      siteKeys.pause(isPaused);
      await envoyRuntime.updateSoon();
    };
    const { published, bootstrap } = await publish({
      ...{ directory, admin: inForce.envoy.admin, bootstrap: this.#bootstrap },
      // In a thread of its own, for rendering hundreds of applications would hold up decisions.
      plan: async () => await planInWorker(config, directory, this.#closing.signal),
      pauseSteady: () => pause(true),
      resumeSteady: () => pause(false),
      signal: this.#closing.signal,
      onRestartNeeded: (keys) => {
        this.#changes.warn(
          `Envoy must be restarted to apply all of this, for its bootstrap has another ${keys.join(', ')}: ` +
            'print it again with "site-persistence envoy"',
        );
      },
    }).catch((error: unknown) => {
      throw isSystemError(error)
        ? new Error(`envoy.config_dir: ${error.message}: the old config stays`, { cause: error })
        : error;
    });
    if (published.kind === 'refused') throw new EnvoyRefusedError(`Envoy does not take ${directory}/${published.why}`);
    this.#bootstrap = bootstrap;
    const wasUnsure = this.#isUnsure;
    this.#isUnsure = published.kind !== 'taken';
    if (published.kind === 'early') {
      this.#changes.info(`${directory} is written for an Envoy that is not there yet: ${published.why}`);
    } else if (published.kind === 'written') {
      this.#changes.warn(`${directory} is written, but Envoy does not say that it has it: ${published.why}`);
    } else if (published.changed > 0 || wasUnsure) {
      const { changed, unknownFields, warming } = published;
      this.#changes.info(`Envoy has taken ${directory}: ${changed} ${changed === 1 ? 'file' : 'files'} changed`);
      if (warming > 0) {
        this.#changes.warn(
          `Envoy does not use ${warming} clusters or listeners of ${directory} yet: does a name have an address, and is each certificate there?`,
        );
      }
      if (unknownFields > 0) {
        this.#changes.warn(
          `Envoy goes on without ${unknownFields} fields of ${directory} that it does not know: its own log names them. ` +
            'Is envoy.version its version, and envoy.overlay right?',
        );
      }
    }
  }
}

function isSystemError(error: unknown): error is Error {
  return error instanceof Error && 'syscall' in error;
}
