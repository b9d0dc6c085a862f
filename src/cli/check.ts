import { stat } from 'node:fs/promises';
import { formatAddress, isIpAddress } from '../config/address.ts';
import {
  type Application,
  applicationsOf,
  type Config,
  type CookieConfig,
  cookieNamesOf,
  DEFAULT_APPLICATION,
  isAlone,
} from '../config/config.ts';
import { isWithinDomain } from '../config/cookie-domain.ts';
import { listenersOf } from '../config/listener-safety.ts';
import { type ConfigWithLines, loadWithLines } from '../config/load.ts';
import { examineOverlay } from '../doctor/examine-overlay.ts';
import type { Finding } from '../doctor/finding.ts';
import { printFindings } from '../doctor/report.ts';
import { describeAdmin } from '../envoy-admin/admin-client.ts';
import { hasWallClockCookies } from '../envoy-config/versions.ts';
import { readCertificates } from '../listener/certificates.ts';
import { whyFileIsRefused } from '../listener/key-usage.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';

/**
 * Checks a config file and the certificates of the sidecar's listeners, and says in a few lines what it means.
 * @throws ConfigError with all that is wrong in it
 * @throws CertificateError for a file with which the sidecar would not start
 * @throws CommandFailed where the overlay breaks what the decision needs
 */
export async function check(configFile: string, context: CliContext): Promise<void> {
  const { config, placeOf } = await loadWithLines(configFile);
  const applications = applicationsOf(config);
  const findings = examineOverlay(config, Date.now());
  const wrong = findings.filter(({ mark }) => mark === 'wrong').length;
  const lines = [
    ...(wrong === 0 ? [`${configFile} is fine.`] : []),
    ...(isAlone(config) ? applications.flatMap(describePools) : describeApplications(config)),
    `ext_proc on ${formatAddress(config.listen)}, Envoy's admin interface at ${describeAdmin(config.envoy.admin)}`,
    ...describeOwners(applications),
    ...applications.flatMap((application) => [
      ...describeTtl(application),
      ...describeClosing(application),
      ...describeDrains(application),
      ...describeMinUp(application),
    ]),
    ...describeSharedCookies(applications),
    ...applications.flatMap((application, index) => describeRedirects(application, (key) => placeOf(index, key))),
    ...(await describeOpaqueCookies(applications, placeOf)),
    ...(await describeListenerTls(config)),
    ...describeEnvoyTls(config),
    ...(await describeKeyUsage(config)),
    ...describeOverlay(config, findings),
  ];
  context.stdout.write(`${lines.join('\n')}\n`);
  if (findings.length > 0) context.stdout.write(printFindings(findings, { colour: false }));
  if (wrong > 0) {
    throw new CommandFailed(`${config.envoy.overlay?.file} (envoy.overlay) breaks what the decision needs`);
  }
}

function describeOverlay({ envoy: { overlay } }: Config, findings: readonly Finding[]): string[] {
  if (overlay === null) return [];
  if (findings.length === 0) return [`${overlay.file} (envoy.overlay) leaves alone what the decision needs`];
  return [`${overlay.file} (envoy.overlay) changes what the decision needs:`];
}

function describePools({ site, localPool, remotePools }: Application): string[] {
  return [
    `site ${site}: pool ${localPool.cluster}, cookie ${describeCookie(localPool.cookie)}, up with ${localPool.minUp} or more servers`,
    ...remotePools.map(
      (pool) =>
        `other site ${pool.site}: pool ${pool.cluster}, cookie ${describeCookie(pool.cookie)}, up with ${pool.minUp} or more servers`,
    ),
  ];
}

function describeCookie({ name, also }: CookieConfig): string {
  return also.length === 0 ? name : `${name} (also ${also.join(', ')})`;
}

/** A row for each pool, for what belongs together is to be compared. */
function describeApplications(config: Config): string[] {
  const rows = applicationsOf(config).flatMap(({ name, hosts, site, localPool, remotePools }) =>
    [{ ...localPool, site }, ...remotePools].map((pool, index) => [
      ...(index === 0 ? [name, hosts.join(' ')] : ['', '']),
      ...[pool.site, pool.cluster, describeCookie(pool.cookie), `${pool.minUp}`],
    ]),
  );
  const count = config.applications.length;
  return [
    `site ${config.site}: ${count} ${count === 1 ? 'application' : 'applications'}`,
    ...formatTable([['application', 'hosts', 'site', 'pool', 'cookie', 'up with'], ...rows]).map((line) => `  ${line}`),
    ...describeHostless(config),
  ];
}

/** Of monitors that speak HTTP/1.0 or 0.9. */
function describeHostless({ applications, envoy: { defaultHost } }: Config): string[] {
  if (defaultHost !== null) return [`a request without a Host is taken for ${defaultHost}`];
  if (applications.some(({ hosts }) => hosts.includes('*'))) return [];
  return [
    'note: a request without a Host, as many monitors send, is refused with 400: name the application in envoy.default_host',
  ];
}

/** Columns as wide as their widest cell. */
function formatTable(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

/** One line for all applications that have it the same way. */
function describeOwners(applications: readonly Application[]): string[] {
  const bySettings = new Map<string, string[]>();
  for (const { name, onOwnerDown, bothCookies } of applications) {
    const settings = `a session whose owner is down: ${onOwnerDown}; with both cookies: ${bothCookies}`;
    bySettings.set(settings, [...(bySettings.get(settings) ?? []), name]);
  }
  return [...bySettings].map(([settings, names]) =>
    bySettings.size === 1 ? settings : `${names.join(', ')}: ${settings}`,
  );
}

/** No browser sends one application's cookie to the other, or the file would have been refused. */
function describeSharedCookies(applications: readonly Application[]): string[] {
  const users = new Map<string, Set<string>>();
  for (const { name, localPool, remotePools } of applications) {
    for (const { cookie } of [localPool, ...remotePools]) {
      for (const each of cookieNamesOf(cookie)) users.set(each, (users.get(each) ?? new Set()).add(name));
    }
  }
  return [...users]
    .filter(([, names]) => names.size > 1)
    .map(
      ([cookie, names]) =>
        `warning: cookie ${cookie} is used by ${[...names].join(' and ')}: no browser sends it to both, but other clients may`,
    );
}

/** A browser takes a cookie to another host only where its Domain says so (RFC 6265). */
function describeRedirects(
  { hosts, remotePools }: Application,
  placeOf: (key: Parameters<ConfigWithLines['placeOf']>[1]) => string,
): string[] {
  return remotePools.flatMap(({ redirect, cookie: { name, domain } }, at) => {
    if (redirect === null) return [];
    const { hostname } = new URL(redirect);
    const isCovered = domain === null ? hosts.every((host) => host === hostname) : isWithinDomain(hostname, domain);
    if (isCovered) return [];
    const why = domain === null ? 'has no domain, so a browser sends it to no other host' : `is for ${domain} only`;
    return [
      `warning: ${placeOf(['remote_pools', at, 'redirect'])}: cookie ${name} ${why}: clients arrive at ${hostname} without their session. ` +
        "Give every site's cookie a domain that covers all of their names, or leave redirect out",
    ];
  });
}

/** A kernel accepts connections for a process that hangs. */
function describeClosing(application: Application): string[] {
  const { localPool } = application;
  if (!localPool.closeWhenDown || localPool.healthCheck.path !== null) return [];
  return [
    `note${of(application)}: close_when_down without health_check.path: a server that hangs still accepts connections, and is not noticed`,
  ];
}

/** It stands in the file until somebody takes it out. */
function describeDrains(application: Application): string[] {
  return application.localPool.servers
    .filter(({ drain }) => drain)
    .map((server) => `note${of(application)}: ${formatAddress(server)} drains: it gets no new sessions`);
}

/** Names have any number of addresses. */
function describeMinUp(application: Application): string[] {
  const { servers, minUp } = application.localPool;
  if (servers.length === 0 || servers.length >= minUp || !servers.every(({ host }) => isIpAddress(host))) return [];
  return [
    `note${of(application)}: local_pool.min_up is ${minUp}, and it has ${servers.length} servers: it is never up`,
  ];
}

function of({ name }: Application): string {
  return name === DEFAULT_APPLICATION ? '' : ` (${name})`;
}

/** A lifetime that surprises is worth a line where one looks before it is in force. */
function describeTtl(application: Application): string[] {
  const { localPool, envoy } = application;
  const { name, ttlMs } = localPool.cookie;
  if (ttlMs === null) return [];
  const clock = hasWallClockCookies(envoy.version)
    ? ''
    : `; Envoy ${envoy.version} counts it by the machine's uptime, so that two Envoys of one site disagree`;
  return [
    `note${of(application)}: ${name} has a ttl: ${ttlMs / 1_000} s after it was set a session gets a new server, in use or not${clock}`,
  ];
}

/** A user who can read the keys can tell which server a cookie names. */
async function describeOpaqueCookies(
  applications: readonly Application[],
  placeOf: ConfigWithLines['placeOf'],
): Promise<string[]> {
  const lines = applications.map(async (application, index) => {
    const { name, opaque } = application.localPool.cookie;
    if (opaque === null) return [];
    const { file, keys } = opaque.keyFile;
    const accepted = [...(keys.length > 1 ? ['the old key'] : []), ...(opaque.acceptPlain ? ['plain values'] : [])];
    const more = accepted.length === 0 ? '' : `; ${accepted.join(' and ')} still accepted`;
    // It was read a moment ago.
    const mode = (await stat(file).catch(() => null))?.mode ?? 0;
    const isOpen = (mode & READABLE_BY_OTHERS) !== 0;
    return [
      `note${of(application)}: ${name} is opaque, by the key in ${file}${more}`,
      ...(isOpen
        ? [
            `warning: ${placeOf(index, KEY_FILE)}: every user can read ${file}, and so tell servers by values: chmod o= ${file}`,
          ]
        : []),
    ];
  });
  return (await Promise.all(lines)).flat();
}

const READABLE_BY_OTHERS = 0o004;
const KEY_FILE = ['local_pool', 'cookie', 'opaque', 'key_file'];

async function describeListenerTls(config: Config): Promise<string[]> {
  const lines: string[] = [];
  for (const { key, tls } of listenersOf(config)) {
    if (tls === null) continue;
    const { validity } = await readCertificates(key, tls);
    const until = validity.cert_file.validTo.toISOString();
    lines.push(`${key}: TLS, clients need a certificate signed by ${tls.clientCaFile}; its own expires ${until}`);
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
function describeEnvoyTls({ envoy, applications }: Config): string[] {
  const edge = envoy.listenTls === null ? [] : [`TLS for clients, with ${envoy.listenTls.certFile}`];
  const hop =
    envoy.hopListen === null ? [] : [`other sites, with their certificates, at ${formatAddress(envoy.hopListen)}`];
  const withTls = applications.flatMap(({ remotePools }) => remotePools.filter(({ tls }) => tls !== null));
  const remote = [...new Set(withTls.map(({ site }) => `TLS to ${site}`))];
  const parts = [...edge, ...hop, ...remote];
  return parts.length === 0 ? [] : [`Envoy as printed: ${parts.join('; ')}`];
}
