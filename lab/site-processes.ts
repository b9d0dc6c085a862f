import { fileURLToPath } from 'node:url';
import { ManagedProcess, type ProcessOptions } from './managed-process.ts';
import { waitUntil } from './wait-until.ts';

type OnLine = Pick<ProcessOptions, 'onLine'>;

const ROOT = repositoryRoot();
const APP_SERVER = `${ROOT}/build/lab/app-server-main.js`;
export const CLI = `${ROOT}/dist/main.js`;

/** How the image and the command `site-persistence` start Node. */
export const NODE_ARGS = ['--max-semi-space-size=4', '--max-old-space-size=512'] as const;

export type AppProtocol = 'http1' | 'http2' | 'both';

/** Starts one server of the application and waits until it listens. */
export async function startAppServer(
  options: {
    readonly site: string;
    readonly server: string;
    readonly port: number;
    readonly speaks?: AppProtocol;
    readonly application?: string;
  } & OnLine,
): Promise<ManagedProcess> {
  const { site, server, port, speaks = 'http1', application = 'default', ...rest } = options;
  const child = new ManagedProcess({
    name: `${site} ${server}`,
    command: process.execPath,
    args: [APP_SERVER, site, server, String(port), '127.0.0.1', speaks, application],
    ...rest,
  });
  await child.waitForLine(/listening/);
  return child;
}

/** Starts a sidecar and waits until it takes calls. */
export async function startSidecarProcess(
  options: {
    readonly site: string;
    readonly configFile: string;
    readonly args?: readonly string[];
    readonly env?: Readonly<Record<string, string>>;
    /** The Node that runs it; by default the one that runs this. */
    readonly node?: string;
  } & OnLine,
): Promise<ManagedProcess> {
  const { site, configFile, args = [], node = process.execPath, ...rest } = options;
  const child = new ManagedProcess({
    name: `${site} sidecar`,
    command: node,
    args: [...NODE_ARGS, CLI, 'serve', '--config', configFile, ...args],
    ...rest,
  });
  await child.waitForLine(/deciding on/);
  return child;
}

/** Starts an Envoy and waits until its listener takes traffic. */
export async function startEnvoyProcess(
  options: {
    readonly site: string;
    readonly binary: string;
    readonly bootstrapFile: string;
    readonly adminUrl: string;
    readonly concurrency?: number;
    /** A command that runs it, such as one that counts what it does. */
    readonly under?: readonly string[];
    /** Envoys of one base id hand over to the next epoch; without it hot restart is off. */
    readonly hotRestart?: { readonly baseId: number; readonly epoch: number };
  } & OnLine,
): Promise<ManagedProcess> {
  const { site, binary, bootstrapFile, adminUrl, concurrency = 2, under = [], hotRestart, ...rest } = options;
  const [command = binary, ...before] = [...under, binary];
  const child = new ManagedProcess({
    name: `${site} envoy`,
    command,
    args: [
      ...before,
      ...['-c', bootstrapFile, '--concurrency', String(concurrency), '-l', 'warn'],
      // So that the access log can be watched.
      ...['--file-flush-interval-msec', '50'],
      // Two Envoys on one machine would fight for the shared memory of a hot restart.
      ...(hotRestart === undefined
        ? ['--disable-hot-restart']
        : ['--base-id', String(hotRestart.baseId), '--restart-epoch', String(hotRestart.epoch)]),
      ...(hotRestart === undefined ? [] : ['--drain-time-s', '1', '--parent-shutdown-time-s', '2']),
    ],
    ...rest,
  });
  await waitUntil(
    async () => {
      if (child.hasEnded) throw child.failure('ended at its start');
      const answer = await fetch(`${adminUrl}/ready`).catch(() => undefined);
      return answer?.status === 200;
    },
    { what: `${site}'s Envoy to be ready` },
  );
  return child;
}

/** This file runs as TypeScript in lab/ and compiled in build/lab/. */
function repositoryRoot(): string {
  const here = fileURLToPath(new URL('.', import.meta.url));
  return here.replace(/\/(build\/)?lab\/$/, '');
}
