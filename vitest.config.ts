import { defineConfig } from 'vitest/config';

/** Whole sites of real processes: one file at a time, so that what they measure is not each other. */
function sites(name: string, include: string[], groupOrder: number, env: Record<string, string> = {}) {
  return {
    test: {
      name,
      include,
      env,
      maxWorkers: 1,
      testTimeout: 120_000,
      hookTimeout: 300_000,
      sequence: { groupOrder },
    },
  };
}

const FAST_PATH = { FAST_PATH: 'true' };

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['test/{unit,contract}/**/*.test.ts'] } },
      { test: { name: 'integration', include: ['test/integration/**/*.test.ts'] } },
      sites('envoy', ['test/envoy/**/*.test.ts'], 1),
      // What is decided must be the same with the fast path.
      sites('envoy-fast-path', ['test/envoy/{original-rules,one-owner,stand-in,hostile-edge}.test.ts'], 2, FAST_PATH),
      sites('failover', ['test/failover/{failover,silence,three-sites}.test.ts'], 3),
      sites('failover-fast-path', ['test/failover/failover.test.ts'], 4, FAST_PATH),
      // In a network namespace of its own: see package.json.
      sites('slow-link', ['test/failover/slow-link.test.ts'], 7),
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.fuzz.ts'] } },
      sites('compose', ['test/compose/**/*.test.ts'], 5),
      sites('matrix', ['test/matrix/**/*.test.ts'], 6),
    ],
  },
});
