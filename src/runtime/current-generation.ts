import type { Config } from '../config/config.ts';
import type { HealthWatcher } from '../health/watcher.ts';
import { createGeneration, type Generation, type SharedServices, sitesOfEach } from './generation.ts';

/** The config in force, with all that runs by it. Its only owner: everything else asks for it each time. */
export class CurrentGeneration {
  #generation: Generation;
  readonly #services: SharedServices;
  /** A watcher that is to take over, during its first poll. */
  #successor: HealthWatcher | null = null;
  #isClosed = false;

  /** Its watcher of health has to be started: {@link Generation.health}. */
  constructor(config: Config, services: SharedServices) {
    this.#services = services;
    this.#generation = createGeneration(config, services, null);
  }

  get(): Generation {
    return this.#generation;
  }

  /** Puts another config in force. Calls that began before keep to the one that they began with. */
  async replace(next: Config): Promise<void> {
    const before = this.#generation;
    const after = createGeneration(next, this.#services, before);
    if (after.health !== before.health) {
      this.#successor = after.health;
      const firstPoll = after.health.start();
      // Health that is known all the time is worth more than a reload at once.
      if (!after.health.isKnown) await firstPoll;
      this.#successor = null;
    }
    // Closed meanwhile, which has closed the successor.
    if (this.#isClosed) return;
    this.#generation = after;
    if (after.health !== before.health) await before.health.close();
    if (after.envoyRuntime === before.envoyRuntime) after.siteKeys.follow(sitesOfEach(next));
    else await closeRuntime(before);
    this.#services.drain.follow();
    this.#services.hold.follow();
    await after.envoyRuntime.reread();
  }

  /** No replacement takes effect any more. */
  async stopReplacing(): Promise<void> {
    this.#isClosed = true;
    await this.#successor?.close();
  }

  /** Takes the keys of Envoy's runtime away that need somebody to watch over them. */
  async closeRuntime(): Promise<void> {
    await closeRuntime(this.#generation);
  }

  /** Stops polling. */
  async close(): Promise<void> {
    await this.stopReplacing();
    await this.#generation.health.close();
  }
}

async function closeRuntime({ siteKeys, envoyRuntime }: Generation): Promise<void> {
  siteKeys.stop();
  await envoyRuntime.close();
}
