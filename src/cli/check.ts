import { formatAddress } from '../config/address.ts';
import type { Config } from '../config/config.ts';
import { listenersOf } from '../config/listener-safety.ts';
import { loadConfig } from '../config/load.ts';
import { describeAdmin } from '../envoy-admin/admin-client.ts';
import { hasWallClockCookies } from '../envoy-config/versions.ts';
import { readCertificates } from '../listener/certificates.ts';
import { whyFileIsRefused } from '../listener/key-usage.ts';
import type { CliContext } from './context.ts';

/**
 * Checks a config file and the certificates of the sidecar's listeners, and says in a few lines what it means.
 * @throws ConfigError with all that is wrong in it
 * @throws CertificateError for a file with which the sidecar would not start
 */
export async function check(configFile: string, context: CliContext): Promise<void> {
  const config = await loadConfig(configFile);
  const { localPool } = config;
  const lines = [
    `${configFile} is fine.`,
    `site ${config.site}: pool ${localPool.cluster}, cookie ${localPool.cookie.name}, up with ${localPool.minUp} or more servers`,
    ...config.remotePools.map(
      (pool) =>
        `other site ${pool.site}: pool ${pool.cluster}, cookie ${pool.cookie.name}, up with ${pool.minUp} or more servers`,
    ),
    `ext_proc on ${formatAddress(config.listen)}, Envoy's admin interface at ${describeAdmin(config.envoy.admin)}`,
    `a session whose owner is down: ${config.onOwnerDown}; with both cookies: ${config.bothCookies}`,
    ...describeTtl(config),
    ...describeClosing(config),
    ...(await describeListenerTls(config)),
    ...describeEnvoyTls(config),
    ...(await describeKeyUsage(config)),
  ];
  context.stdout.write(`${lines.join('\n')}\n`);
}

/** A kernel accepts connections for a process that hangs. */
function describeClosing({ localPool }: Config): string[] {
  if (!localPool.closeWhenDown || localPool.healthCheck.path !== null) return [];
  return [
    'note: close_when_down without health_check.path: a server that hangs still accepts connections, and is not noticed',
  ];
}

/** A lifetime that surprises is worth a line where one looks before it is in force. */
function describeTtl({ localPool, envoy }: Config): string[] {
  const { name, ttlMs } = localPool.cookie;
  if (ttlMs === null) return [];
  const clock = hasWallClockCookies(envoy.version)
    ? ''
    : `; Envoy ${envoy.version} counts it by the machine's uptime, so that two Envoys of one site disagree`;
  return [
    `note: ${name} has a ttl: ${ttlMs / 1_000} s after it was set a session gets a new server, in use or not${clock}`,
  ];
}

async function describeListenerTls(config: Config): Promise<string[]> {
  const lines: string[] = [];
  for (const { key, tls } of listenersOf(config)) {
    if (tls === null) continue;
    const { validity } = await readCertificates(key, tls);
    const until = validity.cert_file.validTo.toISOString();
    lines.push(`${key}: TLS, a client needs a certificate of ${tls.clientCaFile}; its own counts until ${until}`);
  }
  return lines;
}

/** Of those that an Envoy is shown, here or at another site. What is only where Envoy runs is not looked at. */
async function describeKeyUsage({ listenTls, envoy }: Config): Promise<string[]> {
  const files = Object.entries({
    listen_tls: listenTls,
    'envoy.listen_tls': envoy.listenTls,
    'envoy.hop_listen_tls': envoy.hopListenTls,
  });
  const lines = files.map(async ([key, tls]) => {
    const why = tls === null ? null : await whyFileIsRefused(tls.certFile);
    return why === null ? [] : [`note: ${tls?.certFile} (${key}.cert_file): ${why}`];
  });
  return (await Promise.all(lines)).flat();
}

/** Its files are where Envoy runs, which may be elsewhere, so nothing is read of them. */
function describeEnvoyTls({ envoy, remotePools }: Config): string[] {
  const edge = envoy.listenTls === null ? [] : [`TLS for clients, with ${envoy.listenTls.certFile}`];
  const hop =
    envoy.hopListen === null ? [] : [`other sites, with their certificates, at ${formatAddress(envoy.hopListen)}`];
  const remote = remotePools.filter(({ tls }) => tls !== null).map(({ site }) => `TLS to ${site}`);
  const parts = [...edge, ...hop, ...remote];
  return parts.length === 0 ? [] : [`Envoy as printed: ${parts.join('; ')}`];
}
