import { setTimeout as sleep } from 'node:timers/promises';

/** Polls until the condition holds. @throws Error that names it when it does not hold in time */
export async function waitUntil(
  condition: () => boolean | Promise<boolean>,
  { what, timeoutMs = 60_000, intervalMs = 25 }: { what: string; timeoutMs?: number; intervalMs?: number },
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain for ${what}`);
    await sleep(intervalMs);
  }
}
