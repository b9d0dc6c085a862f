import { defineConfig } from 'vitest/config';

/** Whole sites of real processes wait most of their time, for health checks above all: several fit on two cores. */
const AT_ONCE = 4;

/** To end a test that hangs, on a busy machine, too: how long something takes is the subject of few, which say so themselves. */
const STUCK_MS = 120_000;

interface Options {
  readonly env?: Record<string, string>;
  /** By default one file at a time, so that what they measure is not each other. */
  readonly maxWorkers?: number;
}

/** Tests of real processes. Those of one group run together, the groups one after the other. */
function sites(name: string, include: string[], groupOrder: number, { env = {}, maxWorkers = 1 }: Options = {}) {
  return {
    test: { name, include, env, maxWorkers, testTimeout: STUCK_MS, hookTimeout: 300_000, sequence: { groupOrder } },
  };
}

/** Every request asks the sidecar. */
const ASKED = { FAST_PATH: 'false' };

/** A second application beside the one that the suite is about, and Envoys that follow the config files. */
const TWO_APPLICATIONS = { APPLICATIONS: 'two', CONFIG_DIR: 'true' };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          setupFiles: ['test/unit/no-world-outside.ts'],
          // They share no state, and loading each module once is most of what can be saved.
          isolate: false,
          maxWorkers: 2,
          testTimeout: STUCK_MS,
        },
      },
      { test: { name: 'contract', include: ['test/contract/**/*.test.ts'], maxWorkers: 2, testTimeout: STUCK_MS } },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          maxWorkers: AT_ONCE,
          testTimeout: STUCK_MS,
          sequence: { groupOrder: 1 },
        },
      },
      sites('envoy', ['test/envoy/**/*.test.ts'], 1, { maxWorkers: AT_ONCE }),
      // What operators set, change, ask and see.
      sites('operate', ['test/operate/**/*.test.ts'], 1, { maxWorkers: AT_ONCE }),
      // About time, load and the world outside.
      sites('field', ['test/field/**/*.test.ts'], 2),
      // What servers speak and say.
      sites('servers', ['test/servers/**/*.test.ts'], 3, { maxWorkers: AT_ONCE }),
      // What is decided must be the same when each request is asked for, and beside another application.
      sites('envoy-asked', ['test/envoy/{original-rules,one-owner,stand-in,hostile-edge,refusal,hop}.test.ts'], 3, {
        env: ASKED,
        maxWorkers: AT_ONCE,
      }),
      sites('envoy-two-applications', ['test/envoy/{one-owner,hostile-edge}.test.ts'], 3, {
        env: TWO_APPLICATIONS,
        maxWorkers: AT_ONCE,
      }),
      sites('failover', ['test/failover/{failover,silence,three-sites}.test.ts'], 4),
      sites('failover-asked', ['test/failover/{failover,three-sites}.test.ts'], 5, {
        env: { ...ASKED, ...TWO_APPLICATIONS },
      }),
      // In a network namespace of its own: see package.json.
      sites('slow-link', ['test/failover/slow-link.test.ts'], 8),
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.fuzz.ts'] } },
      sites('compose', ['test/compose/**/*.test.ts'], 6),
      // Each way to install it, in a clean place.
      sites('install', ['test/install/{server,helm}.test.ts'], 9),
      sites('gateways', ['test/install/{envoy-gateway,istio}.test.ts'], 10),
      sites('matrix', ['test/matrix/**/*.test.ts'], 7),
    ],
  },
});
