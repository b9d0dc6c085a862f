import { namesOf } from '../config/config.ts';
import type { Hold } from '../envoy-runtime/hold.ts';
import type { ChangeLog } from '../log/changes.ts';
import { heldWhileDown } from '../ops/verdict.ts';
import type { Generation } from './generation.ts';

export interface HeldAlarmOptions {
  readonly current: () => Generation;
  readonly hold: Hold;
  readonly changes: ChangeLog;
}

/** Says, once each time, that an application's own pool went down while the sites that could serve are held. */
export class HeldAlarm {
  readonly #options: HeldAlarmOptions;
  readonly #said = new Set<string>();

  constructor(options: HeldAlarmOptions) {
    this.#options = options;
  }

  /** Called after each good poll. */
  observe(): void {
    const { current, hold, changes } = this.#options;
    const { config, stateOf } = current();
    for (const application of namesOf(config)) {
      const held = hold.sitesOf(application);
      const health = held.size === 0 ? undefined : stateOf(application)?.health;
      const isAlarming = health?.known === true && !health.up.includes(true);
      if (isAlarming && !this.#said.has(application)) {
        this.#said.add(application);
        const sites = [...held].map((site) => ({ site, reason: hold.of(application, site)?.reason ?? '' }));
        changes.error(heldWhileDown(config.site, sites), { application });
      } else if (!isAlarming) this.#said.delete(application);
    }
  }
}
