import { onTestFinished } from 'vitest';
import { waitUntil } from '../../lab/wait-until.ts';
import type { Config } from '../../src/config/config.ts';
import { httpRequest } from '../../src/envoy-admin/http-request.ts';
import { type SiteStateReport, siteStateSchema } from '../../src/ops/state.ts';
import { type Sidecar, startSidecar } from '../../src/runtime/sidecar.ts';
import { ExtProcClient } from '../integration/ext-proc-client.ts';
import { configOf, eastFile, type SiteFile, startAdmin, TestLog } from '../integration/site.ts';
import type { FakeAdmin } from './fake-admin.ts';

/** Site east with a sidecar in this process. */
export interface East {
  readonly admin: FakeAdmin;
  readonly config: Config;
  readonly log: TestLog;
  readonly sidecar: Sidecar;
  /** An Envoy that behaves, on a connection of its own, which its first call opens. */
  readonly client: ExtProcClient;
}

/**
 * Starts site east for the running test. Where its Envoy answers, and the ops listener takes clients without a
 * certificate, it knows how its pools are.
 * @param prepare what is done to the admin interface before the sidecar asks it
 */
export async function startEast(
  changes: SiteFile = {},
  { prepare, logLevel = 'debug' }: { prepare?: (admin: FakeAdmin) => void; logLevel?: 'info' | 'debug' } = {},
): Promise<East> {
  const admin = await startAdmin();
  prepare?.(admin);
  const config = configOf(await eastFile(admin, changes));
  const log = new TestLog();
  log.logger.level = logLevel;
  const sidecar = await startSidecar(config, log.logger, async () => config);
  onTestFinished(() => sidecar.close());
  if (admin.mood === 'well' && config.opsListenTls === null) {
    await waitUntil(async () => (await stateOf(config)).health_known, { what: 'health to be known', intervalMs: 5 });
  }
  return { admin, config, log, sidecar, client: clientOf(config) };
}

/** Another Envoy of the running test. */
export function clientOf(config: Config): ExtProcClient {
  const client = new ExtProcClient(config.listen);
  onTestFinished(() => client.close());
  return client;
}

/** What a sidecar says of itself. */
export async function stateOf(config: Config): Promise<SiteStateReport> {
  return siteStateSchema.parse(JSON.parse(await askOps(config, 'GET', '/api/state')));
}

export async function askOps(config: Config, method: 'GET' | 'POST', path: string): Promise<string> {
  return (await httpRequest(config.opsListen, { method, path, timeoutMs: 5_000 })).body;
}
