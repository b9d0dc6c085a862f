import { createServer } from 'node:net';

export const APPLICATIONS = ['default', 'shop', 'mail'] as const;
export type Application = (typeof APPLICATIONS)[number];

export interface DemoServer {
  readonly application: Application;
  readonly server: string;
  readonly port: number;
}

export interface DemoSite {
  readonly name: string;
  readonly edgePort: number;
  readonly adminPort: number;
  readonly sidecarPort: number;
  readonly opsPort: number;
  readonly servers: readonly DemoServer[];
}

/** The same ports as in envoy/demo/*.yaml, here so that one in use is said by name. */
export const SITES: readonly DemoSite[] = [
  { name: 'east', edgePort: 8081, adminPort: 9901, sidecarPort: 9002, opsPort: 9003, servers: serversFrom(3001) },
  { name: 'west', edgePort: 8082, adminPort: 9911, sidecarPort: 9012, opsPort: 9013, servers: serversFrom(3011) },
];

function serversFrom(port: number): DemoServer[] {
  return [
    { application: 'default', server: 'app-1', port },
    { application: 'default', server: 'app-2', port: port + 1 },
    { application: 'shop', server: 'shop-1', port: port + 2 },
    { application: 'mail', server: 'mail-1', port: port + 3 },
  ];
}

/** @throws Error that names the first port in use */
export async function refuseBusyPorts(): Promise<void> {
  for (const site of SITES) {
    const ports: readonly (readonly [number, string])[] = [
      [site.edgePort, 'Envoy'],
      [site.adminPort, "Envoy's admin interface"],
      [site.sidecarPort, 'the sidecar'],
      [site.opsPort, "the sidecar's ops listener"],
      ...site.servers.map(({ port, server }) => [port, server] as const),
    ];
    for (const [port, what] of ports) {
      if (await isBusy(port)) {
        throw new Error(
          `port ${port} is in use; the demo needs it for ${what} of ${site.name}: stop what listens there`,
        );
      }
    }
  }
}

async function isBusy(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(true));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(false)));
  });
}

/** One that the system chooses, and so none of the sites' own, which a server that was stopped needs again. */
export async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
