import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBrowser } from '../test/support/browser.ts';
import { Client } from '../test/support/client.ts';
import { CLI } from './site-processes.ts';
import { waitUntil } from './wait-until.ts';

const ROOT = CLI.replace(/dist\/main\.js$/, '');
const OUT = process.argv[2] ?? `${ROOT}docs/status-page.png`;
const EDGES = ['http://localhost:8081/', 'http://localhost:8082/'];
const OPS = 'http://localhost:9003/';
const STEADY_MS = 75_000;
const WITHOUT_WEST_MS = 20_000;

/** Takes the picture of docs/operations.md: the status page of the demo's site east, in traffic, after west's pool went down. */
async function main(): Promise<void> {
  const demo = spawn(process.execPath, [`${ROOT}build/lab/demo.js`], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(demo, 'close');
  const stop = new AbortController();
  try {
    await untilRunning(demo);
    const browser = await startBrowser();
    try {
      const traffic = EDGES.flatMap((home) => Array.from({ length: 4 }, (_, index) => visit(home, index, stop.signal)));
      const page = await browser.newPage({ viewport: { width: 1000, height: 800 }, colorScheme: 'light' });
      await page.goto(OPS);
      await sleep(STEADY_MS);
      demo.stdin.write('stop west\n');
      await sleep(WITHOUT_WEST_MS);
      await mkdir(dirname(OUT), { recursive: true });
      await page.screenshot({ path: OUT, fullPage: true });
      stop.abort();
      await Promise.all(traffic);
    } finally {
      await browser.close();
    }
  } finally {
    stop.abort();
    demo.kill('SIGINT');
    await ended;
  }
  process.stdout.write(`${OUT}\n`);
}

async function untilRunning(demo: ChildProcessByStdio<Writable, Readable, null>): Promise<void> {
  let output = '';
  demo.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  await waitUntil(
    () => {
      if (demo.exitCode !== null) throw new Error('the demo ended');
      return output.includes('Two sites are running');
    },
    { what: 'the demo to run', timeoutMs: 60_000 },
  );
}

/** A client with a session at its home, which asks both sites; more and less of them, so that the lines are no straight ones. */
async function visit(home: string, index: number, signal: AbortSignal): Promise<void> {
  const client = new Client();
  await client.ask(home);
  for (let turn = index; !signal.aborted; turn++) {
    await client.request(EDGES[turn % 3 === 0 ? 1 : 0] ?? home).catch(() => {});
    await sleep(20 + 12 * (1 + Math.sin(Date.now() / 3_000 + index)));
  }
  client.close();
}

await main();
