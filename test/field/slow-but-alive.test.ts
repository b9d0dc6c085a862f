import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AppAnswer } from '../../lab/app-server.ts';
import { Client } from '../support/client.ts';
import { EAST_COOKIE, startTwoSites, type TwoSites } from '../support/two-sites.ts';
import { openWebSocket } from '../support/web-socket.ts';

/** What takes longer than silence may last, and is none: whatever ends what has fallen silent must leave it alone. */

const FORTY_MB = 40 * 1024 * 1024;
const LONGER_THAN_SILENCE_MS = 8_000;
const PAUSE_MS = 6_000;

describe.each([
  ['1.40.0', 'auto'],
  ['1.40.0', 'http1'],
  ['1.36.4', 'auto'],
] as const)('Envoy %s, protocol %s between sites', (envoyVersion, protocol) => {
  let lab: TwoSites;
  let cookie: string;

  beforeAll(async () => {
    lab = await startTwoSites({
      envoyVersion,
      configure: (file) => {
        file.local_pool.close_when_down = true;
        for (const pool of file.remote_pools) pool.protocol = protocol;
      },
    });
    const client = new Client();
    await client.ask(lab.east.url);
    cookie = `${EAST_COOKIE}=${client.cookies.get(EAST_COOKIE)}`;
    client.close();
  });
  afterAll(async () => await lab?.close());

  // At the site of the session, and by way of the other; all at once, for each takes its time.
  test.concurrent.each(['east', 'west'] as const)('%s: an answer that takes its time', async (site) => {
    const answer = await exchange(`${lab[site].url}/?waitMs=${LONGER_THAN_SILENCE_MS}`, { cookie });
    expect(answer).toMatchObject({ status: 200 });
  });

  test.concurrent.each(['east', 'west'] as const)('%s: an upload of 40 MB whose server pauses', async (site) => {
    const { status, body } = await exchange(`${lab[site].url}/?waitMs=${PAUSE_MS}`, { cookie, upload: FORTY_MB });
    expect(status).toBe(200);
    expect((JSON.parse(body) as AppAnswer).bodyBytes).toBe(FORTY_MB);
  });

  test.concurrent.each(['east', 'west'] as const)('%s: a download of 40 MB whose client pauses', async (site) => {
    const answer = await exchange(`${lab[site].url}/download?bytes=${FORTY_MB}`, { cookie, pauseMs: PAUSE_MS });
    expect([answer.status, answer.body.length]).toEqual([200, FORTY_MB]);
  });

  test.concurrent.each(['east', 'west'] as const)('%s: an answer that trickles', async (site) => {
    const answer = await exchange(`${lab[site].url}/download?bytes=8&everyMs=1000`, { cookie });
    expect(answer).toEqual({ status: 200, body: 'xxxxxxxx' });
  });

  test.concurrent.each(['east', 'west'] as const)('%s: a WebSocket on which nothing is said', async (site) => {
    const socket = await openWebSocket(lab[site].url, cookie);
    await sleep(LONGER_THAN_SILENCE_MS);
    expect(await socket.say('still here')).toBe('still here');
    socket.close();
  });
});

interface Exchange {
  readonly cookie: string;
  /** Bytes of a POST's body. */
  readonly upload?: number;
  /** How long the client reads nothing after the first of the answer. */
  readonly pauseMs?: number;
}

/** @throws Error when the connection breaks before the whole answer is there */
async function exchange(url: string, { cookie, upload = 0, pauseMs = 0 }: Exchange) {
  return await new Promise<{ status: number; body: string }>((resolve, reject) => {
    const call = request(
      url,
      { method: upload > 0 ? 'POST' : 'GET', headers: { cookie }, agent: false },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => {
          if (parts.push(part) > 1 || pauseMs === 0) return;
          response.pause();
          setTimeout(() => response.resume(), pauseMs);
        });
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString('latin1') }),
        );
      },
    );
    call.on('error', reject);
    call.end(Buffer.alloc(upload, 'x'));
  });
}
