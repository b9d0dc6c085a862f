import { createServer, type Server } from 'node:net';

/** Above 10080, which `fetch` refuses as browsers do (https://fetch.spec.whatwg.org/#port-blocking). */
const FIRST = 11_000;
/** Below the range from which the kernel takes the ports of outgoing connections. */
const LAST = 30_000;
/** What a process takes at once. */
const BLOCK = 50;

/** The ports of this process's block that it has not handed out. */
let left: number[] = [];

/**
 * Ports of 127.0.0.1 that nobody listens on, and none twice: not here, nor in another process that runs tests, even where
 * what got the port does not listen at the moment.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    if (left.length === 0) left = await claimBlock();
    const port = left.shift() ?? 0;
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

/** A block belongs to the process that listens on its first port, and to nobody any more when that has ended. */
async function claimBlock(): Promise<number[]> {
  for (;;) {
    const first = FIRST + BLOCK * Math.floor((Math.random() * (LAST - FIRST)) / BLOCK);
    const claim = await listenOn(first);
    if (claim === null) continue;
    claim.unref();
    return Array.from({ length: BLOCK - 1 }, (_, index) => first + 1 + index);
  }
}

async function isFree(port: number): Promise<boolean> {
  const probe = await listenOn(port);
  if (probe === null) return false;
  return await new Promise((resolve) => probe.close(() => resolve(true)));
}

async function listenOn(port: number): Promise<Server | null> {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}
