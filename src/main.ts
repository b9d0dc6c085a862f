#!/usr/bin/env -S node --max-semi-space-size=4 --max-old-space-size=512
const stop = new AbortController();
const hangups = new EventTarget();
// Every other command ends by a signal as any program does, at once: much of its work would not look at an AbortSignal.
if (process.argv[2] === 'serve') {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => stop.abort());
  }
  // Not to be ended by it, as Node has it: `serve` reads its config again.
  process.on('SIGHUP', () => hangups.dispatchEvent(new Event('hangup')));
}
let isOutputLost = false;
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // A reader that went away (`site-persistence envoy | head`) is no fault of this program's.
  if (error.code === 'EPIPE' || isOutputLost) return;
  isOutputLost = true;
  process.exitCode = 1;
  process.stderr.write(`cannot write the output: ${error.message}\n`);
});
// Nobody is left to tell; the exit code still says how it went.
process.stderr.on('error', () => {});

// Loaded only now, since that takes its time and a signal that comes meanwhile must find its handler.
const { runCli } = await import('./cli/run.ts');
const exitCode = await runCli(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  signal: stop.signal,
  hangups,
});
if (!isOutputLost) process.exitCode = exitCode;
