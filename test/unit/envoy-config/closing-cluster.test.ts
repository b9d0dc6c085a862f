import fc from 'fast-check';
import { expect, test } from 'vitest';
import { closingThreshold } from '../../../src/envoy-config/closing-cluster.ts';
import { EDGE_INTERVAL_MS } from '../../../src/envoy-config/cluster-parts.ts';

test('what is open is closed after the HTTP cluster has condemned the server, whatever the timing, and not much later', () => {
  const timing = fc.record({
    intervalMs: fc.integer({ min: 100, max: 60_000 }),
    timeoutMs: fc.integer({ min: 10, max: 30_000 }),
  });
  fc.assert(
    fc.property(timing, fc.integer({ min: 1, max: 10 }), ({ intervalMs, timeoutMs }, unhealthy) => {
      /** From the first check that fails to the verdict. */
      const verdictMs = (failures: number) => failures * timeoutMs + (failures - 1) * EDGE_INTERVAL_MS;
      const threshold = closingThreshold(unhealthy, { intervalMs, timeoutMs });
      // The server falls silent just after the HTTP cluster's check, and just before the other's.
      expect(verdictMs(threshold)).toBeGreaterThan(intervalMs + verdictMs(unhealthy));
      expect(verdictMs(threshold - 1)).toBeLessThanOrEqual(intervalMs + verdictMs(unhealthy));
    }),
  );
});

test('with the default timing one failure more is enough', () => {
  expect(closingThreshold(2, { intervalMs: 1_000, timeoutMs: 1_000 })).toBe(3);
});
