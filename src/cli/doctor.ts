import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { type EnvoySnapshot, readSnapshot } from '../doctor/envoy-snapshot.ts';
import { examine } from '../doctor/examine.ts';
import { examineOverlay, NOTHING_AROUND } from '../doctor/examine-overlay.ts';
import type { Finding } from '../doctor/finding.ts';
import { askCertificates } from '../doctor/peer-certificates.ts';
import { jsonReport, printReport } from '../doctor/report.ts';
import { askSpoken } from '../doctor/spoken-protocols.ts';
import { type AdminAnswers, askEnvoy } from '../envoy-admin/admin-answers.ts';
import { describeAdmin, type Host } from '../envoy-admin/admin-client.ts';
import { AdminError } from '../envoy-admin/connection.ts';
import { repeatCheck } from '../health/check-probe.ts';
import { describeResult, hostsToAsk, withReason } from '../health/failure-reasons.ts';
import { watchedPools } from '../health/pool.ts';
import { CommandFailed } from './command-failed.ts';
import { readDump } from './config-dump.ts';
import type { CliContext } from './context.ts';
import { readState } from './ops.ts';

export interface DoctorOptions {
  /** A file that is examined instead of the running Envoy. */
  readonly configDump: string | undefined;
  readonly asJson: boolean;
}

/**
 * Says what is right, missing or unsafe in Envoy's config.
 * @throws ConfigError where the config file is wrong, or its overlay does not fit
 * @throws CommandFailed when something is wrong
 */
export async function doctor(
  configFile: string,
  { configDump, asJson }: DoctorOptions,
  context: CliContext,
): Promise<void> {
  const config = await loadConfig(configFile);
  const nowMs = Date.now();
  const ofOverlay = examineOverlay(config, nowMs).filter(({ mark }) => mark === 'wrong');
  const { snapshot, around, source } =
    configDump === undefined
      ? await examineRunning(config, configFile, context)
      : { snapshot: await readDump(configDump), around: NOTHING_AROUND, source: { file: configDump } };
  const ofEnvoy = examine(config, snapshot, { nowMs, ...around });
  const isSaid = ({ text }: Finding) => ofEnvoy.some((finding) => finding.text === text);
  // These checks go by what is rendered with the overlay, so what it breaks may be right to them.
  const findings = [
    ...ofEnvoy,
    ...ofOverlay
      .filter((finding) => !isSaid(finding))
      .map((finding) => ({ ...finding, text: `by ${config.envoy.overlay?.file}: ${finding.text}` })),
  ];
  const report = { site: config.site, source, version: snapshot.version, findings };
  const colour = context.stdout.isTTY === true && (context.env.NO_COLOR ?? '') === '';
  context.stdout.write(asJson ? jsonReport(report) : printReport(report, { colour }));
  const wrong = findings.filter(({ mark }) => mark === 'wrong').length;
  if (wrong > 0) throw new CommandFailed(`${wrong} of ${findings.length} findings ${wrong === 1 ? 'is' : 'are'} wrong`);
}

async function examineRunning(config: Config, configFile: string, { signal }: CliContext) {
  const answers = readSnapshot(await ask(config, signal));
  const snapshot = { ...answers, hosts: await withReasons(config, answers.hosts, signal) };
  const sidecar = await readState({ configFile, opsListen: undefined }).catch(() => null);
  const around = {
    duplicateCookies:
      sidecar === null
        ? null
        : new Map(sidecar.applications.map(({ name, duplicate_cookies }) => [name, duplicate_cookies])),
    spoken: await askSpoken(config, snapshot, signal),
    peers: await askCertificates(config),
  };
  return { snapshot, around, source: { admin: describeAdmin(config.envoy.admin) } };
}

/** The hosts of the pools with why their health checks fail, which Envoy does not tell. */
async function withReasons(
  config: Config,
  hosts: EnvoySnapshot['hosts'],
  signal: AbortSignal,
): Promise<EnvoySnapshot['hosts']> {
  if (hosts === null) return null;
  const pools = watchedPools(config).map(({ cluster }) => [cluster, hosts.get(cluster) ?? []] as const);
  const explained = await Promise.all(
    hostsToAsk(pools).map(async ([cluster, host]) => [host, await explain(cluster, host)] as const),
  );
  const byHost = new Map(explained);
  return new Map([...hosts].map(([cluster, all]) => [cluster, all.map((host) => byHost.get(host) ?? host)] as const));

  async function explain(cluster: string, host: Host): Promise<Host> {
    const result = await repeatCheck(config, cluster, host.address, signal);
    return result === null ? host : withReason(host, describeResult(result));
  }
}

async function ask({ envoy }: Config, signal: AbortSignal): Promise<AdminAnswers> {
  try {
    return await askEnvoy(envoy.admin, signal);
  } catch (error) {
    if (!(error instanceof AdminError)) throw error;
    const who = `at ${describeAdmin(envoy.admin)} (envoy.admin): ${error.message}`;
    if (error.code === 'ADMIN_BAD_ANSWER') {
      throw new CommandFailed(`what answers is no Envoy's admin interface, ${who}`, { cause: error });
    }
    const fix = error.message.includes('EACCES')
      ? "run this as the socket's owner or in its group"
      : 'is Envoy running, and is this its admin address?';
    throw new CommandFailed(`no Envoy answers ${who}; ${fix}`, { cause: error });
  }
}
