import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import { Client, serverOf } from '../support/client.ts';

const ROOT = new URL('../../', import.meta.url).pathname;
const EAST = 'http://localhost:8081';
const WEST = 'http://localhost:8082';

interface Demo {
  readonly output: () => string;
  readonly type: (line: string) => void;
  readonly interrupt: () => void;
  readonly exitCode: Promise<number | null>;
  readonly childPids: () => Promise<number[]>;
}

const demos: Demo[] = [];

afterEach(async () => {
  for (const demo of demos.splice(0)) {
    demo.interrupt();
    await demo.exitCode;
  }
});

function startDemo(): Demo {
  const child = spawn(process.execPath, ['build/lab/demo.js'], { cwd: ROOT, stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const exitCode = new Promise<number | null>((resolve) => child.once('close', resolve));
  const demo: Demo = {
    output: () => output,
    type: (line) => child.stdin.write(`${line}\n`),
    interrupt: () => child.kill('SIGINT'),
    exitCode,
    childPids: async () => {
      const lister = spawn('ps', ['-o', 'pid=', '--ppid', String(child.pid)]);
      let listed = '';
      lister.stdout.setEncoding('utf8').on('data', (text: string) => {
        listed += text;
      });
      await new Promise((resolve) => lister.once('close', resolve));
      return listed.split('\n').flatMap((line) => (line.trim() === '' ? [] : [Number(line)]));
    },
  };
  demos.push(demo);
  return demo;
}

/** @param from where in the output to look from, for what was there before does not count */
async function sees(demo: Demo, pattern: RegExp, from = 0): Promise<void> {
  await waitUntil(() => pattern.test(demo.output().slice(from)), {
    what: `the demo to print ${pattern}`,
    timeoutMs: 30_000,
  });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('the demo serves two sites, shows changes as they happen, and leaves nothing running', async () => {
  const demo = startDemo();
  await sees(demo, /Two sites are running/);
  await sees(demo, /east: pool remote_pool \(west\) is up/);
  await sees(demo, /west: pool remote_pool \(east\) is up/);
  // Envoy asks a sidecar once that has answered its health check.
  await sees(demo, /west: GET \/local_pool_status → 200 \(status/);

  const client = new Client();
  const home = await client.ask(EAST);
  expect(home.site).toBe('east');
  expect(serverOf(await client.ask(WEST))).toBe(serverOf(home));
  await sees(demo, /west: GET \/ → 200 \(forward, owner east/);
  const page = await client.request(EAST, { headers: { accept: 'text/html' } });
  expect(page.body).toContain('Site east');
  expect(page.body).toContain('KVAAVROI');

  const beforeStop = demo.output().length;
  demo.type('stop east');
  await sees(demo, /east: pool local_pool \(east\) is down/, beforeStop);
  await sees(demo, /west: pool remote_pool \(east\) is down/, beforeStop);
  expect((await client.ask(WEST)).site).toBe('west');
  const beforeStart = demo.output().length;
  demo.type('start east');
  await sees(demo, /west: pool remote_pool \(east\) is up/, beforeStart);
  expect((await client.ask(EAST)).site).toBe('west');
  demo.type('nonsense');
  await sees(demo, /not understood: nonsense/);

  const pids = await demo.childPids();
  expect(pids.length).toBe(8);
  demo.interrupt();
  expect(await demo.exitCode).toBe(0);
  expect(demo.output()).toContain('nothing is left running');
  expect(pids.filter(isRunning), demo.output()).toEqual([]);
  client.close();
});

test('a port in use is said by name', async () => {
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(8082, '127.0.0.1', resolve));
  try {
    const demo = startDemo();
    expect(await demo.exitCode).toBe(1);
    expect(demo.output()).toMatch(/^demo: port 8082 is in use; the demo needs it for Envoy of west/);
    expect(demo.output()).not.toMatch(/^ +at /m);
  } finally {
    await new Promise((resolve) => blocker.close(resolve));
  }
});
