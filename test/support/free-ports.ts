import { createServer } from 'node:net';

/** Below the range from which the kernel takes the ports of outgoing connections. */
const FIRST = 10_000;
const LAST = 30_000;

const taken = new Set<number>();

/** Ports of 127.0.0.1 that nobody listens on, and none twice. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if (!taken.has(port) && (await isFree(port))) {
      taken.add(port);
      ports.push(port);
    }
  }
  return ports;
}

async function isFree(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
