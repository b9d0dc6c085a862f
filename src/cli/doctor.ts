import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { type EnvoySnapshot, readSnapshot } from '../doctor/envoy-snapshot.ts';
import { examine } from '../doctor/examine.ts';
import { askCertificates } from '../doctor/peer-certificates.ts';
import { jsonReport, printReport } from '../doctor/report.ts';
import { askSpoken } from '../doctor/spoken-protocols.ts';
import { type AdminAnswers, askEnvoy } from '../envoy-admin/admin-answers.ts';
import { describeAdmin, type Host } from '../envoy-admin/admin-client.ts';
import { AdminError } from '../envoy-admin/connection.ts';
import { repeatCheck } from '../health/check-probe.ts';
import { describeResult, hostsToAsk, withReason } from '../health/failure-reasons.ts';
import { CommandFailed } from './command-failed.ts';
import type { CliContext } from './context.ts';
import { readState } from './ops.ts';

/** Says what is right, missing or unsafe in the running Envoy's config. @throws CommandFailed when something is wrong */
export async function doctor(configFile: string, asJson: boolean, context: CliContext): Promise<void> {
  const config = await loadConfig(configFile);
  const admin = describeAdmin(config.envoy.admin);
  const answers = readSnapshot(await ask(config, context.signal));
  const snapshot = { ...answers, hosts: await withReasons(config, answers.hosts, context.signal) };
  const sidecar = await readState(configFile).catch(() => null);
  const findings = examine(config, snapshot, {
    nowMs: Date.now(),
    duplicateCookies: sidecar?.duplicate_cookies ?? null,
    spoken: await askSpoken(config, snapshot, context.signal),
    peers: await askCertificates(config),
  });
  const report = { site: config.site, admin, version: snapshot.version, findings };
  const colour = context.stdout.isTTY === true && (context.env.NO_COLOR ?? '') === '';
  context.stdout.write(asJson ? jsonReport(report) : printReport(report, { colour }));
  const wrong = findings.filter(({ mark }) => mark === 'wrong').length;
  if (wrong > 0) throw new CommandFailed(`${wrong} of ${findings.length} findings ${wrong === 1 ? 'is' : 'are'} wrong`);
}

/** The hosts of the pools with why their health checks fail, which Envoy does not tell. */
async function withReasons(
  config: Config,
  hosts: EnvoySnapshot['hosts'],
  signal: AbortSignal,
): Promise<EnvoySnapshot['hosts']> {
  if (hosts === null) return null;
  const explained = [...hosts].map(async ([cluster, all]) => {
    const asked = hostsToAsk(all);
    return [
      cluster,
      await Promise.all(all.map((host) => (asked.includes(host) ? explain(cluster, host) : host))),
    ] as const;
  });
  return new Map(await Promise.all(explained));

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
