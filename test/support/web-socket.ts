import { request } from 'node:http';
import type { Socket } from 'node:net';
import { waitUntil } from '../../lab/wait-until.ts';

/** A WebSocket to the application's echo, which greets with its server's name. */
export interface EchoSocket {
  readonly greeting: string;
  readonly isClosed: boolean;
  /** Sends a text of at most 125 bytes, and returns what comes back. */
  say(text: string): Promise<string>;
  close(): void;
}

/** @throws Error when there is no upgrade */
export async function openWebSocket(edge: string, cookie?: string): Promise<EchoSocket> {
  const socket = await upgrade(edge, cookie);
  const texts: string[] = [];
  let pending = Buffer.alloc(0);
  let isClosed = false;
  socket.on('error', () => {});
  socket.on('close', () => {
    isClosed = true;
  });
  socket.on('data', (data: Buffer) => {
    pending = Buffer.concat([pending, data]);
    while (pending.length >= 2 && pending.length >= 2 + (pending[1] ?? 0)) {
      const end = 2 + (pending[1] ?? 0);
      texts.push(pending.subarray(2, end).toString());
      pending = pending.subarray(end);
    }
  });
  await waitUntil(() => texts.length > 0 || isClosed, { what: 'the greeting of a WebSocket' });
  return {
    greeting: texts[0] ?? '',
    get isClosed() {
      return isClosed;
    },
    async say(text) {
      const before = texts.length;
      // A masked text frame, with a mask of zeros.
      socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]));
      await waitUntil(() => texts.length > before || isClosed, { what: `an echo of ${text}` });
      return texts[before] ?? '';
    },
    close() {
      socket.destroy();
    },
  };
}

async function upgrade(edge: string, cookie: string | undefined): Promise<Socket> {
  return await new Promise((resolve, reject) => {
    const call = request(`${edge}/ws`, {
      agent: false,
      headers: {
        ...(cookie === undefined ? {} : { cookie }),
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': Buffer.alloc(16).toString('base64'),
      },
    });
    call.on('response', (response) => reject(new Error(`no upgrade: ${response.statusCode}`)));
    call.on('error', reject);
    call.on('upgrade', (_response, socket, head) => {
      if (head.length > 0) socket.unshift(head);
      resolve(socket);
    });
    call.end();
  });
}
