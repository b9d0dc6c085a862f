import { request } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { AppAnswer } from '../../lab/app-server.ts';
import { Client } from '../support/client.ts';
import { EAST_COOKIE, startTwoSites, type TwoSites } from '../support/two-sites.ts';
import { openWebSocket } from '../support/web-socket.ts';

const TEN_MB = 10 * 1024 * 1024;
const CHUNK = Buffer.alloc(64 * 1024, 'x');

let lab: TwoSites;
let cookie: string;

beforeAll(async () => {
  lab = await startTwoSites();
  const client = new Client();
  await client.ask(lab.east.url);
  cookie = `${EAST_COOKIE}=${client.cookies.get(EAST_COOKIE)}`;
  client.close();
});
afterAll(async () => await lab?.close());

test('a streamed upload of 10 MB arrives whole at the site that owns the session', async () => {
  const body = await new Promise<string>((resolve, reject) => {
    const call = request(`${lab.west.url}/upload`, { method: 'POST', headers: { cookie } }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () => resolve(Buffer.concat(parts).toString()));
    });
    call.on('error', reject);
    let left = TEN_MB;
    const write = () => {
      while (left > 0) {
        left -= CHUNK.length;
        if (!call.write(CHUNK)) {
          call.once('drain', write);
          return;
        }
      }
      call.end();
    };
    write();
  });
  const answer = JSON.parse(body) as AppAnswer;
  expect(answer).toMatchObject({ site: 'east', hop: 'west', bodyBytes: TEN_MB });
  expect(answer.headers['transfer-encoding']).toBe('chunked');
});

test('a streamed download of 10 MB comes whole from the site that owns the session', async () => {
  const bytes = await new Promise<number>((resolve, reject) => {
    const call = request(`${lab.west.url}/download?bytes=${TEN_MB}`, { headers: { cookie } }, (response) => {
      let count = 0;
      response.on('data', (part: Buffer) => {
        count += part.length;
      });
      response.on('end', () => resolve(count));
    });
    call.on('error', reject);
    call.end();
  });
  expect(bytes).toBe(TEN_MB);
});

test('a WebSocket reaches the site that owns the session and carries messages both ways', async () => {
  const socket = await openWebSocket(lab.west.url, cookie);
  expect(socket.greeting).toMatch(/^east\/app-/);
  expect(await socket.say('ping')).toBe('ping');
  socket.close();
});
