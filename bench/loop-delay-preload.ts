import { monitorEventLoopDelay } from 'node:perf_hooks';

/** What is measured is the time between two ticks of a timer, so its interval is not delay. */
const RESOLUTION_MS = 2;

// Loaded into a sidecar before its own code: on SIGUSR2 it says the longest delay of the event loop since the last time.
const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
histogram.enable();

process.on('SIGUSR2', () => {
  const maxMs = Math.max(0, histogram.max / 1e6 - RESOLUTION_MS);
  process.stderr.write(`longest event loop delay: ${maxMs.toFixed(3)} ms\n`);
  histogram.reset();
});
