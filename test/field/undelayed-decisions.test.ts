import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { parseAddress } from '../../src/config/address.ts';
import { startServe } from '../integration/cli-process.ts';
import { ExtProcClient } from '../integration/ext-proc-client.ts';
import { eastFile, type SiteFile, startAdmin, writeSiteFile } from '../integration/site.ts';
import { HOSTILE_CONFIGS } from '../support/hostile-configs.ts';

vi.setConfig({ testTimeout: 60_000 });

/**
 * What a decision may wait here at most. None of what is done to the sidecar should be felt at all; without its limits
 * each of these holds it up for much longer, and this machine may be busy.
 */
const LONGEST_WAIT_MS = 2_000;

/** The longest that one of an Envoy's decisions took while something went on, in ms. */
async function longestWaitDuring(listen: string, during: () => Promise<void>): Promise<number> {
  const client = new ExtProcClient(parseAddress(listen));
  onTestFinished(() => client.close());
  await client.decide({});
  let isOver = false;
  let longest = 0;
  const asking = (async () => {
    while (!isOver) {
      const from = performance.now();
      await client.decide({});
      longest = Math.max(longest, performance.now() - from);
      await sleep(5);
    }
  })();
  const done = async () => {
    await during();
    isOver = true;
  };
  await Promise.all([asking, done()]);
  return longest;
}

async function startServing(changes: SiteFile = {}) {
  const admin = await startAdmin();
  const file = await eastFile(admin, changes);
  const path = await writeSiteFile(file);
  return { admin, path, serve: await startServe(path), listen: String(file.listen), ops: String(file.ops_listen) };
}

test.each([
  ['its numbers', 'mood', false],
  ['its hosts', 'clustersMood', false],
  ['the hosts that take the place of hidden numbers', 'clustersMood', true],
] as const)(
  'a decision does not wait while 12 MB come from the admin interface for %s',
  async (_, mood, hidesStats) => {
    const { admin, listen } = await startServing();
    const longest = await longestWaitDuring(listen, async () => {
      admin.hidesStats = hidesStats;
      admin[mood] = 'huge';
      admin.setPool('local_pool', ['ejected', 'up']);
      await admin.waitForRequests(8);
      await sleep(500);
    });
    expect(longest).toBeLessThan(LONGEST_WAIT_MS);
  },
);

test.each(['10,000 unknown keys', '50,000 aliases', '500,000 commas', '8 pools with the same 9,000 servers'])(
  'a decision does not wait while a config file of %s is read, and the log stays short',
  async (what) => {
    const { path, serve, listen } = await startServing();
    const from = serve.lines.length;
    const longest = await longestWaitDuring(listen, async () => {
      await writeFile(path, HOSTILE_CONFIGS[what] ?? '');
      serve.signal('SIGHUP');
      await serve.waitForLine(/the old config stays/);
    });
    expect(longest).toBeLessThan(LONGEST_WAIT_MS);
    const logged = serve.lines.slice(from);
    expect(logged.length).toBeLessThanOrEqual(25);
    expect(logged.join('\n').length).toBeLessThan(25_000);
  },
);

/** Sends these bytes again and again, as fast as they are taken, in a process of its own, over new connections where one ends. */
const FLOOD = `
  const { connect } = require('node:net');
  const [port, text] = [Number(process.argv[1]), Buffer.from(process.argv[2].repeat(1000))];
  const begin = () => {
    const socket = connect(port, '127.0.0.1');
    const send = () => !socket.destroyed && (socket.write(text) ? setImmediate(send) : socket.once('drain', send));
    socket.resume().on('error', () => {}).on('close', () => setTimeout(begin, 1));
    send();
  };
  begin();
`;

test.each(['/metrics', '/api/state', '/'])(
  'a decision does not wait while a client asks for %s without a pause',
  async (path) => {
    const { listen, ops } = await startServing();
    const longest = await longestWaitDuring(listen, async () => {
      const request = `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;
      const flood = spawn(process.execPath, ['-e', FLOOD, ops.split(':')[1] ?? '', request], { stdio: 'inherit' });
      onTestFinished(() => void flood.kill('SIGKILL'));
      await sleep(3_000);
      flood.kill('SIGKILL');
    });
    expect(longest).toBeLessThan(LONGEST_WAIT_MS);
  },
);
