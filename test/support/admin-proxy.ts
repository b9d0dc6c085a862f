import { createServer, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** How the admin interface behaves: as it is, late, as something else, cut short, or not at all. */
export type AdminMood = 'well' | 'slow' | 'html' | 'truncated' | 'silent';

const SLOW_MS = 2_000;

export interface AdminProxy {
  readonly url: string;
  mood: AdminMood;
  close(): Promise<void>;
}

/** Stands before a real Envoy's admin interface, and spoils its answers on demand. */
export async function startAdminProxy(adminUrl: string): Promise<AdminProxy> {
  const timers = new Set<NodeJS.Timeout>();
  const server = createServer((incoming, response) => {
    const call = request(`${adminUrl}${incoming.url}`, { method: incoming.method }, (answer) => {
      response.statusCode = answer.statusCode ?? 502;
      const parts: Buffer[] = [];
      answer.on('data', (part: Buffer) => parts.push(part));
      answer.on('end', () => spoil(response, Buffer.concat(parts)));
    });
    call.on('error', () => response.destroy());
    call.end();
  });

  function spoil(response: ServerResponse, body: Buffer): void {
    switch (proxy.mood) {
      case 'well':
        response.end(body);
        return;
      case 'slow':
        timers.add(setTimeout(() => response.end(body), SLOW_MS));
        return;
      case 'html':
        response.end('<!doctype html><title>Login</title>');
        return;
      case 'truncated':
        response.end(body.subarray(0, body.length / 2));
        return;
      case 'silent':
        return;
    }
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const proxy: AdminProxy = {
    url: `http://127.0.0.1:${port}`,
    mood: 'well',
    async close() {
      for (const timer of timers) clearTimeout(timer);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}
