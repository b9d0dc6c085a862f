import { afterAll, beforeAll } from 'vitest';
import type { TwoSites } from './two-sites.ts';

/** Both ways to decide must read a request alike: the sidecar, and without it Envoy's own routes. */
export const DECIDERS = ['the sidecar', 'Envoy alone'] as const;

/** To be called in a `describe`: within it east's requests are decided so. @param lab of the suite, once it is started */
export function decideBy(decider: (typeof DECIDERS)[number], lab: () => TwoSites): void {
  if (decider === 'the sidecar') return;
  beforeAll(async () => {
    await lab().east.sidecar().stop('SIGKILL');
  });
  afterAll(async () => {
    await lab().east.startSidecar();
    await lab().ready();
  });
}
